"""How to search with a model: alone or with BM25, as held-out synthetic queries choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tercet import retrieval
from tercet.core.metric_names import parse_metric
from tercet.core.schema import Encoder, Index, Qrels, Query, Ranking
from tercet.data.mixture import best_of
from tercet.pipeline.run import Inputs

Way = Literal["alone", "ranks", "scores"]
_WAYS: tuple[Way, ...] = ("alone", "ranks", "scores")

#: Shares of the model in a weighted sum with BM25 that are tried.
_SHARES = tuple(tenth / 10 for tenth in range(11))
#: Held-out queries that are asked; more hardly change the choice.
MOST_ASKED = 1_000


@dataclass(frozen=True)
class Asked:
    """Queries, what they should find, and BM25's rankings for them."""

    queries: Sequence[Query]
    qrels: Qrels
    lexical: Sequence[Ranking]


@dataclass(frozen=True)
class Ways:
    """Three ways to search with a model: their known-item means on held-out queries.

    `alone`, with BM25 by reciprocal `ranks`, and by `scores`: the weighted sum with the model's
    `share`.
    """

    share: float
    alone: float
    ranks: float
    scores: float

    @property
    def best(self) -> Way:
        """The way with the best mean, the simpler of equals."""
        return max(_WAYS, key=lambda way: float(getattr(self, way)))


def ways_of(encoder: Encoder, index: Index, asked: Asked, metric: str) -> Ways:
    """Measure each way with `metric`, and choose the share, as `best_of` a half and others."""
    depth = parse_metric(metric)[1]
    _, deep = retrieval.search_deep(encoder, index, asked.queries, depth)
    pairs = [*zip(asked.lexical, deep, strict=True)]

    def found(share: float | None) -> np.ndarray:
        fused = [retrieval.fuse(pair, depth, share) for pair in pairs]
        run = {query.id: each for query, each in zip(asked.queries, fused, strict=True)}
        return np.array([*retrieval.evaluate(asked.qrels, run, [metric])[metric].values()])

    tried = {share: found(share) for share in _SHARES}
    share = best_of(tried, 0.5)
    return Ways(share, *(float(np.mean(x)) for x in (tried[1.0], found(None), tried[share])))


def held_out(inputs: Inputs) -> tuple[list[Query], Qrels]:
    """The held-out synthetic queries, at most `MOST_ASKED`, in the order of their lists."""
    splits = [inputs.split(name) for name in ("validation", "guard")]
    queries = [query for asked, _, _ in splits for query in asked]
    qrels = {query: found for _, each, _ in splits for query, found in each.items()}
    drawn = np.random.default_rng(inputs.recipe.seed).permutation(len(queries))[:MOST_ASKED]
    return [queries[row] for row in np.sort(drawn).tolist()], qrels
