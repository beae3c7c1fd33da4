"""Results -> files that other tools read: JSON, CSV, TREC runs, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from tercet.core.files import slug, write_file, write_json
from tercet.core.schema import InputError, Qrels, Run
from tercet.evaluation.results import Cell, Results
from tercet.retrieval.latency import Timing
from tercet.retrieval.trec import write_qrels, write_run

#: System and index -> what belongs to them.
ByCell = Mapping[tuple[str, str], Any]


def write_results(
    folder: Path,
    results: Results,
    qrels: Qrels,
    runs: Mapping[tuple[str, str], Run],
    figures: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]],
) -> None:
    """`metrics.json`, `qrels.trec`, `runs/*.trec`, `rankings.parquet`, `per_query.parquet`."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    wanted = {run_file(*name) for name in runs}
    for old in (folder / "runs").glob("*.trec"):
        if old.name not in wanted:  # of systems or indexes that are not compared any more
            old.unlink()
    for name, run in runs.items():
        write_run(folder / "runs" / run_file(*name), run, tag=slug(name[0]))
    write_qrels(folder / "qrels.trec", qrels)
    _write_parquet(folder / "rankings.parquet", map(_ranking_rows, runs.items()))
    _write_parquet(folder / "per_query.parquet", map(_figure_rows, figures.items()))
    write_json(folder / "metrics.json", asdict(results))


def run_file(system: str, index: str) -> str:
    """The name of the TREC file of a system over an index."""
    return f"{slug(system)}@{slug(index)}.trec"


def _ranking_rows(item: tuple[tuple[str, str], Run]) -> pa.Table:
    (system, index), run = item
    rows = [
        (query, rank, passage, score)
        for query, ranking in run.items()
        for rank, (passage, score) in enumerate(ranking, 1)
    ]
    queries, ranks, passages, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "system": pa.array([system] * len(rows), pa.string()),
            "index": pa.array([index] * len(rows), pa.string()),
            "query_id": pa.array(queries, pa.string()),
            "rank": pa.array(ranks, pa.int32()),
            "passage_id": pa.array(passages, pa.string()),
            "score": pa.array(scores, pa.float32()),
        }
    )


def _figure_rows(item: tuple[tuple[str, str], Mapping[str, Mapping[str, float]]]) -> pa.Table:
    (system, index), measures = item
    queries = list(next(iter(measures.values())))
    columns = {
        "system": pa.array([system] * len(queries), pa.string()),
        "index": pa.array([index] * len(queries), pa.string()),
        "query_id": pa.array(queries, pa.string()),
    }
    return pa.table(
        columns
        | {
            measure: pa.array([values[query] for query in queries], pa.float64())
            for measure, values in measures.items()
        }
    )


def _write_parquet(path: Path, tables: Any) -> None:
    """Table after table into one file, which takes its name when it is whole."""
    temporary = path.with_name(path.name + ".tmp")
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables:
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
            writer.write_table(table)
        if writer:
            writer.close()
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def append_csv(path: Path, results: Results) -> None:
    """One row for each system and index: when, what, all figures and all settings.

    A file of fewer columns is written again with the new ones, empty in its old rows; several runs
    may append at once.
    """
    rows = [_csv_row(results, cell) for cell in results.cells]
    with FileLock(path.with_name(path.name + ".lock")):
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else ""
        except UnicodeDecodeError:
            raise InputError(f"{path} is not a CSV in UTF-8: move it away") from None
        old = list(csv.DictReader(io.StringIO(before, newline="")))
        names = dict.fromkeys([*(old[0] if old else ()), *(name for row in rows for name in row)])
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*old, *rows])
        write_file(path, text.getvalue().encode())


def _csv_row(results: Results, cell: Cell) -> dict[str, Any]:
    row: dict[str, Any] = {
        "finished": results.finished,
        "corpus": results.corpus,
        "passages": results.passages,
        "queries": results.queries,
        "system": cell.system,
        "index": cell.index,
        "refused": cell.refused,
        "overlap@10": cell.overlap,
    }
    for measure in results.measures:
        figure = cell.figures.get(measure)
        row[measure] = figure and figure.mean
        row[f"{measure} low"], row[f"{measure} high"] = (
            figure and figure.low,
            figure and figure.high,
        )
    row["build seconds"] = cell.build and cell.build.seconds
    row["memory bytes"] = cell.build and cell.build.memory
    row["disk bytes"] = cell.build and cell.build.disk
    row |= _clock_columns("single", cell.single) | _clock_columns("batched", cell.batched)
    return row | {name: value for name, value in results.settings.items()}


def _clock_columns(name: str, timing: Timing | None) -> dict[str, Any]:
    columns: dict[str, Any] = {f"{name} queries": timing and timing.queries}
    phases = {"total": timing.total, **timing.phases} if timing else {}
    for phase in ("encode", "search", "rerank", "total"):
        found = phases.get(phase)
        for figure in ("p50", "p95", "p99", "per_second"):
            unit = "queries/s" if figure == "per_second" else f"{figure} ms"
            columns[f"{name} {phase} {unit}"] = found and getattr(found, figure)
    return columns
