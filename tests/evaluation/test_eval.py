"""eval.py with tiny models: every kind of system, told whole and in any order."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from programs import run_here, run_program
from recipes import changed, tiny_recipe

pytestmark = pytest.mark.slow


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def vectors(tmp_path: Path, tiny_beir_path: Path) -> Path:
    """Vectors that know the topics, of passages and of test queries, rows in no order."""
    folder = tmp_path / "vectors"
    folder.mkdir()
    generator = np.random.default_rng(5)
    topics = generator.standard_normal((20, 8))
    for name, file in (("passages", "corpus"), ("queries", "queries")):
        ids = [row["_id"] for row in records(tiny_beir_path / f"{file}.jsonl")]
        ids = [ids[i] for i in generator.permutation(len(ids))]
        topic = [int(id[1:]) // (3 if name == "passages" else 1) for id in ids]
        rows = [(3 * topics[t] + generator.standard_normal(8)).tolist() for t in topic]
        pq.write_table(pa.table({"id": ids, "vector": rows}), folder / f"{name}.parquet")
    return folder


@pytest.fixture
def recipe(
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    vectors: Path,
) -> Path:
    systems = [
        {"kind": "bm25"},
        {"kind": "base"},
        {"kind": "dense", "name": "other", "model": tiny_encoder_path, "top_k": 50},
        {
            "kind": "vectors",
            "name": "theirs",
            "passages": vectors / "passages.parquet",
            "queries": vectors / "queries.parquet",
            "similarity": "cosine",
            "dollars_per_1000_queries": 0.1,
        },
        {"kind": "hybrid", "of": ["bm25", "base"]},
        {"kind": "rerank", "name": "reranked", "of": ["bm25+base"], "depth": 8},
    ]
    return tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 1},
        evaluation={
            "resamples": 500,
            "latency_queries": 30,
            "latency_batch_size": 8,
            "systems": systems,
            "indexes": [
                {"backend": "faiss", "factory": "HNSW8", "name": "graph"},
                {"backend": "faiss", "factory": "IVF{lists},PQ4", "name": "too few"},
            ],
        },
    )


def evaluated(recipe: Path, *overrides: str, name: str = "tiny") -> dict[str, Any]:
    result = run_here("eval.py", recipe, *overrides)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads((recipe.parent / "runs" / name / "results" / "metrics.json").read_text())


def figures(metrics: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {
        (cell["system"], cell["index"]): (cell["figures"], cell["overlap"], bool(cell["refused"]))
        for cell in metrics["cells"]
    }


def pairs(metrics: dict[str, Any]) -> list[Any]:
    return sorted((p["first"], p["second"], p) for p in metrics["pairs"])


def test_the_whole_experiment_and_again_in_another_order(
    recipe: Path, tiny_beir_path: Path, tmp_path: Path
) -> None:
    # A process of its own here; elsewhere this one, which has the libraries loaded.
    first = run_program("eval.py", recipe)
    assert first.returncode == 0, first.stdout + first.stderr
    results = tmp_path / "runs" / "tiny" / "results"
    metrics = json.loads((results / "metrics.json").read_text())
    names = {"bm25", "base", "other", "theirs", "bm25+base", "reranked"}
    cells = {(c["system"], c["index"]): c for c in metrics["cells"]}
    assert {s for s, index in cells if index == "exact"} == names
    assert {s for s, index in cells if index == "graph"} == names - {"bm25", "reranked"}
    assert all(c["refused"] for (_, index), c in cells.items() if index == "too few")
    assert metrics["baseline"] == "base"
    assert len(metrics["pairs"]) == 15

    exact = cells["base", "exact"]
    assert exact["overlap"] == 1
    same = (c["figures"]["ndcg@10"] for c in (cells["other", "exact"], exact))
    assert next(same) == next(same), "the same model, read again"
    assert exact["build"]["memory"] == 60 * 32 * 4
    timing = exact["single"]
    assert timing["queries"] == 30
    assert set(timing["phases"]) == {"encode", "search"}
    assert set(cells["reranked", "exact"]["single"]["phases"]) == {"encode", "search", "rerank"}
    assert cells["bm25+base", "graph"]["single"] is None, "timed over the exact index alone"

    for system, index in cells:
        name = f"{system}@{index.replace(' ', '_')}.trec"
        assert (results / "runs" / name).exists() != (index == "too few")
    rows = (tmp_path / "runs" / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + len(cells)
    assert "<title>" in (results / "report.html").read_text()

    other = tmp_path / "shuffled"
    shutil.copytree(tiny_beir_path, other)
    shuffle = random.Random(7)
    for file in other.rglob("*.*"):
        head, *rest = file.read_text().splitlines(keepends=True)
        lines = [head, *rest] if file.suffix == ".jsonl" else rest
        shuffle.shuffle(lines)
        file.write_text("".join(lines if file.suffix == ".jsonl" else [head, *lines]))
    swapped = shutil.copyfile(recipe, tmp_path / "again.yaml")
    sections = yaml.safe_load(recipe.read_text())
    bm25, base, *rest = sections["evaluation"]["systems"]
    sections["evaluation"]["systems"] = [base, bm25, *rest]
    corpus = sections["corpus"] | {"path": other}
    changed(swapped, name="again", corpus=corpus, evaluation=sections["evaluation"])
    again = evaluated(swapped, name="again")
    assert figures(again) == figures(metrics)
    assert pairs(again) == pairs(metrics)
    for part in ("slices", "changes"):
        assert sorted(again[part], key=str) == sorted(metrics[part], key=str)


def test_the_adapted_model_beside_its_base_and_what_it_forgets(
    recipe: Path, tiny_beir_path: Path
) -> None:
    # It gains by far, so that what is trained ships.
    gaining = ["--queries.count=240", "--queries.per_passage=4", "--triplets.held_out=0.5"]
    gaining += ["--teacher.student_weight=1", "--loss.info_nce=1"]
    gaining += ["--training.num_train_epochs=3", "--training.learning_rate=1e-3"]
    gaining += ["--evaluation.interpolation_steps=1"]
    run = recipe.parent / "runs" / "tiny"
    for number in range(13, 21):  # the weights are random: another draw gains where one does not
        seed = f"--seed={number}"
        assert run_here("train.py", recipe, *gaining, seed, "--restart").returncode == 0
        if json.loads((run / "metrics.json").read_text())["shipped"] == "trained":
            break
    systems = "[{kind: bm25}, {kind: base}, {kind: adapted}]"
    metrics = evaluated(
        recipe,
        seed,
        *("--evaluation.systems", systems, "--evaluation.indexes", "[]"),
        *(
            "--evaluation.out_of_domain_path",
            str(tiny_beir_path),
            "--evaluation.out_of_domain_split",
            "dev",
        ),
    )
    assert [s["name"] for s in metrics["systems"]] == ["bm25", "base", "adapted"]
    assert metrics["forgetting"]["queries"] == 8
    assert [row["epoch"] for row in metrics["curve"]] == [0, 1, 2, 3]
    assert sum(metrics["margins"]["teacher"]) == sum(metrics["margins"]["student"]) > 0
    trained = json.loads((run / "metrics.json").read_text())
    measured = {
        c["system"]: c["figures"]["ndcg@10"]["mean"]
        for c in metrics["cells"]
        if c["index"] == "exact"
    }
    assert metrics["verdict"] == trained["verdict"] and metrics["shipped"] == "trained"
    after = next(c for c in trained["comparisons"] if c["measure"] == "ndcg@10")
    assert measured["base"] == pytest.approx(after["before"], abs=1e-9)
    assert measured["adapted"] == pytest.approx(after["after"], abs=1e-9)


def test_searching_is_not_done_again_and_the_clock_is(recipe: Path) -> None:
    first = run_here("eval.py", recipe)
    second = run_here("eval.py", recipe)
    assert second.returncode == 0, second.stderr
    assert "make" in first.stdout
    assert "make " not in second.stdout
    assert "timing" in second.stdout


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("[{kind: hybrid, of: [bm25]}]", "`of` names two other"),
        ("[{kind: bm25, weight: 0.5}]", "`weight` is for hybrid"),
        ("[{kind: bm25}, {kind: rerank, of: [bn25]}]", "did you mean 'bm25'"),
        ("[{kind: bm25}, {kind: bm25}]", "two are called 'bm25'"),
        ("[{kind: rerank, name: a, of: [b]}, {kind: rerank, name: b, of: [a]}]", "part of itself"),
        ("[{kind: dense}]", "give its `model`"),
        ("[{kind: vectors, passages: x}]", "give `passages` and `queries`, or neither"),
        ("[{kind: vectors, passages: x, queries: y}]", "x: no such file"),
        ("[{kind: adapted}]", "run `tercet adapt` first"),
        ("[{kind: base, truncate_dim: 999}]", "truncate_dim 999"),
        ("[{kind: bm26}]", "did you mean 'bm25'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    recipe: Path, override: str, message: str
) -> None:
    result = run_here("eval.py", recipe, "--evaluation.systems", override)
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_audit_says_what_it_saw_and_trains_nothing(recipe: Path) -> None:
    result = run_here("train.py", recipe, "--audit")
    assert result.returncode == 0, result.stderr
    audit = json.loads((recipe.parent / "runs" / "tiny" / "audit.json").read_text())
    assert audit["head_room"]["judgements"] == "split 'dev'"
    assert audit["lists"]["queries"] > 0
    assert audit["outlook"] in ("good", "unknown", "bad")
    assert not (recipe.parent / "runs" / "tiny" / "model").exists()
