"""eval.py and train.py on judgements as they are found: what is left out, counted and refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import run_here
from recipes import tiny_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Path:
    corpus = Path(shutil.copytree(tiny_beir_path, tmp_path / "corpus"))
    (corpus / "qrels" / "dev.tsv").unlink()
    systems = [
        *({"kind": "bm25"}, {"kind": "base"}, {"kind": "hybrid", "of": ["bm25", "base"]}),
        {"kind": "rerank", "name": "reranked", "of": ["base"], "depth": 8},
    ]
    return tiny_recipe(
        tmp_path,
        corpus=corpus,
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        training={"num_train_epochs": 1},
        evaluation={"resamples": 100, "latency_queries": 0, "systems": systems},
    )


def judge(recipe: Path, change: Callable[[str], str]) -> None:
    file = recipe.parent / "corpus" / "qrels" / "test.tsv"
    file.write_text(change(file.read_text()))


def ask_passages(recipe: Path) -> None:
    """Queries that are passages, each of which has the next one as its answer."""
    corpus = recipe.parent / "corpus"
    rows = [json.loads(line) for line in (corpus / "corpus.jsonl").read_text().splitlines()]
    asked = [{"_id": row["_id"], "text": row["text"]} for row in rows[:8]]
    (corpus / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    judge(recipe, lambda _: "".join(f"p{i:02} 0 p{i + 1:02} 1\n" for i in range(8)))


def evaluated(recipe: Path, *overrides: str) -> tuple[dict[str, Any], str, dict[str, str]]:
    """The results, what was printed, and the exported rankings."""
    done = run_here("eval.py", recipe, *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    results = recipe.parent / "runs" / "tiny" / "results"
    runs = {file.stem: file.read_text() for file in (results / "runs").glob("*.trec")}
    return json.loads((results / "metrics.json").read_text()), done.stdout, runs


def own(run: str) -> int:
    """How many rankings hold their query."""
    return sum(line.split()[0] == line.split()[2] for line in run.splitlines())


def test_no_system_finds_the_query_itself(recipe: Path) -> None:
    ask_passages(recipe)
    metrics, _, runs = evaluated(recipe)
    assert len(runs) == 4 and not any(map(own, runs.values()))
    said = "8 of 8 judged queries are passages of the corpus themselves"
    assert any(note.startswith(said) for note in metrics["notes"])
    kept, _, with_own = evaluated(recipe, "--evaluation.leave_out=none")
    assert own(with_own["bm25@exact"]) == 8
    means = [
        {cell["system"]: cell["figures"]["mrr@100"]["mean"] for cell in each["cells"]}
        for each in (metrics, kept)
    ]
    assert means[0]["bm25"] > means[1]["bm25"]


def test_training_measures_the_same(recipe: Path) -> None:
    ask_passages(recipe)
    done = run_here("train.py", recipe, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    run = recipe.parent / "runs" / "tiny"
    assert "8 of 8 judged queries are passages" in (run / "report.md").read_text()
    trained = json.loads((run / "metrics.json").read_text())
    metrics, _, _ = evaluated(recipe)
    (base,) = (cell for cell in metrics["cells"] if cell["system"].startswith("base"))
    found = [c for c in trained["comparisons"] if c["measure"] == "ndcg@10"]
    assert base["figures"]["ndcg@10"]["mean"] == pytest.approx(found[0]["before"], abs=1e-6)


def test_documents_are_measured_by_their_best_passage(recipe: Path) -> None:
    pytest.importorskip("semantic_text_splitter", reason="pip install 'tercet[documents]'")
    corpus = recipe.parent / "corpus" / "corpus.jsonl"
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    rows = [row | {"text": f"{row['text']} {rows[-1 - i]['text']}"} for i, row in enumerate(rows)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--corpus.passages.chunk=100", "--corpus.aggregate=max", "--evaluation.passages=10"]
    done = run_here("train.py", recipe, "--yes", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    trained = json.loads((recipe.parent / "runs" / "tiny" / "metrics.json").read_text())
    metrics, _, runs = evaluated(recipe, *options)
    assert metrics["passages"] > len(rows)
    for run in runs.values():
        found = [tuple(line.split()[:3:2]) for line in run.splitlines()]
        assert len(set(found)) == len(found) and not any("#" in passage for _, passage in found)
    (base,) = (cell for cell in metrics["cells"] if cell["system"].startswith("base"))
    before = {each["measure"]: each["before"] for each in trained["comparisons"]}
    for metric in ("ndcg@10", "recall@100"):
        assert base["figures"][metric]["mean"] == pytest.approx(before[metric], abs=1e-6)
    assert before["recall@100"] == 1.0


def test_queries_that_nothing_can_answer_are_said_and_left_out(recipe: Path) -> None:
    judge(recipe, lambda text: re.sub(r"(q0[01]\tp\d+)\t[12]", r"\1\t0", text))
    metrics, told, _ = evaluated(recipe)
    said = "2 of 12 judged queries have no relevant passage in the corpus: left out"
    assert f"warning: {said}" in told and metrics["queries"] == 10
    assert any(note.startswith(said) for note in metrics["notes"])
    counted, told, _ = evaluated(recipe, "--evaluation.unanswerable=zero")
    assert "every system has zero there" in told and counted["queries"] == 12


@pytest.mark.parametrize("program", ["eval.py", "train.py"])
def test_judgements_that_match_nothing_are_refused_before_any_work(
    recipe: Path, program: str
) -> None:
    judge(recipe, lambda text: text.replace("\tp", "\tP"))
    options = ["--yes"] if program == "train.py" else []
    done = run_here(program, recipe, *options)
    assert done.returncode == 2
    assert "none of the 12 judged queries of split 'test' can be answered" in done.stderr
    assert not (recipe.parent / "runs" / "tiny" / "embeddings").exists()


def test_judgements_of_another_split_are_said(recipe: Path) -> None:
    qrels = recipe.parent / "corpus" / "qrels"
    (qrels / "test.tsv").rename(qrels / "train.tsv")
    done = run_here("train.py", recipe, "--yes", "--until=corpus")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_here("train.py", recipe, "--yes", "--until=embeddings")
    assert "no judgements are of corpus.test_split 'test': there are 'train'" in done.stdout
