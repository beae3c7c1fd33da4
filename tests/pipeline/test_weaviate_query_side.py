"""Queries adapted to a collection that stands, searched in every epoch and never written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import run_here
from recipes import live_recipe

pytest.importorskip("weaviate")

from weaviate.classes.config import Configure, DataType, Property, VectorDistances
from weaviate.util import generate_uuid5

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline
from tercet.serving.search import live_retriever

pytestmark = pytest.mark.weaviate

NAMES = ("Tercet_tests_theirs", "Tercet_tests_others")


def write(server: Any, name: str, rows: list[dict[str, str]], vectors: np.ndarray) -> None:
    """A collection as somebody's own program would: their property names, a named vector."""
    server.client.collections.delete(name)
    collection = server.client.collections.create(
        name,
        properties=[
            Property(name="key", data_type=DataType.TEXT),
            Property(name="text", data_type=DataType.TEXT),
        ],
        vector_config=[
            Configure.Vectors.self_provided(
                name="theirs",
                vector_index_config=Configure.VectorIndex.flat(distance_metric=VectorDistances.DOT),
            ),
        ],
    )
    with collection.batch.fixed_size(batch_size=50) as batch:
        for row, vector in zip(rows, vectors, strict=True):
            # Of UUIDs and of exact searches follow the same queries and candidates every time.
            batch.add_object(
                {"key": row["_id"], "text": row["text"]},
                uuid=generate_uuid5(row["_id"]),
                vector={"theirs": vector},
            )
    assert not collection.batch.failed_objects


def test_a_run_on_a_live_collection_writes_nothing_and_its_model_knows_it_again(
    server: Any,
    weaviate_server: Any,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in weaviate_server.environment.items():
        monkeypatch.setenv(name, value)
    rows = [json.loads(line) for line in (tiny_beir_path / "corpus.jsonl").open()]
    random = np.random.default_rng(7)
    topics = random.standard_normal((20, 16))
    made = [2 * topics[int(r["_id"][1:]) // 3] + random.standard_normal(16) for r in rows]
    vectors = np.array(made, np.float32)
    for name, some in zip(NAMES, (vectors, vectors[:, ::-1].copy()), strict=True):
        write(server, name, rows, some)
    # Somebody else's objects, which are no passages of the corpus for want of a text: whatever the
    # query, one stands before each passage that is found.
    theirs = server.client.collections.use(NAMES[0])
    with theirs.batch.fixed_size(batch_size=50) as batch:
        for number, vector in enumerate(vectors):
            empty = {"key": f"empty{number}", "text": ""}
            batch.add_object(
                empty, uuid=generate_uuid5(empty["key"]), vector={"theirs": vector * 1.01}
            )
    before = sorted(server.client.collections.list_all())
    path = live_recipe(
        tmp_path,
        NAMES[0],
        corpus=tiny_beir_path,
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        training={"num_train_epochs": 2},
    )
    pipeline = Pipeline(load_recipe(path))
    pipeline.check()
    model, evaluation = pipeline.model, pipeline.evaluation
    assert evaluation.facts["test"].startswith("12 judged")
    assert np.allclose(np.sort(np.asarray(pipeline.vectors), axis=0), np.sort(vectors, axis=0))
    assert sorted(server.client.collections.list_all()) == before, "nothing was written"
    count = server.client.collections.use(NAMES[0]).aggregate.over_all(total_count=True)
    assert count.total_count == 120

    assert pipeline.negatives.facts["hits_outside_the_corpus"] > 0

    # What ships searches that collection, and no other.
    retriever = live_retriever(model.path, NAMES[0], precision="fp32")
    found = retriever.search(["how does the beehive use its honey"], 5)[0]
    assert len(found) == 5
    with pytest.raises(InputError, match=rf"belongs to .*{NAMES[0]}.* and not to .*{NAMES[1]}"):
        live_retriever(model.path, NAMES[1])
    refused = run_here("scripts/search.py", model.path, "honey", "--collection", NAMES[1])
    assert refused.returncode == 2 and "adapt another to that one" in refused.stderr
    # Nor is it measured on another.
    wrong = Pipeline(load_recipe(path, [f"--index.collection={NAMES[1]}"]))
    with pytest.raises(InputError):
        _ = wrong.evaluation
    for name in NAMES:
        server.client.collections.delete(name)
