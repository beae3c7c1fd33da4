"""Queries adapted to vectors that stay as they are: a model's own, a retired one's, an API's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cohere_server import Api, serve
from programs import hashes, killed_at, last_checkpoint, made, run_here
from recipes import changed, tiny_recipe
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError, Passage
from tercet.modeling import AdaptedEncoder, BiEncoder, VectorSpace, load_query_encoder
from tercet.modeling.encoders.cohere import CohereEncoder
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.run_report import run_report
from tercet.retrieval import ExactIndex

pytestmark = pytest.mark.slow

KEY = "co-canary-77e1f0c5"
MODEL = "embed-english-light-v3.0"


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    return tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        queries={"shard_passages": 16},
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": 128, "student_weight": 0.5},
        model={"name": tiny_encoder_path, "train": "query_encoder"},
        training={"num_train_epochs": 2, "learning_rate": 1e-2},
        evaluation={"interpolation_steps": 1},
    )


@pytest.fixture(scope="module")
def foreign(tiny_beir_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet of id and vector: 24 numbers that tell the topics, not of unit length."""
    path = tmp_path_factory.mktemp("foreign") / "passages.parquet"
    random = np.random.default_rng(3)
    topics = random.standard_normal((20, 24))
    ids = [json.loads(line)["_id"] for line in (tiny_beir_path / "corpus.jsonl").open()]
    vectors = [3 * (topics[int(id[1:]) // 3] + 0.3 * random.standard_normal(24)) for id in ids]
    column = pa.array([v.astype(np.float32).tolist() for v in vectors], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": ids, "vector": column}), path)
    return path


def facts(run: Path, stage: str) -> dict[str, Any]:
    return dict(json.loads((run / stage / "manifest.json").read_text())["facts"])


def test_with_the_models_own_vectors_only_queries_learn_and_stages_are_shared(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = Pipeline(load_recipe(recipe, ["--model.train=both"])).targets
    # From here on no passage is encoded.
    encode = BiEncoder.encode

    def of_queries(self: BiEncoder, texts: Any, kind: str, **given: Any) -> np.ndarray:
        assert kind == "query"
        return encode(self, texts, "query", **given)

    monkeypatch.setattr(BiEncoder, "encode", of_queries)
    for student in ("query_encoder", "query_adapter"):
        capsys.readouterr()
        pipeline = Pipeline(load_recipe(recipe, [f"--model.train={student}"]))
        pipeline.check()
        assert pipeline.evaluation.facts["test"].startswith("12 judged")
        assert made(capsys.readouterr().out) == ["model", "evaluation"]
        shipped = load_query_encoder(pipeline.model.path, precision="fp32")
        assert isinstance(shipped, BiEncoder), "an adapter is the last layer of a local model"
        assert shipped.space is not None and shipped.space.passages == 60
        # sentence-transformers reads the same folder.
        texts = [query.text for query in pipeline.split("test")[0]]
        theirs = SentenceTransformer(str(pipeline.model.path), device="cpu").encode(texts)
        assert np.allclose(theirs, shipped.encode_queries(texts), atol=1e-5)
        with pytest.raises(InputError, match="encodes queries alone"):
            shipped.encode_passages(["a passage"])
        report = run_report(pipeline)
        assert any("vectors are frozen" in note for note in report.notes)
    # A model of one side is none of the other, though both began as the same one.
    with pytest.raises(
        InputError, match="was trained with model.train query_adapter, and this recipe says both"
    ):
        Pipeline(load_recipe(recipe, ["--model.train=both"])).check_adapted()


def test_an_adapter_that_learnt_nothing_is_the_model_as_it_came(tiny_encoder_path: Path) -> None:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
    adapted = AdaptedEncoder.fresh(encoder, 4, seed=1)
    texts = ["a keeper of the lighthouse", "honey"]
    assert np.allclose(adapted.encode_queries(texts), encoder.encode_queries(texts), atol=1e-6)


def test_what_is_saved_encodes_as_what_was_trained(tiny_encoder_path: Path, tmp_path: Path) -> None:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
    adapted = AdaptedEncoder.fresh(encoder, 4, seed=1)
    with torch.no_grad():
        adapted.adapter.up += torch.randn_like(adapted.adapter.up)
    texts = ["a keeper of the lighthouse", "honey"]
    adapted.save_pretrained(tmp_path / "once")
    once = BiEncoder.from_pretrained(tmp_path / "once", precision="fp32")
    assert np.allclose(once.encode_queries(texts), adapted.encode_queries(texts), atol=1e-5)
    # And an adapter over that: two maps are one.
    second = AdaptedEncoder.fresh(once, 4, seed=2)
    with torch.no_grad():
        second.adapter.up += torch.randn_like(second.adapter.up)
    second.save_pretrained(tmp_path / "twice")
    twice = BiEncoder.from_pretrained(tmp_path / "twice", precision="fp32")
    assert np.allclose(twice.encode_queries(texts), second.encode_queries(texts), atol=1e-5)


def test_the_penalty_keeps_queries_near(recipe: Path) -> None:
    moved = {}
    for penalty in (0.0, 100.0):
        options = ["--model.train=query_adapter", f"--model.adapter_penalty={penalty}"]
        pipeline = Pipeline(load_recipe(recipe, [*options, f"--name=penalty{penalty:g}"]))
        _ = pipeline.model
        checkpoint = last_checkpoint(pipeline.recipe.folder)
        weights = load_file(checkpoint / "model.safetensors")
        moved[penalty] = float((weights["down"] @ weights["up"]).norm())
    assert 0 < moved[100.0] < 0.7 * moved[0.0]


def test_a_closed_space_is_learnt_from_its_passages(
    recipe: Path, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--model.passage_vectors={foreign}"]
    pipeline = Pipeline(load_recipe(recipe, options))
    pipeline.check()
    assert pipeline.evaluation.facts["test"].startswith("12 judged")
    order = made(capsys.readouterr().out)
    assert order[:4] == ["corpus", "embeddings", "student", "queries"]
    assert pipeline.embeddings.facts["similarity"] == "dot"
    shipped = load_query_encoder(pipeline.model.path)
    assert shipped.dimension == 24 and shipped.similarity == "dot"
    # The regressed student knows far more than chance, .05, of where a passage's topic lies.
    start = load_query_encoder(pipeline.recipe.folder / "student", precision="fp32")
    index = ExactIndex()
    index.build(pipeline.passages.ids, pipeline.vectors)
    nearest = index.search(start.encode_queries(list(pipeline.passages.contents)), 1)
    same = [
        int(id[1:]) // 3 == int(ranking[0][0][1:]) // 3
        for id, ranking in zip(pipeline.passages.ids, nearest, strict=True)
    ]
    assert np.mean(same) > 0.3
    assert "student" in run_report(pipeline).facts
    # A second look makes nothing, and eval.py compares what it started from with what ships.
    again = run_here("eval.py", recipe, *options, "--evaluation.latency_queries=0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not {"student", "embeddings", "model"} & set(made(again.stdout))


@pytest.mark.fault("a killed encoder or index")
def test_killed_in_the_stages_of_its_own_it_ends_with_the_same_bytes(
    recipe: Path, foreign: Path
) -> None:
    options = [f"--model.passage_vectors={foreign}"]
    runs, log = recipe.parent / "runs", recipe.parent / "killed.log"
    assert run_here("train.py", recipe, *options, "--name=whole").returncode == 0
    moments = ["embeddings.partial", "student.partial"]
    killed_at(moments, runs / "killed", log, "train.py", recipe, *options, "--name=killed")
    last = run_here("train.py", recipe, *options, "--name=killed")
    assert last.returncode == 0, last.stdout + last.stderr
    assert hashes(runs / "killed") == hashes(runs / "whole")


def test_a_model_that_made_the_vectors_needs_no_way_into_their_space(
    recipe: Path, tiny_encoder_path: Path, tmp_path: Path
) -> None:
    pipeline = Pipeline(load_recipe(recipe, ["--name=own"]))
    path = tmp_path / "own.parquet"
    rows = np.asarray(pipeline.vectors)
    column = pa.array(rows.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": list(pipeline.passages.ids), "vector": column}), path)
    options = [f"--model.passage_vectors={path}", "--name=given"]
    given = Pipeline(load_recipe(recipe, options))
    texts = ["a keeper of the lighthouse"]
    assert given.embeddings.facts["similarity"] == "cosine"
    assert np.allclose(
        given.starting_model.encode_queries(texts),
        pipeline.starting_model.encode_queries(texts),
        atol=1e-5,
    )
    assert given.student.facts["likeness_before"] > 0.99
    adapter = Pipeline(load_recipe(recipe, [*options, "--model.train=query_adapter"]))
    assert np.allclose(
        adapter.starting_model.encode_queries(texts),
        pipeline.starting_model.encode_queries(texts),
        atol=1e-5,
    )


def test_an_adapter_of_another_model_than_made_the_vectors_is_refused(
    recipe: Path, foreign: Path
) -> None:
    found = run_here(
        "train.py", recipe, f"--model.passage_vectors={foreign}", "--model.train=query_adapter"
    )
    assert found.returncode == 2 and "did not make the vectors" in found.stderr, found.stderr


@pytest.fixture
def api() -> Iterator[Api]:
    with serve(KEY, tokens=lambda text: len(text.split())) as api:
        yield api


def test_an_adapter_over_an_api_sends_each_query_once(
    recipe: Path, api: Api, tiny_beir_path: Path, tmp_path: Path
) -> None:
    passages = [json.loads(line) for line in (tiny_beir_path / "corpus.jsonl").open()]
    texts = [Passage(p["_id"], p.get("title", ""), p["text"]).contents for p in passages]
    path = tmp_path / "cohere.parquet"
    cache = {"TERCET_CACHE": str(tmp_path / "cache"), "CO_API_URL": api.address}
    # As whoever paid for them would have them.
    with patch.dict(os.environ, cache | {"CO_API_KEY": KEY}):
        rows = CohereEncoder(MODEL).encode_passages(texts)
    column = pa.array(rows.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [p["_id"] for p in passages], "vector": column}), path)
    before = len(api.calls)
    changed(
        recipe,
        model={"name": MODEL, "api": "cohere", "train": "query_adapter", "passage_vectors": path},
    )
    without = run_here("train.py", recipe, **cache)
    assert without.returncode == 2 and "CO_API_KEY" in without.stderr
    assert len(api.calls) == before
    found = run_here("train.py", recipe, **cache, CO_API_KEY=KEY)
    assert found.returncode == 0, found.stdout + found.stderr
    compared = run_here(
        "eval.py", recipe, "--evaluation.latency_queries=20", **cache, CO_API_KEY=KEY
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr
    # A few passages tell that the model made the vectors: they were paid for before.
    assert {call.body["input_type"] for call in api.calls[before:]} == {"search_query"}
    assert len(api.texts()) == len(set(api.texts())) and not any(api.again.values())
    # What was paid for trains another time without a key or a call.
    sent = len(api.texts())
    shutil.rmtree(tmp_path / "runs" / "tiny" / "model")
    again = run_here("train.py", recipe, **cache)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(api.texts()) == sent
    shipped = load_query_encoder(tmp_path / "runs" / "tiny" / "model")
    assert isinstance(shipped, AdaptedEncoder) and shipped.name == MODEL
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_a_query_encoder_knows_the_vectors_it_belongs_to(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = random.standard_normal((40, 8)).astype(np.float32)
    ids = [f"p{i}" for i in range(40)]
    VectorSpace.of(ids, rows, "dot", "collection A").save(tmp_path)
    space = VectorSpace.load(tmp_path)
    assert space is not None and space.passages == 40

    def of(vectors: np.ndarray) -> Any:
        return lambda names: vectors[[ids.index(name) for name in names]]

    space.check("collection A", "dot", of(rows))
    space.check("collection A, scaled", "dot", of(2 * rows))
    with pytest.raises(InputError, match="belongs to collection A, 40 passages .* not to B"):
        space.check("B", "dot", of(rows[::-1]))
    with pytest.raises(InputError, match="4 dimensions"):
        space.check("B", "dot", of(rows[:, :4]))
    with pytest.raises(InputError, match="which compares by cosine"):
        space.check("B", "cosine", of(rows))

    def missing(names: Any) -> np.ndarray:
        raise InputError("B has no passage 'p3'")

    with pytest.raises(InputError, match="no passage 'p3'"):
        space.check("B", "dot", missing)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["--model.train=both", "--model.passage_vectors=x.parquet"],
            "model.passage_vectors belongs to",
        ),
        (["--model.adapter_rank=8"], "model.adapter_rank belongs to model.train: query_adapter"),
        (["--model.passage_vectors=corpus"], "name the column, corpus.passages.vector"),
        (["--model.passage_vectors=index"], "name it, index.collection"),
        (["--model.passage_vectors=nowhere.parquet"], "nowhere.parquet: no such file"),
        (["--index.collection=X"], "give backend weaviate too"),
        (["--index.vector=x"], "vector, id and tenant are of a collection"),
        (["--model.dollars=1"], "model.dollars belongs to model.api"),
        (["--evaluation.passages=10"], "saves encoding"),
        (["--loss.matryoshka=[8]"], "needs shorter passage vectors"),
        (["--index.backend=weaviate", "--index.collection=X", "--index.ef=9"], "leave out ef"),
        (["--model.train=query_adapter", "--model.lora_rank=2"], "model.lora_rank belongs to"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    recipe: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline(load_recipe(recipe, settings)).check()
