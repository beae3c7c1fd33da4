"""Passages -> vectors of the base model, for mining, targets and epoch 0; or precomputed vectors.

File: `vectors` (vector).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tercet.core.artifacts import Artifact, Writer
from tercet.core.console import progress
from tercet.core.mapped import MappedVectors, Vectors, by_id, counted, counts_of, read_table
from tercet.core.resources import OF_READERS, counting
from tercet.core.schema import Encoder
from tercet.data.passages import Passages

# Sizes of a shard: large enough that sorting by length within it saves as much padding as sorting
# all passages, and small enough that a small corpus too has several shards for every process.
_MOST, _FEWEST, _SHARDS = 8_192, 1_024, 16


def embed_passages(writer: Writer, encoder: Encoder, passages: Passages) -> None:
    """Encode each passage, in the order of ids: the corpus's own order changes no vector."""

    def make(block: np.ndarray) -> pa.Table:
        texts = [passages.contents[row] for row in block.tolist()]
        with counting(encoder) as counts:
            table = _table(encoder.encode_passages(texts))
        return counted(table, counts)

    what = f"embedding passages with {Path(encoder.name).name}"
    with progress(what, len(passages), "passages", by_model=True) as advance:
        paths = writer.shards("vectors", id_blocks(passages.ids), make, advance)
    if paths is not None:
        writer.facts |= {"vectors": len(passages), "dimension": encoder.dimension}
        writer.facts |= counts_of(paths, OF_READERS)


def store_vectors(
    writer: Writer,
    vectors: Vectors,
    passages: Passages,
    facts: Mapping[str, Any],
    *,
    normalize: bool,
) -> None:
    """Store precomputed vectors, float32 [passages, dimension], in place of `embed_passages`."""

    def make(block: np.ndarray) -> pa.Table:
        rows = np.asarray(vectors[block])
        return _table(rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalize else rows)

    with progress("storing the passages' vectors", len(passages), "passages") as advance:
        writer.shards("vectors", id_blocks(passages.ids), make, advance)
    writer.facts |= {"vectors": len(passages), "dimension": vectors.shape[1], **facts}


def id_blocks(ids: Sequence[str]) -> list[np.ndarray]:
    """Rows of each shard, int64 [rows], in the order of ids."""
    order = by_id(ids)
    size = shard_size(len(order))
    return [order[start : start + size] for start in range(0, len(order), size)]


def shard_size(passages: int) -> int:
    """Passages per shard of a corpus of `passages`."""
    return min(_MOST, max(_FEWEST, -(-passages // _SHARDS)))


def _table(vectors: np.ndarray) -> pa.Table:
    flat = pa.array(vectors.astype(np.float32, copy=False).ravel())
    return pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})


def read_vectors(embeddings: Artifact, passages: Passages) -> MappedVectors:
    """float32 [passages, dimension], in the order of the passages."""
    dimension = embeddings.facts["dimension"]
    shards = []
    for file in embeddings.shards():
        chunks = read_table(file)["vector"].chunks
        shards += [c.flatten().to_numpy().reshape(-1, dimension) for c in chunks]
    return MappedVectors(shards, by_id(passages.ids))
