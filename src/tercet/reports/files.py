"""Results as files: JSON (which is read back), CSV, TREC runs, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from tercet.core.files import replacing, slug, write_file, write_json
from tercet.core.schema import InputError, Qrels, Run
from tercet.core.text import csv_text
from tercet.evaluation.results import Cell, Results
from tercet.retrieval.latency import Timing
from tercet.retrieval.trec import write_qrels, write_run


def write_results(
    folder: Path,
    results: Results,
    qrels: Qrels,
    runs: Mapping[tuple[str, str], Run],
    per_query: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]],
) -> None:
    """Write metrics.json, qrels.trec, runs/*.trec, rankings.parquet and per_query.parquet.

    Keys of `runs` and `per_query` are a system and an index; metric values are by metric and query.
    """
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    wanted = {run_file(*name) for name in runs}
    for old in (folder / "runs").glob("*.trec"):
        if old.name not in wanted:  # from systems or indexes that are no longer compared
            old.unlink()
    for name, run in runs.items():
        write_run(folder / "runs" / run_file(*name), run, tag=slug(name[0]))
    write_qrels(folder / "qrels.trec", qrels)
    _write_parquet(folder / "rankings.parquet", map(_ranking_rows, runs.items()))
    _write_parquet(folder / "per_query.parquet", map(_metric_rows, per_query.items()))
    write_json(folder / "metrics.json", asdict(results))


def results_from(metrics: Mapping[str, Any], place: str) -> Results:
    """The results in a metrics.json, which was read from `place`.

    Raises InputError if they are not those of eval.py.
    """
    known = metrics if isinstance(metrics, dict) else {}
    missing = [field.name for field in fields(Results) if field.name not in known]
    if missing:
        raise InputError(
            f"{place} has no results of eval.py ({', '.join(missing)} missing): use the "
            "metrics.json in the `results` folder of a run"
        )
    try:
        results: Results = _typed(Results, metrics)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise InputError(f"{place} is damaged, or of another version: run `tercet eval`") from None
    return results


def _typed(kind: Any, value: Any) -> Any:
    """A JSON value as an instance of the annotation `kind`, dataclasses within it included."""
    if value is None:
        return None
    arguments = get_args(kind)
    if isinstance(kind, UnionType):
        return _typed(arguments[0], value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        known = {name: inner for name, inner in value.items() if name in hints}
        return kind(**{name: _typed(hints[name], inner) for name, inner in known.items()})
    if get_origin(kind) is Mapping:
        return {name: _typed(arguments[1], inner) for name, inner in value.items()}
    if get_origin(kind) is Sequence:
        return [_typed(arguments[0], inner) for inner in value]
    return value


def run_file(system: str, index: str) -> str:
    """The file name of the TREC run of a system over an index."""
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


def _metric_rows(item: tuple[tuple[str, str], Mapping[str, Mapping[str, float]]]) -> pa.Table:
    (system, index), metrics = item
    queries = list(next(iter(metrics.values())))
    columns = {
        "system": pa.array([system] * len(queries), pa.string()),
        "index": pa.array([index] * len(queries), pa.string()),
        "query_id": pa.array(queries, pa.string()),
    }
    return pa.table(
        columns
        | {
            metric: pa.array([values[query] for query in queries], pa.float64())
            for metric, values in metrics.items()
        }
    )


def _write_parquet(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables to one file, which appears under its name when it is complete."""
    rest = iter(tables)
    if (first := next(rest, None)) is None:
        return
    with replacing(path) as file, pq.ParquetWriter(file, first.schema, compression="zstd") as into:
        for table in chain([first], rest):
            into.write_table(table)


def append_csv(path: Path, results: Results) -> None:
    """Append a row for each system and index: date, corpus, all metrics and all settings.

    New columns are added to the file, empty in its old rows. Concurrent runs may append.
    """
    rows = [_csv_row(results, cell) for cell in results.cells]
    with FileLock(path.with_name(path.name + ".lock")):
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else ""
        except UnicodeDecodeError:
            raise InputError(f"{path} is not UTF-8 text: move it to another place") from None
        old = list(csv.DictReader(io.StringIO(before, newline="")))
        if any(None in row or None in row.values() for row in old):
            raise InputError(f"{path} is damaged: its rows have other columns; move it away")
        write_file(path, csv_text([*old, *rows]).encode())


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
    for metric in results.measures:
        found = cell.figures.get(metric)
        row[metric] = found and found.mean
        row[f"{metric} low"], row[f"{metric} high"] = found and found.low, found and found.high
    row["build seconds"] = cell.build and cell.build.seconds
    row["memory bytes"] = cell.build and cell.build.memory
    row["disk bytes"] = cell.build and cell.build.disk
    row |= _latency_columns("single", cell.single) | _latency_columns("batched", cell.batched)
    return row | dict(results.settings)


def _latency_columns(name: str, timing: Timing | None) -> dict[str, Any]:
    columns: dict[str, Any] = {f"{name} queries": timing and timing.queries}
    phases = {"total": timing.total, **timing.phases} if timing else {}
    for phase in ("encode", "search", "rerank", "total"):
        found = phases.get(phase)
        for field in ("p50", "p95", "p99", "per_second"):
            unit = "queries/s" if field == "per_second" else f"{field} ms"
            columns[f"{name} {phase} {unit}"] = found and getattr(found, field)
    return columns
