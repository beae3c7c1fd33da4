"""What a Weaviate collection may be: its kinds, their settings, and the vectors that fit them.

No Weaviate client is needed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tercet.core.mapped import Vectors, in_blocks
from tercet.core.schema import InputError, UnsupportedVectors

Kind = Literal["hnsw", "hnsw+pq", "hnsw+rq", "hnsw+sq", "hnsw+bq", "flat", "flat+bq", "hfresh"]
Metric = Literal["dot", "cosine"]

#: The oldest server that has it; the client itself asks for 1.27.
NEEDS = {"aliases": (1, 32), "hnsw+rq": (1, 32), "hfresh": (1, 38)}


@dataclass(frozen=True, kw_only=True, slots=True)
class WeaviateSettings:
    """How a collection is laid out and searched.

    `owner` is kept in the description of what is written, and tells it from what others write.
    ef, ef_construction and max_connections are HNSW's, and high enough that a miss is the
    encoder's; segments is product quantization's (None: the server chooses; else a divisor of the
    dimension) and training_limit the vectors that it and scalar quantization learn from;
    search_probe is HFresh's. rescore_limit is how many of the best by their codes are compared by
    their vectors again (None: 350, and 1,000 for flat+bq, which has no other way to look further),
    where the server lets that be set: rq, sq, flat+bq and hfresh; with pq and bq over a graph it
    is ef. Of hfresh it is also the most that one query can return.
    """

    kind: Kind = "hnsw"
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
    patience: float = 1800.0  # seconds that indexing and training may go on after the import

    def __post_init__(self) -> None:
        for field, known in (("kind", get_args(Kind)), ("metric", get_args(Metric))):
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
        """`rescore_limit`, or what stands for it where it is None."""
        return self.rescore_limit or (1000 if self.kind == "flat+bq" else 350)

    @property
    def by_dot(self) -> bool:
        """Whether the server compares by dot product; else by cosine.

        HFresh knows no dot product, which for unit passages ranks as the cosine does.
        """
        return self.metric == "dot" and self.kind != "hfresh"


def check_fit(settings: WeaviateSettings, vectors: Vectors) -> None:
    """Raises Unfit where this kind would rank these vectors, float32 [n, d], at random or not."""
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
