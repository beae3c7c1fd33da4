"""What is given in memory is the same corpus in every form, and a run of it answers for itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

import tercet
from tercet.config.loading import load_recipe, recipe_of
from tercet.core.schema import InputError, Passage
from tercet.data.sources import open_source
from tercet.evaluation.results import Results
from tercet.in_memory import corpus_section
from tercet.modeling import BiEncoder
from tercet.retrieval import BM25Retriever

ROWS = [
    {"id": "a", "title": "", "text": "A cat sleeps"},
    {"id": "b", "title": "Dogs", "text": "A dog barks"},
]
FORMS: dict[str, Any] = {
    "rows": ROWS,
    "generator": (row for row in ROWS),
    "mapping of rows": {row["id"]: {"title": row["title"], "text": row["text"]} for row in ROWS},
    "frame": pd.DataFrame(ROWS),
    "dataset": datasets.Dataset.from_list(ROWS),
    "other names": [{"_id": r["id"], "title": r["title"], "contents": r["text"]} for r in ROWS],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_passages_is_the_same_corpus(form: str, tmp_path: Path) -> None:
    path = Path(corpus_section(FORMS[form], None, tmp_path)["passages"]["path"])
    assert [json.loads(line) for line in path.open()] == ROWS


def test_texts_have_their_places_as_ids_and_a_mapping_its_keys(tmp_path: Path) -> None:
    for passages, ids in ((["x", "y"], ["0", "1"]), ({7: "x", "k": "y"}, ["7", "k"])):
        path = Path(corpus_section(passages, None, tmp_path)["passages"]["path"])
        rows = [json.loads(line) for line in path.open()]
        assert [(row["id"], row["text"]) for row in rows] == list(zip(ids, "xy", strict=True))


def test_a_missing_title_of_a_frame_is_none(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2], "title": ["T", None], "text": ["x", "y"]})
    path = Path(corpus_section(frame, None, tmp_path)["passages"]["path"])
    assert [json.loads(line)["title"] for line in path.open()] == ["T", ""]


@pytest.mark.parametrize(
    ("passages", "judged", "told"),
    [
        (["x", None], None, "passages[1] has no text"),
        ([{"id": "a", "words": "x"}], None, "its fields: 'id', 'words'"),
        (12, None, "passages are a int"),
        (["x"], {"": ["0"]}, "a query is a text"),
        (["x"], {"why": {"0": 0.5}}, "grade 0.5 is no integer"),
        (["x"], 3, "judged queries are a int"),
    ],
)
def test_what_cannot_be_used_is_named(
    passages: Any, judged: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        corpus_section(passages, judged, tmp_path)


CLICKS = [
    {"query": "pets that bark", "clicked": "b", "time": pd.Timestamp("2026-01-02"), "user": 1.0},
    {"query": "pets that bark", "clicked": "b", "time": pd.NaT, "user": float("nan")},
    {"query": "who sleeps", "clicked": "a", "time": pd.Timestamp("2026-01-03"), "user": 2.0},
]


@pytest.mark.parametrize("form", [list, pd.DataFrame], ids=["rows", "frame"])
@pytest.mark.parametrize("in_files", [False, True])
def test_clicks_are_grouped_by_query(form: Any, in_files: bool, tmp_path: Path) -> None:
    passages: Any = ROWS
    if in_files:
        passages = tmp_path / "articles.csv"
        pd.DataFrame(ROWS).to_csv(passages, index=False)
    section = corpus_section(passages, form(CLICKS), tmp_path)
    source = open_source(recipe_of({"corpus": section}, cross_check=False).corpus)
    assert [p.id for _, p in source.passages()] == ["a", "b"]
    texts = {q.id: q.text for _, q in source.queries()}
    found = {(texts[query], passage) for _, _, query, passage, _ in source.judgements()}
    assert found == {("pets that bark", "b"), ("who sleeps", "a")}


def test_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        tercet.adapt(["x"], runs_dir=tmp_path / "runs", training={"learning_rat": 1})
    assert not (tmp_path / "runs").exists()


def test_one_string_is_one_text(tiny_encoder_path: Path) -> None:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
    one = encoder.encode("graph db")
    assert one.shape == (encoder.dimension,)
    assert (one == encoder.encode_queries(["graph db"])[0]).all()
    assert (encoder.encode_passages("graph db") == encoder.encode(["graph db"], "passage")[0]).all()
    assert len(encoder.tokenize("graph db", "query")) == 1
    lexical = BM25Retriever([Passage("a", "", "a graph db"), Passage("b", "", "graph")])
    assert lexical.search("graph db", 2) == lexical.search(["graph db"], 2)


@pytest.fixture(scope="module")
def texts(tiny_beir_path: Path) -> dict[str, str]:
    rows = map(json.loads, (tiny_beir_path / "corpus.jsonl").open())
    return {row["_id"]: row["text"] for row in rows}


@pytest.fixture(scope="module")
def judged(tiny_beir_path: Path) -> dict[str, dict[str, int]]:
    queries = {
        row["_id"]: row["text"]
        for row in map(json.loads, (tiny_beir_path / "queries.jsonl").open())
    }
    found: dict[str, dict[str, int]] = {}
    for line in (tiny_beir_path / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, passage, grade = line.split("\t")
        found.setdefault(queries[query], {})[passage] = int(grade)
    return found


def test_systems_of_every_form_are_compared(
    texts: dict[str, str],
    judged: dict[str, dict[str, int]],
    tiny_encoder_path: Path,
    tmp_path: Path,
) -> None:
    """The same model by its name, as an object and as vectors has the same figures."""
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32", max_length=48)
    vectors = encoder.encode_passages(list(texts.values())), encoder.encode_queries(list(judged))
    by_id = dict(zip(texts, vectors[0], strict=True)), vectors[1]
    systems = {
        "lexical": "bm25",
        "name": {"kind": "dense", "model": str(tiny_encoder_path)},
        "object": encoder,
        "vectors": vectors,
        "by id": by_id,
    }
    results = tercet.evaluate(
        systems, texts, judged, runs_dir=tmp_path, model={"precision": "fp32", "max_length": 48}
    )
    assert isinstance(results, Results) and results.baseline == "lexical"
    frame = results.to_frame().set_index("system")
    assert list(frame.index) == list(systems)
    same = frame.loc[["name", "object", "vectors", "by id"]]
    assert np.ptp(same["ndcg@10"]) < 1e-6
    assert (frame["ndcg@10 low"] <= frame["ndcg@10"]).all()
    assert frame.loc["lexical", "ndcg@10"] > 0.5
    with pytest.raises(InputError, match=r"shape \[3, 32\] are given for 60 texts"):
        tercet.evaluate([(vectors[0][:3], vectors[1])], texts, judged, runs_dir=tmp_path)


@pytest.mark.slow
def test_a_run_in_three_lines(
    texts: dict[str, str],
    judged: dict[str, dict[str, int]],
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tmp_path: Path,
) -> None:
    """It adapts, reports, searches, compares, is reused, and is loaded again."""
    settings: dict[str, Any] = {
        "runs_dir": tmp_path / "runs",
        "model": {"precision": "fp32", "max_length": 48, "name": tiny_encoder_path},
        "teacher": {"name": tiny_cross_encoder_path, "precision": "fp32", "max_length": 48},
        "queries": {"count": 60, "per_passage": 1},
        "negatives": {"candidates": 8},
        "training": {"per_device_train_batch_size": 8, "bf16": False, "num_train_epochs": 1},
    }
    run = tercet.adapt(texts, judged=judged, **settings)
    assert run.verdict.text and run.verdict.text in run.report
    assert run.model.encode("reset my password").shape == (32,)
    hits = run.search(next(iter(judged)), top_k=3)
    assert len(hits) == 3 and hits[0][1] >= hits[2][1] and hits[0][0].id in texts
    run.close()
    frame = run.compare("bm25", str(tiny_encoder_path)).to_frame()
    assert "bm25" in set(frame["system"]) and frame["ndcg@10"].between(0, 1).all()
    assert len(frame) == (3 if run.verdict.shipped == "base" else 4)

    made = {p: p.stat().st_mtime_ns for p in run.folder.glob("*/manifest.json")}
    again = tercet.adapt(dict(texts), judged=dict(judged), **settings)
    assert {p: p.stat().st_mtime_ns for p in again.folder.glob("*/manifest.json")} == made

    load_recipe(run.folder / "recipe.yaml")
    assert tercet.load(run.folder).verdict == run.verdict
    with pytest.raises(InputError, match="is no run"):
        tercet.load(tmp_path)
