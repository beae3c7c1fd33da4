"""Queries adapted to a collection that stands, searched in every epoch and never written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("weaviate")

from weaviate.classes.config import Configure, DataType, Property, VectorDistances

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline
from tercet.serving.search import live_retriever

pytestmark = pytest.mark.weaviate

ROOT = Path(__file__).parents[2]
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
                vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT),
            ),
        ],
    )
    with collection.batch.fixed_size(batch_size=50) as batch:
        for row, vector in zip(rows, vectors, strict=True):
            batch.add_object({"key": row["_id"], "text": row["text"]}, vector={"theirs": vector})
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
    for name, value in (
        ("WEAVIATE_URL", weaviate_server.url),
        ("WEAVIATE_GRPC_URL", weaviate_server.grpc_url),
        ("WEAVIATE_API_KEY", weaviate_server.api_key or ""),
    ):
        monkeypatch.setenv(name, value)
    rows = [json.loads(line) for line in (tiny_beir_path / "corpus.jsonl").open()]
    random = np.random.default_rng(7)
    topics = random.standard_normal((20, 16))
    made = [2 * topics[int(r["_id"][1:]) // 3] + random.standard_normal(16) for r in rows]
    vectors = np.array(made, np.float32)
    for name, some in zip(NAMES, (vectors, vectors[:, ::-1].copy()), strict=True):
        write(server, name, rows, some)
    # Somebody else's object, which is no passage of the corpus for want of a text.
    theirs = server.client.collections.use(NAMES[0])
    theirs.data.insert({"key": "empty", "text": ""}, vector={"theirs": vectors[0] * 2})
    before = sorted(server.client.collections.list_all())
    path = tmp_path / "live.yaml"
    qrels, queries = tiny_beir_path / "qrels" / "*.tsv", tiny_beir_path / "queries.jsonl"
    path.write_text(
        f"""
name: live
runs_dir: {tmp_path}/runs
corpus:
  source: weaviate
  path: {NAMES[0]}
  passages: {{id: key}}
  queries: {{path: {queries}}}
  qrels: {{path: "{qrels}"}}
queries: {{count: 40, per_passage: 1}}
negatives:
  candidates: 6
  index: {{backend: weaviate, collection: {NAMES[0]}}}
teacher: {{name: {tiny_cross_encoder_path}, precision: fp32, max_length: 48}}
model:
  name: {tiny_encoder_path}
  precision: fp32
  max_length: 48
  train: query_encoder
  passage_vectors: index
triplets: {{teacher_weight: 0.5}}
training: {{num_train_epochs: 2, per_device_train_batch_size: 8, bf16: false, learning_rate: 1e-3}}
index: {{backend: weaviate, collection: {NAMES[0]}, vector: theirs}}
"""
    )
    pipeline = Pipeline(load_recipe(path))
    pipeline.check()
    model, evaluation = pipeline.model, pipeline.evaluation
    assert evaluation.facts["test"].startswith("12 judged")
    assert np.allclose(np.sort(np.asarray(pipeline.vectors), axis=0), np.sort(vectors, axis=0))
    assert sorted(server.client.collections.list_all()) == before, "nothing was written"
    count = server.client.collections.use(NAMES[0]).aggregate.over_all(total_count=True)
    assert count.total_count == 61

    assert pipeline.negatives.facts["hits_outside_the_corpus"] > 0

    # What ships searches that collection, and no other.
    retriever = live_retriever(model.path, NAMES[0], precision="fp32")
    found = retriever.search(["how does the beehive use its honey"], 5)[0]
    assert len(found) == 5
    with pytest.raises(InputError, match=rf"belongs to .*{NAMES[0]}.* and not to .*{NAMES[1]}"):
        live_retriever(model.path, NAMES[1])
    refused = subprocess.run(
        [sys.executable, str(ROOT / "scripts/search.py"), str(model.path), NAMES[1], "honey"],
        capture_output=True,
        text=True,
        env=os.environ.copy(),
        timeout=120,
    )
    assert refused.returncode == 2 and "adapt another to that one" in refused.stderr
    # Nor is it measured on another.
    wrong = Pipeline(load_recipe(path, [f"--index.collection={NAMES[1]}"]))
    with pytest.raises(InputError):
        _ = wrong.evaluation
    for name in NAMES:
        server.client.collections.delete(name)
