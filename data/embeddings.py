"""Passages -> vectors of the model as it came, computed once for mining, anchor and epoch 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tercet.artifacts import Artifact, Writer, read_table
from tercet.console import progress
from tercet.schema import Encoder

#: Large enough that sorting by length within a shard wastes as little as sorting everything.
SHARD_PASSAGES = 16_384


def embed_passages(
    writer: Writer, encoder: Encoder, ids: Sequence[str], contents: Sequence[str]
) -> None:
    """Encode each passage; shards are in the order of ids, so that the corpus's changes no vector.

    File: `vectors` (vector).
    """
    order = _by_id(ids)
    with progress(f"embedding passages with {encoder.name}", len(ids), "passages") as advance:
        for number, start in enumerate(range(0, len(order), SHARD_PASSAGES)):
            block = order[start : start + SHARD_PASSAGES]

            def make(block: Sequence[int] = block) -> pa.Table:
                return _table(encoder.encode_passages([contents[i] for i in block]))

            writer.shard("vectors", number, make)
            advance(len(block))
    writer.facts |= {"vectors": len(contents), "dimension": encoder.dimension}


def _table(vectors: np.ndarray) -> pa.Table:
    flat = pa.array(vectors.astype(np.float32).ravel())
    return pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})


def _by_id(ids: Sequence[str]) -> list[int]:
    return sorted(range(len(ids)), key=ids.__getitem__)


def read_vectors(embeddings: Artifact, ids: Sequence[str]) -> np.ndarray:
    """float32 [passages, dimension], in the order of the ids that were embedded."""
    order = np.array(_by_id(ids), np.int64)
    dimension = embeddings.facts["dimension"]
    vectors = np.empty((embeddings.facts["vectors"], dimension), dtype=np.float32)
    start = 0
    for name in sorted(n for n in embeddings.manifest["files"] if n.endswith(".arrow")):
        path = embeddings.path / name
        column = read_table(path)["vector"].combine_chunks()
        rows = order[start : start + len(column)]
        vectors[rows] = column.flatten().to_numpy().reshape(-1, dimension)
        start += len(column)
    return vectors
