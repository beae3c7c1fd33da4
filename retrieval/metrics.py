"""MAP, MRR, nDCG, recall, precision and hit rate at k, by trec_eval's rules.

A ranking is ordered by score, the larger first, and equal scores by passage id, the larger first;
the order in which a run lists them means nothing. Scores are compared as float32, for trec_eval
stores them so: two scores that differ only beyond it are equal. A grade above zero is relevant,
any other earns nothing, just as no judgement does. Every query of the qrels has a figure: zero if
the run misses it or if it has no relevant passage (give qrels without such queries to leave them
out of the mean).
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, compress
from typing import NamedTuple

import numpy as np

from tercet.schema import InputError, Qrels, Run

#: Per-query figures: measure -> query id -> value.
Figures = Mapping[str, Mapping[str, float]]


class _Graded(NamedTuple):
    """What every measure needs: rows are queries, columns ranks; empty places hold zero."""

    found: np.ndarray  # int64 [queries, depth]: grades as ranked, none below zero
    ideal: np.ndarray  # int64 [queries, depth]: the same, had the run been perfect
    relevant: np.ndarray  # int64 [queries]: how many passages are relevant

    def hits(self, k: int) -> np.ndarray:
        return self.found[:, :k] > 0


def _average_precision(graded: _Graded, k: int) -> np.ndarray:
    hits = graded.hits(k)
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return (precisions * hits).sum(axis=1) / np.maximum(graded.relevant, 1)


def _reciprocal_rank(graded: _Graded, k: int) -> np.ndarray:
    hits = graded.hits(k)
    return hits.any(axis=1) / (hits.argmax(axis=1) + 1)


def _ndcg(graded: _Graded, k: int) -> np.ndarray:
    ideal = _discounted(graded.ideal[:, :k])
    return _discounted(graded.found[:, :k]) / np.where(ideal > 0, ideal, 1)


def _discounted(grades: np.ndarray) -> np.ndarray:
    return grades @ (1 / np.log2(np.arange(2, grades.shape[1] + 2)))


def _recall(graded: _Graded, k: int) -> np.ndarray:
    return graded.hits(k).sum(axis=1) / np.maximum(graded.relevant, 1)


def _precision(graded: _Graded, k: int) -> np.ndarray:
    return graded.hits(k).sum(axis=1) / k


def _hit(graded: _Graded, k: int) -> np.ndarray:
    return np.asarray(graded.hits(k).any(axis=1), np.float64)


_MEASURES: dict[str, Callable[[_Graded, int], np.ndarray]] = {
    "map": _average_precision,
    "mrr": _reciprocal_rank,
    "ndcg": _ndcg,
    "recall": _recall,
    "precision": _precision,
    "hit": _hit,
}
_OTHER_NAMES = {"ap": "map", "rr": "mrr", "r": "recall", "p": "precision", "success": "hit"}


def parse_measure(measure: str) -> tuple[str, int]:
    """The name and the k of a measure such as "ndcg@10".

    Raises InputError, with the nearest right name, for one that this module does not know.
    """
    match = re.fullmatch(rf"({'|'.join(_MEASURES)})@([1-9][0-9]*)", measure)
    if match:
        return match[1], int(match[2])
    name, _, cutoff = measure.lower().partition("@")
    known = [*_MEASURES, *_OTHER_NAMES]
    nearest = (difflib.get_close_matches(name, known, n=1, cutoff=0.5) or ["ndcg"])[0]
    k = cutoff if re.fullmatch("[1-9][0-9]*", cutoff) else "10"
    raise InputError(
        f"unknown measure {measure!r}: did you mean '{_OTHER_NAMES.get(nearest, nearest)}@{k}'? "
        f"The names are {', '.join(_MEASURES)}, each with @k, k at least 1"
    )


def evaluate(qrels: Qrels, run: Run, measures: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each measure's figure for every query of the qrels: measure -> query id -> value.

    Measures are "map@k" (divided by all relevant passages, as trec_eval's map_cut), "mrr@k",
    "ndcg@k" (linear gain, as ndcg_cut), "recall@k", "precision@k" and "hit@k". Queries that have no
    judgements are passed over: `unjudged` lists them.

    Raises InputError for an unknown measure, for qrels without queries, for a grade that is not
    whole, for a score that is not a number, and for a passage that a ranking holds twice.
    """
    parsed = {measure: parse_measure(measure) for measure in measures}
    if not qrels:
        raise InputError("the judgements hold no query: there is nothing to evaluate")
    graded = _grade(qrels, run, depth=max((k for _, k in parsed.values()), default=1))
    return {
        measure: dict(zip(qrels, _MEASURES[name](graded, k).tolist(), strict=True))
        for measure, (name, k) in parsed.items()
    }


