"""Weaviate's index kinds, their settings, and the vectors that each can hold.

This module does not import the Weaviate client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tercet.config.index import WeaviateKind
from tercet.core.mapped import Vectors, in_blocks
from tercet.core.schema import InputError, UnsupportedVectors

Metric = Literal["dot", "cosine"]


@dataclass(frozen=True)
class _KindFacts:
    """An index kind in words, and the oldest server that has it (None: any the client accepts)."""

    meaning: str
    needs: tuple[int, int] | None = None


KINDS: dict[WeaviateKind, _KindFacts] = {
    "hnsw": _KindFacts("a graph over full vectors"),
    "hnsw+pq": _KindFacts(
        "a graph over product-quantized codes: what Weaviate has for IVF-PQ's need"
    ),
    "hnsw+rq": _KindFacts("a graph over rotated 8-bit codes", needs=(1, 32)),
    "hnsw+sq": _KindFacts("a graph over 8-bit codes"),
    "hnsw+bq": _KindFacts("a graph over 1-bit codes"),
    "flat": _KindFacts("all vectors, read from disk"),
    "flat+bq": _KindFacts("1-bit codes, all of them read"),
    "hfresh": _KindFacts(
        "lists on disk, their centres in memory: Weaviate's nearest to an IVF", needs=(1, 38)
    ),
}
#: The oldest server that has a feature or kind; the client itself requires 1.27.
NEEDS = {"aliases": (1, 32)} | {kind: facts.needs for kind, facts in KINDS.items() if facts.needs}


@dataclass(frozen=True, kw_only=True, slots=True)
class WeaviateSettings:
    """How a collection is laid out and searched.

    `owner` is written into the collection's description and marks it as this run's.
    ef, ef_construction and max_connections are HNSW's, set high enough that a miss is the
    encoder's; segments is product quantization's (None: the server chooses; else a divisor of the
    dimension) and training_limit the number of vectors that product and scalar quantization learn
    from; search_probe is HFresh's. rescore_limit is how many of the best candidates by code are
    rescored by their vectors (None: 350, or 1,000 for flat+bq, which has no other setting to search
    further). The server has it for rq, sq, flat+bq and hfresh; pq and bq over a graph use ef
    instead. For hfresh it is also the most that one query can return.
    """

    kind: WeaviateKind = "hnsw"
    metric: Metric = "dot"
    collection: str = "Tercet"
    owner: str = ""
    ef: int = 2000
    ef_construction: int = 512
    max_connections: int = 64
    segments: int | None = None
    training_limit: int = 100_000
    search_probe: int = 256
    rescore_limit: int | None = None
    batch_size: int = 256
    threads: int = 4
    patience: float = 1800.0  # seconds that indexing and training may take after the import

    def __post_init__(self) -> None:
        for field, known in (("kind", KINDS), ("metric", get_args(Metric))):
            if getattr(self, field) not in known:
                raise InputError(
                    f"weaviate {field} {getattr(self, field)!r} is unknown: "
                    f"choose from {', '.join(known)}"
                )

    @property
    def structure(self) -> str:
        """The kind without its compression: hnsw, flat or hfresh."""
        return self.kind.partition("+")[0]

    @property
    def codes(self) -> str:
        """The compression: pq, rq, sq, bq, or an empty string."""
        return self.kind.partition("+")[2]

    @property
    def rescored(self) -> int:
        """`rescore_limit`, or its default for this kind."""
        return self.rescore_limit or (1000 if self.kind == "flat+bq" else 350)

    @property
    def by_dot(self) -> bool:
        """Whether the server compares by dot product; else by cosine.

        HFresh has no dot product; for unit vectors the cosine ranks the same.
        """
        return self.metric == "dot" and self.kind != "hfresh"


def check_fit(settings: WeaviateSettings, vectors: Vectors) -> None:
    """Raises UnsupportedVectors if this kind cannot rank these vectors, float32 [n, d]."""
    count, dimension = vectors.shape
    if settings.kind == "hfresh" and settings.metric == "dot":
        for _, block in in_blocks(vectors):
            if np.abs(np.einsum("nd,nd->n", block, block) - 1).max() > 2e-3:
                raise UnsupportedVectors(
                    "hfresh compares by cosine, and these vectors are not of length 1, so it would "
                    "not rank by dot product: choose hnsw, hnsw+pq or flat, or metric cosine"
                )
    if settings.codes == "pq":
        if settings.segments and dimension % settings.segments:
            raise UnsupportedVectors(
                f"{settings.segments} segments do not divide {dimension} dimensions: "
                "choose a divisor, or leave segments out"
            )
        if count < 3:
            raise UnsupportedVectors(
                f"product quantization can't learn from {count} passages: choose flat"
            )
    if settings.codes == "sq" and (
        count < 2 or all((block == vectors[0][0]).all() for _, block in in_blocks(vectors))
    ):
        raise UnsupportedVectors(
            f"scalar quantization can't learn a range from {count} passages: choose hnsw or flat"
        )
    if (
        settings.codes == "bq"
        and count > 1
        and all(((block < 0) == (vectors[0] < 0)).all() for _, block in in_blocks(vectors))
    ):
        raise UnsupportedVectors(
            "binary quantization keeps a vector's signs, and all these have the same: "
            f"choose {settings.structure}"
        )
