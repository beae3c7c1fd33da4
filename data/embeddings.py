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


def embed_passages(writer: Writer, encoder: Encoder, contents: Sequence[str]) -> None:
    """Encode each passage, in the corpus's order."""
    with progress(f"embedding passages with {encoder.name}", len(contents), "passages") as advance:
        for number, start in enumerate(range(0, len(contents), SHARD_PASSAGES)):
            block = contents[start : start + SHARD_PASSAGES]

            def make(block: Sequence[str] = block) -> pa.Table:
                return _table(encoder.encode_passages(block))

            writer.shard("vectors", number, make)
            advance(len(block))
    writer.facts |= {"vectors": len(contents), "dimension": encoder.dimension}


def _table(vectors: np.ndarray) -> pa.Table:
    flat = pa.array(vectors.astype(np.float32).ravel())
    return pa.table({"vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})


def read_vectors(embeddings: Artifact) -> np.ndarray:
    """float32 [passages, dimension], in the corpus's order."""
    dimension = embeddings.facts["dimension"]
    vectors = np.empty((embeddings.facts["vectors"], dimension), dtype=np.float32)
    start = 0
    for name in sorted(n for n in embeddings.manifest["files"] if n.endswith(".arrow")):
        path = embeddings.path / name
        column = read_table(path)["vector"].combine_chunks()
        vectors[start : start + len(column)] = column.flatten().to_numpy().reshape(-1, dimension)
        start += len(column)
    return vectors
