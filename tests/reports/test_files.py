"""Files for other tools: TREC runs read by the ir-measures command, CSV, Parquet, JSON."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sample_results import sample

from tercet.evaluation.results import Cell, Figure, Results
from tercet.reports.files import append_csv, results_from, run_file, write_results
from tercet.retrieval import evaluate
from tercet.retrieval.trec import write_qrels, write_run

MEASURES = {
    "map@10": "AP@10",
    "ndcg@10": "nDCG@10",
    "recall@5": "R@5",
    "precision@5": "P@5",
    "hit@1": "Success@1",
}


@pytest.fixture
def collection() -> tuple[dict[str, dict[str, int]], dict[str, list[tuple[str, float]]]]:
    """Ids with spaces and signs, ties, a query that the run misses, one without relevant ones."""
    random = np.random.default_rng(3)
    ids = ["a b", "ä", "p%1", "tab\there", *(f"d{i}" for i in range(30))]
    qrels = {
        f"q {q}": {
            ids[int(i)]: int(g)
            for i, g in zip(random.permutation(34)[:6], [0, 1, 2, 1, 0, 3], strict=True)
        }
        for q in range(20)
    }
    qrels["none"] = {"d1": 0}
    run = {
        query: sorted(
            (
                (ids[int(i)], float(np.float32(random.integers(0, 8) / 7)))
                for i in random.permutation(34)[:20]
            ),
            key=lambda pair: (pair[1], pair[0]),
            reverse=True,
        )
        for query in list(qrels)[:-2]
    }
    return qrels, run


def test_ir_measures_own_command_finds_the_same_figures(tmp_path: Path, collection) -> None:
    qrels, run = collection
    write_qrels(tmp_path / "qrels.trec", qrels)
    write_run(tmp_path / "run.trec", run, "a system")
    command = [sys.executable, "-m", "ir_measures", "-p", "9"]
    command += [str(tmp_path / "qrels.trec"), str(tmp_path / "run.trec"), *MEASURES.values()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    theirs = dict(line.split("\t") for line in shown.splitlines())
    for ours, name in MEASURES.items():
        values = evaluate(qrels, run, [ours])[ours].values()
        assert float(theirs[name]) == pytest.approx(sum(values) / len(values), abs=1e-8), ours


def results(cells: list[Cell], **changes: object) -> Results:
    plain = Results(
        title="t", command="c", finished="now", corpus="corpus", passages=34, queries=21,
        queries_are="", primary="ndcg@10", measures=["ndcg@10", "map@10"], baseline="b",
        systems=[], indexes=[], cells=cells, pairs=[], slices=[], changes=[], notes=[],
        settings={"seed": 13, "model.name": "m, \"x\""},
    )  # fmt: skip
    return replace(plain, **changes)


def cell(system: str, value: float, **more: object) -> Cell:
    return Cell(system, "exact", {"ndcg@10": Figure(value, value - 0.1, value + 0.1)}, 1.0, **more)


def test_everything_is_written_and_what_is_gone_is_removed(tmp_path: Path, collection) -> None:
    qrels, run = collection
    figures = evaluate(qrels, run, ["ndcg@10", "map@10"])
    runs = {("a", "exact"): run, ("b c", "faiss x"): run}
    for name in ("a", "b c"), ("a",):
        kept = {key: value for key, value in runs.items() if key[0] in name}
        write_results(
            tmp_path, results([cell("a", 0.5)]), qrels, kept, {key: figures for key in kept}
        )
        files = sorted(path.name for path in (tmp_path / "runs").iterdir())
        assert files == sorted(run_file(*key) for key in kept)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["cells"][0]["figures"]["ndcg@10"]["mean"] == 0.5
    rankings = pq.read_table(tmp_path / "rankings.parquet").to_pylist()
    first = [row for row in rankings if row["query_id"] == "q 0"]
    assert [(row["passage_id"], row["score"]) for row in first] == [
        (p, pytest.approx(s)) for p, s in run["q 0"]
    ]
    assert [row["rank"] for row in first] == list(range(1, 21))
    table = pq.read_table(tmp_path / "per_query.parquet").to_pylist()
    assert {row["query_id"]: row["map@10"] for row in table} == figures["map@10"]


def test_a_csv_grows_and_learns_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_csv(path, results([cell("a", 0.5), Cell("b", "hfresh", refused="too long,\nreally")]))
    append_csv(path, results([cell("c", 0.75)], settings={"seed": 14, "new.key": None}))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == ["a", "b", "c"]
    assert [row["seed"] for row in rows] == ["13", "13", "14"]
    assert [row["model.name"] for row in rows] == ['m, "x"', 'm, "x"', ""]
    assert [row["ndcg@10"] for row in rows] == ["0.5", "", "0.75"]
    assert rows[1]["refused"] == "too long,\nreally"
    assert "new.key" in rows[0]


def test_results_are_read_back_as_they_were_written() -> None:
    written = json.loads(json.dumps(asdict(sample())))
    read = results_from(written, "metrics.json")
    assert json.loads(json.dumps(asdict(read))) == written
    assert read.cells[0].figures == sample().cells[0].figures
    timed = next(cell for cell in sample().cells if cell.single)
    found = read.cell(timed.system, timed.index)
    assert found and found.single == timed.single and found.build == timed.build
