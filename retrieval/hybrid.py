"""Two retrievers as one: reciprocal rank fusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tercet.core.schema import Ranking, Retriever
from tercet.retrieval.validation import check_k, in_order

CONSTANT = 60  # the paper's
DEPTH = 100


class HybridRetriever:
    """A `Retriever` that ranks by the sum of 1 / (60 + rank) over other retrievers' best 100.

    Scores need not be comparable, nor vectors: only ranks count. Cormack, Clarke and Buettcher,
    Reciprocal rank fusion outperforms Condorcet and individual rank learning methods, SIGIR 2009.
    """

    def __init__(self, retrievers: Sequence[Retriever], name: str | None = None) -> None:
        self._retrievers = retrievers
        self._name = name

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._name or "+".join(retriever.name for retriever in self._retrievers)

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`; the first ones are the same whatever k is."""
        check_k(k)
        found = [r.search(queries, DEPTH) for r in self._retrievers]
        return [_fuse(rankings, k) for rankings in zip(*found, strict=True)]


def _fuse(rankings: Sequence[Ranking], k: int) -> Ranking:
    parts: dict[str, list[float]] = {}
    for ranking in rankings:
        for rank, (passage, _) in enumerate(ranking, 1):
            parts.setdefault(passage, []).append(1 / (CONSTANT + rank))
    # As float32, which is how measures compare scores: sums that differ less are equal.
    fused = [(passage, float(np.float32(math.fsum(terms)))) for passage, terms in parts.items()]
    return in_order(fused, k)
