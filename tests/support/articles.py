"""A collection of articles as a service has it, and a run that adapts a model to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from recipes import tiny_recipe
from tiny_runs import shift_weights
from topics import TOPICS
from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.util import generate_uuid5

from tercet.config.loading import load_recipe, save_recipe
from tercet.core.artifacts import MANIFEST
from tercet.core.files import file_sha256, read_json, write_json
from tercet.modeling import BiEncoder
from tercet.pipeline.pipeline import Pipeline

QUERIES = 40
PROPERTIES = ("key", "title", "text", "year", "rating", "tags", "published")
_TEXT = (
    "The {0}-{1} is known for its {2}-{3}. Visitors ask about the {4}-{5} and "
    "how the {6}-{7} is kept for years."
)


def articles(count: int) -> list[dict[str, Any]]:
    """Articles with a key and six properties, each with words of its own order."""
    words = sorted({word for topic in TOPICS for word in " ".join(topic).split()})
    random = np.random.default_rng(5)
    first = datetime(2020, 1, 1, tzinfo=UTC)
    rows = []
    for i in range(count):
        text = [words[j] for j in random.integers(len(words), size=8)]
        rows.append(
            {
                "key": f"a{i:05}",
                "title": " ".join(text[:2]).capitalize(),
                "text": _TEXT.format(*text),
                "year": 1990 + i % 35,
                "rating": round(float(random.uniform(0, 5)), 3),
                "tags": text[5:7],
                "published": first + timedelta(hours=i),
            }
        )
    return rows


def write_articles(server: Any, name: str, rows: list[dict[str, Any]], model: Path) -> np.ndarray:
    """The collection, with the model's vectors as its only one, "theirs"; returns them."""
    encoder = BiEncoder.from_pretrained(model, precision="fp32", max_length=48)
    vectors = encoder.encode_passages([f"{row['title']} {row['text']}" for row in rows])
    kinds = dict(zip(PROPERTIES[3:], ("INT", "NUMBER", "TEXT_ARRAY", "DATE"), strict=True))
    collection = server.client.collections.create(
        name,
        description="Articles of a magazine",
        properties=[
            Property(name="key", data_type=DataType.TEXT, tokenization=Tokenization.FIELD),
            Property(name="title", data_type=DataType.TEXT, tokenization=Tokenization.WHITESPACE),
            Property(name="text", data_type=DataType.TEXT, index_filterable=False),
            *(Property(name=name, data_type=DataType[kind]) for name, kind in kinds.items()),
        ],
        inverted_index_config=Configure.inverted_index(
            bm25_b=0.6, bm25_k1=1.1, index_null_state=True
        ),
        vector_config=[
            Configure.Vectors.self_provided(
                name="theirs",
                vector_index_config=Configure.VectorIndex.hnsw(
                    distance_metric=VectorDistances.COSINE, ef=1000
                ),
            )
        ],
    )
    with collection.batch.fixed_size(batch_size=200, concurrent_requests=2) as batch:
        for row, vector in zip(rows, vectors, strict=True):
            batch.add_object(row, uuid=generate_uuid5(row["key"]), vector={"theirs": vector})
    assert not collection.batch.failed_objects
    return vectors


def articles_recipe(
    folder: Path, collection: str, rows: list[dict[str, Any]], *, name: str, **sections: Any
) -> Path:
    """A tiny recipe whose corpus is the collection, judged by articles' own texts."""
    asked = [rows[i * len(rows) // QUERIES] for i in range(QUERIES)]
    queries = [{"_id": f"q{row['key']}", "text": f"{row['title']} {row['text']}"} for row in asked]
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    lines = "".join(f"q{row['key']}\t{row['key']}\t1\n" for row in asked)
    (folder / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + lines)
    corpus = {
        "source": "weaviate",
        "path": collection,
        "passages": {"id": "key"},
        "queries": {"path": folder / "queries.jsonl"},
        "qrels": {"path": folder / "test.tsv"},
    }
    training = {"num_train_epochs": 1, "learning_rate": 1e-3, **sections.pop("training", {})}
    return tiny_recipe(
        folder,
        name=name,
        corpus=corpus,
        queries={"count": 40},
        negatives={"candidates": 6},
        teacher={"name": sections.pop("teacher"), "student_weight": 0.5},
        evaluation={"interpolation_steps": 1},
        training=training,
        **sections,
    )


def finished_run(recipe: Path, seed: int = 9, *options: str) -> Pipeline:
    """A finished run of a recipe, whose model is another than its base.

    Tiny models with random weights learn nothing that would ship: other weights stand for it.
    """
    model = Pipeline(load_recipe(recipe, options)).model
    shift_weights(str(model.path), seed)()
    weights, manifest = model.path / "model.safetensors", read_json(model.path / MANIFEST)
    manifest["files"][weights.name]["sha256"] = file_sha256(weights)
    manifest["facts"] |= {"base_kept": False, "best_weight": 1.0, "weight": 1.0}
    manifest["facts"] |= {"shipped": "trained"}
    write_json(model.path / MANIFEST, manifest)
    pipeline = Pipeline(load_recipe(recipe, options))
    _ = pipeline.evaluation
    save_recipe(pipeline.recipe, pipeline.recipe.folder / "recipe.yaml")
    return pipeline