def mean(figures: Figures) -> dict[str, float]:
    """Each measure's mean over its queries, to the last bit the same in any order of them."""
    for measure, values in figures.items():
        if not values:
            raise InputError(f"{measure} has no figures: there is no mean of nothing")
    return {
        measure: math.fsum(values.values()) / len(values) for measure, values in figures.items()
    }


def unjudged(qrels: Qrels, run: Run) -> list[str]:
    """Queries of the run that `evaluate` passes over because the qrels do not hold them."""
    return [query for query in run if query not in qrels]


def _grade(qrels: Qrels, run: Run, depth: int) -> _Graded:
    judged = list(qrels.values())
    grades = np.array(list(chain.from_iterable(row.values() for row in judged)))
    if grades.size and grades.dtype.kind not in "iub":
        raise InputError("a grade is not a whole number: give integers, above 0 for relevant")
    relevant = grades > 0
    rows = np.repeat(np.arange(len(judged)), [len(row) for row in judged])[relevant]
    gains = grades[relevant].astype(np.int64)
    counts = np.bincount(rows, minlength=len(judged))
    order = np.lexsort((-gains, rows))
    ranks = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return _Graded(
        found=_found(qrels, run, depth),
        ideal=_matrix(rows, ranks, gains[order], len(judged), depth),
        relevant=counts,
    )


def _found(qrels: Qrels, run: Run, depth: int) -> np.ndarray:
    """The grades of what the run found, in trec_eval's order: int64 [queries, at most depth]."""
    rankings = [_scores(query, run.get(query, ())) for query in qrels]
    hits = [
        (row, passage, grade)
        for row, (judged, ranking) in enumerate(zip(qrels.values(), rankings, strict=True))
        for passage, grade in judged.items()
        if grade > 0 and passage in ranking
    ]
    sizes = np.array([len(ranking) for ranking in rankings])
    flat = chain.from_iterable(ranking.values() for ranking in rankings)
    scores = np.fromiter(flat, np.float64, int(sizes.sum()))
    _refuse_nan(scores, qrels, rankings)
    # A hit's rank is the number of scores above it: one sort and a look-up for each hit, where
    # ordering whole rankings would take longer.
    starts = np.cumsum(sizes) - sizes
    keys = _keys(np.repeat(np.arange(len(rankings)), sizes), scores)
    in_order = np.sort(keys)
    rows = np.array([row for row, _, _ in hits], np.int64)
    hit_keys = _keys(rows, np.array([rankings[row][passage] for row, passage, _ in hits]))
    above = np.searchsorted(in_order, hit_keys, side="left")
    ranks = above - starts[rows]
    tied = np.flatnonzero(np.searchsorted(in_order, hit_keys, side="right") - above > 1)
    for place in tied.tolist():
        row, passage, _ = hits[place]
        equal = keys[starts[row] : starts[row] + sizes[row]] == hit_keys[place]
        ranks[place] += sum(id > passage for id in compress(rankings[row], equal))
    grades = np.array([grade for _, _, grade in hits], np.int64)
    return _matrix(rows, ranks, grades, len(rankings), depth)


def _scores(query: str, ranking: Sequence[tuple[str, float]]) -> dict[str, float]:
    scores = dict(ranking)
    if len(scores) < len(ranking):
        twice = next(id for id, times in Counter(id for id, _ in ranking).items() if times > 1)
        raise InputError(f"query {query!r} ranks passage {twice!r} twice: list each passage once")
    return scores


def _refuse_nan(scores: np.ndarray, qrels: Qrels, rankings: Sequence[dict[str, float]]) -> None:
    if np.isnan(scores).any():
        query, passage = next(
            (query, passage)
            for query, ranking in zip(qrels, rankings, strict=True)
            for passage, score in ranking.items()
            if math.isnan(score)
        )
        raise InputError(f"query {query!r} scores passage {passage!r} NaN: give it a number")


def _keys(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """int64 that order as (row, score as float32, the larger first) do, for one fast sort."""
    with np.errstate(over="ignore"):
        bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0 makes -0 equal 0
    # As integers, the bits of floats have the floats' order, reversed among the negative.
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    return (rows << 32) - ordered


def _matrix(
    rows: np.ndarray, ranks: np.ndarray, values: np.ndarray, queries: int, depth: int
) -> np.ndarray:
    """The values at their rows and ranks among zeros, as deep as asked for and as they go."""
    width = max(1, min(depth, int(ranks.max(initial=0)) + 1))
    matrix = np.zeros((queries, width), np.int64)
    kept = ranks < width
    matrix[rows[kept], ranks[kept]] = values[kept]
    return matrix
