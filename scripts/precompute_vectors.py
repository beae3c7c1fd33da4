"""Precompute vectors of another model as two Parquet files, for a `vectors` system.

    python scripts/precompute_vectors.py recipes/experiment.yaml --corpus.path FOLDER

Encodes the corpus and its queries with bge-small-en-v1.5 (int8 ONNX, `make models`) and writes the
files that the recipe's `vectors` system names: id and vector, of unit length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from tercet import InputError, Recipe
from tercet.commands.main import main
from tercet.commands.recipe_command import RecipeCommand
from tercet.core.console import console, progress
from tercet.pipeline.components import Components

_MODEL = Path("models/bge-small-en-v1.5-int8")
QUERY_PROMPT = "Represent this sentence for searching relevant passages: "
_TOKENS, _BATCH = 512, 16


@click.command(cls=RecipeCommand)
def command(recipe: Recipe) -> None:
    """Precompute vectors of another model, for the recipe's `vectors` system."""
    system = next((s for s in recipe.evaluation.systems if s.kind == "vectors"), None)
    if system is None:
        raise InputError("the recipe's evaluation.systems has no system of kind vectors")
    if not _MODEL.exists():
        raise InputError(f"{_MODEL}: no such folder: run `make models`")
    source = Components(recipe).source
    passages = [passage for _, passage in source.passages() if passage.contents]
    queries = [query for _, query in source.queries()]
    for path, ids, texts in (
        (system.passages, [p.id for p in passages], [p.contents for p in passages]),
        (system.queries, [q.id for q in queries], [QUERY_PROMPT + q.text for q in queries]),
    ):
        write(Path(path), ids, encode(texts, path))


def encode(texts: Sequence[str], what: str) -> np.ndarray:
    """float32 [len(texts), 384]: the first token's hidden state, of unit length."""
    tokenizer = Tokenizer.from_file(str(_MODEL / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_TOKENS)
    session = onnxruntime.InferenceSession(_MODEL / "model.onnx")
    names = [node.name for node in session.get_inputs()]
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    # Sorted by content: int8 vectors depend slightly on the batch's composition.
    order = sorted(range(len(ids)), key=lambda row: (-len(ids[row]), ids[row]))
    vectors = np.empty((len(ids), 384), np.float32)
    with progress(f"encoding {what}", len(ids), "texts") as advance:
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            padded = np.zeros((len(rows), len(ids[rows[0]])), np.int64)
            for place, row in enumerate(rows):
                padded[place, : len(ids[row])] = ids[row]
            lengths = np.array([[len(ids[row])] for row in rows])
            mask = (np.arange(padded.shape[1]) < lengths).astype(np.int64)
            given = {"input_ids": padded, "attention_mask": mask}
            given["token_type_ids"] = np.zeros_like(padded)
            states = session.run(None, {name: given[name] for name in names})[0]
            vectors[rows] = states[:, 0] if states.ndim == 3 else states
            advance(len(rows))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(path: Path, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Write a Parquet file of `id` and `vector`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    pq.write_table(pa.table({"id": pa.array(ids), "vector": column}), path)
    console.print(f"{path}: {len(ids):,} vectors")


if __name__ == "__main__":
    main(command=command)
