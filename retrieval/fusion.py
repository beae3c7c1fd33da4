"""Hybrid search: the rankings of several retrievers -> one, by reciprocal ranks or by scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tercet.core.schema import Ranking, Retriever
from tercet.retrieval.validation import check_k, in_order

#: Passages of each ranking that are fused.
FUSED = 100
_RANK_CONSTANT = 60  # k of the paper


class HybridRetriever:
    """A `Retriever` that fuses the top 100 of other retrievers; see `fuse`."""

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        name: str | None = None,
        weight: float | None = None,
    ) -> None:
        self._retrievers = retrievers
        self._name = name
        self._weight = weight

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self._name or "+".join(retriever.name for retriever in self._retrievers)

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`; the first passages do not depend on k."""
        check_k(k)
        each = [retriever.search(queries, FUSED) for retriever in self._retrievers]
        return [fuse(rankings, k, self._weight) for rankings in zip(*each, strict=True)]


def fuse(rankings: Sequence[Ranking], k: int, weight: float | None = None) -> Ranking:
    """The k best passages of the first 100 of rankings, by rank or, given a `weight`, by score.

    By rank: the sum of 1 / (60 + rank). Scores need not be comparable. Cormack, Clarke and
    Buettcher, Reciprocal rank fusion outperforms Condorcet and individual rank learning methods,
    SIGIR 2009.

    By score, of two rankings: (1 - weight) x the first's score + weight x the second's, each scaled
    to 0 to 1 within its ranking; a passage that is not in a ranking has 0 there. It is Weaviate's
    relativeScoreFusion with alpha = weight, where the second is the vector search. Bruch, Gai and
    Ingber, An Analysis of Fusion Functions for Hybrid Retrieval, arXiv 2210.11934.
    """
    parts: dict[str, list[float]] = {}
    for number, ranking in enumerate(each[:FUSED] for each in rankings):
        if weight is None:
            terms = [1 / (_RANK_CONSTANT + rank) for rank in range(1, len(ranking) + 1)]
        else:
            terms = [(1 - weight, weight)[number] * score for score in _scaled(ranking)]
        for (passage, _), term in zip(ranking, terms, strict=True):
            parts.setdefault(passage, []).append(term)
    # The metrics compare scores as float32, so sums that differ by less are ties.
    fused = [(passage, float(np.float32(math.fsum(terms)))) for passage, terms in parts.items()]
    return in_order(fused, k)


def _scaled(ranking: Ranking) -> list[float]:
    """Scores from 0, the ranking's lowest, to 1, its highest; all 1 if they are equal."""
    scores = [score for _, score in ranking]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
