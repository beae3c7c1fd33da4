"""MAP, MRR, nDCG, recall, precision and hit rate at k, by trec_eval's rules.

A ranking is sorted by score, ties by passage id, both in descending order; the order in which a run
lists its passages does not matter. Scores are compared as float32, as in trec_eval: scores that
differ only beyond it are ties. A grade above zero is relevant; other grades count as no judgement.
Every query of the qrels has a value of each metric: zero if the run misses it or if it has no
relevant passage (remove such queries from the qrels to leave them out of the mean).

`evaluate` takes ids and builds an `IndexedRun`. Callers with integer codes build one themselves and
can evaluate it many times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, compress, repeat

import numpy as np

from tercet.core import plugins
from tercet.core.metric_names import parse_metric
from tercet.core.schema import Graded, InputError, Metric, Qrels, Ranking, Run

#: Metric values of queries: metric -> query id -> value.
Figures = Mapping[str, Mapping[str, float]]

_CODES = 1 << 31  # codes and row numbers are below this, so that both fit into a 64-bit key
_BUCKETS = 256  # a power of two


def _sums(values: np.ndarray) -> np.ndarray:
    # From left to right: zeros that a deeper ranking appends change no bit of the sum.
    return np.cumsum(values, axis=1)[:, -1]


def _average_precision(graded: Graded, k: int) -> np.ndarray:
    hits = graded.hits(k)
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return _sums(precisions * hits) / np.maximum(graded.relevant, 1)


def _reciprocal_rank(graded: Graded, k: int) -> np.ndarray:
    hits = graded.hits(k)
    return hits.any(axis=1) / (hits.argmax(axis=1) + 1)


def _ndcg(graded: Graded, k: int) -> np.ndarray:
    ideal = _discounted(graded.ideal[:, :k])
    return _discounted(graded.found[:, :k]) / np.where(ideal > 0, ideal, 1)


def _discounted(grades: np.ndarray) -> np.ndarray:
    return _sums(grades / np.log2(np.arange(2, grades.shape[1] + 2)))


def _recall(graded: Graded, k: int) -> np.ndarray:
    return graded.hits(k).sum(axis=1) / np.maximum(graded.relevant, 1)


def _precision(graded: Graded, k: int) -> np.ndarray:
    return graded.hits(k).sum(axis=1) / k


def _hit(graded: Graded, k: int) -> np.ndarray:
    return np.asarray(graded.hits(k).any(axis=1), np.float64)


_METRICS: dict[str, Metric] = {
    "map": _average_precision,
    "mrr": _reciprocal_rank,
    "ndcg": _ndcg,
    "recall": _recall,
    "precision": _precision,
    "hit": _hit,
}


def _values(graded: Graded, name: str, k: int) -> np.ndarray:
    """float64 [queries] of a built-in metric or a plug-in."""
    if name in _METRICS:
        return _METRICS[name](graded, k)
    values = np.asarray(plugins.make("metrics", name, {})(graded, k), np.float64)
    if values.shape != graded.relevant.shape or not np.isfinite(values).all():
        raise InputError(f"metric {name} gives {values.shape} values, or some that are not finite")
    return values


class IndexedRun:
    """A run and its judgements as integer codes, ready for evaluation.

    A row is a query. `codes` and `scores`, [queries, depth], are its ranking in any order: a code
    is an integer below 2^31, larger for the larger passage id of a row, or -1 for an empty rank;
    scores are kept as float32. `judged` holds three arrays of one length, in any order: the row,
    the passage's code and the grade of each judged pair.

    Raises InputError for shapes that do not match, codes and rows out of range, a grade that is not
    an integer, a score that is NaN, a passage that a ranking holds twice and a pair that is judged
    twice.
    """

    def __init__(
        self,
        codes: np.ndarray,
        scores: np.ndarray,
        judged: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        if np.ndim(codes) != 2 or np.shape(codes) != np.shape(scores):
            raise InputError(
                f"codes of shape {np.shape(codes)}, scores of shape {np.shape(scores)}: "
                "give [queries, depth] for both"
            )
        self._codes = _whole(codes, "a code", -1, _CODES)
        self._scores = _float32(scores)
        places = self._codes >= 0
        if np.isnan(self._scores[places]).any():
            row, column = np.argwhere(np.isnan(self._scores) & places)[0].tolist()
            raise InputError(
                f"row {row} scores passage {self._codes[row, column]} NaN: give it a number"
            )
        in_order = np.sort(self._codes, axis=1)
        twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
        if twice.any():
            row, column = np.argwhere(twice)[0].tolist()
            passage = in_order[row, column]
            raise InputError(f"row {row} ranks passage {passage} twice: list each passage once")
        self._judge(*judged)

    def _judge(self, rows: np.ndarray, codes: np.ndarray, grades: np.ndarray) -> None:
        """Store the relevant pairs as sorted keys, and the grades of a perfect ranking."""
        rows = _whole(rows, "a judged pair's row", 0, len(self._codes))
        codes = _whole(codes, "a judged pair's code", 0, _CODES)
        grades = _whole(grades, "a grade")
        if not rows.shape == codes.shape == grades.shape == (rows.size,):
            raise InputError("the judged pairs' rows, codes and grades are not three equal lists")
        keys = rows << 32 | codes
        order = np.argsort(keys)
        self._keys, self._grades = keys[order], grades[order]
        twice = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        if twice.size:
            row, passage = divmod(int(self._keys[twice[0]]), 1 << 32)
            raise InputError(f"row {row} judges passage {passage} twice: give each pair one grade")
        relevant = self._grades > 0
        self._keys, self._grades = self._keys[relevant], self._grades[relevant]
        rows = self._keys >> 32
        order = np.lexsort((-self._grades, rows))
        self._relevant = np.bincount(rows, minlength=len(self._codes))
        starts = np.cumsum(self._relevant) - self._relevant
        self._ideal = rows, np.arange(len(rows)) - starts[rows], self._grades[order]

    @classmethod
    def from_ids(cls, qrels: Qrels, run: Run) -> IndexedRun:
        """Build it from ids, a row per query of the qrels; errors name queries and passages."""
        if not qrels:
            raise InputError("the judgements hold no query: there is nothing to evaluate")
        judged = list(qrels.values())
        rankings = [_by_id(query, run.get(query, ())) for query in qrels]
        sizes = np.array([len(ranking) for ranking in rankings])
        taken = np.arange(max(1, sizes.max())) < sizes[:, None]
        flat = chain.from_iterable(ranking.values() for ranking in rankings)
        scores = _placed(_float32(np.fromiter(flat, np.float64, int(sizes.sum()))), taken, -np.inf)
        _refuse_nan(scores, qrels, rankings)
        numbers = list(map(_numbered, judged, rankings, _ties(scores)))
        coded = chain.from_iterable(map(_coded, numbers, rankings))
        codes = _placed(np.fromiter(coded, np.int64, int(sizes.sum())), taken, -1)
        others = max(map(len, numbers)) + np.arange(taken.shape[1])
        codes = np.where(taken & (codes < 0), others, codes)
        pairs = np.repeat(np.arange(len(judged)), list(map(len, judged)))
        passages = np.fromiter(chain.from_iterable(map(_coded, numbers, judged)), np.int64)
        grades = list(chain.from_iterable(row.values() for row in judged))
        return cls(codes, scores, (pairs, passages, np.array(grades)))

    def evaluate(self, metrics: Sequence[str]) -> dict[str, np.ndarray]:
        """Values of each metric: float64 [queries], in the order of the rows."""
        parsed = {metric: parse_metric(metric) for metric in metrics}
        depth = max((k for _, k in parsed.values()), default=1)
        graded = Graded(
            found=self._found(depth),
            ideal=_matrix(*self._ideal, len(self._codes), depth),
            relevant=self._relevant,
        )
        return {metric: _values(graded, name, k) for metric, (name, k) in parsed.items()}

    def _found(self, depth: int) -> np.ndarray:
        """Grades of the ranked passages in trec_eval's order: int64 [queries, at most depth]."""
        bits = (self._scores + np.float32(0)).view(np.int32)  # + 0 makes -0 equal 0
        # The bits of floats, read as integers, sort as the floats do; negative ones in reverse.
        ordered = bits ^ (bits >> 31 & np.int32(_CODES - 1))
        keys = ordered.astype(np.int64) << 32 | self._codes
        keys[self._codes < 0] = -_CODES << 32 | _CODES  # below -inf, with an unused code
        codes = np.sort(keys, axis=1)[:, : -depth - 1 : -1] & (2 * _CODES - 1)
        # Few ranks hold a relevant passage: a coarse table spares most of them the binary search
        # among the judgements.
        rows = np.arange(len(codes))[:, None]
        known = np.zeros(len(codes) * _BUCKETS, bool)
        known[(self._keys >> 32) * _BUCKETS | (self._keys & (_BUCKETS - 1))] = True
        row, rank = np.nonzero(known[rows * _BUCKETS | (codes & (_BUCKETS - 1))])
        wanted = row << 32 | codes[row, rank]
        place = np.searchsorted(self._keys[:-1], wanted)
        hit = self._keys[place] == wanted
        return _matrix(row[hit], rank[hit], self._grades[place[hit]], len(codes), depth)


def evaluate(qrels: Qrels, run: Run, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Values of each metric for every query of the qrels: metric -> query id -> value.

    Metrics are "map@k" (divided by the number of relevant passages, as trec_eval's map_cut),
    "mrr@k", "ndcg@k" (linear gain, as ndcg_cut), "recall@k", "precision@k" and "hit@k". Queries of
    the run without judgements are ignored.

    Raises InputError for an unknown metric, for qrels without queries, for a grade that is not an
    integer, for a score that is NaN, and for a passage that a ranking holds twice.
    """
    for metric in metrics:
        parse_metric(metric)
    found = IndexedRun.from_ids(qrels, run).evaluate(metrics)
    return {
        metric: dict(zip(qrels, values.tolist(), strict=True)) for metric, values in found.items()
    }


def mean(values: Figures) -> dict[str, float]:
    """The mean of each metric over queries. Sums are exact, so their order changes no bit."""
    for metric, of_queries in values.items():
        if not of_queries:
            raise InputError(f"{metric} has no values: there is no mean of nothing")
    return {metric: math.fsum(each.values()) / len(each) for metric, each in values.items()}


def _by_id(query: str, ranking: Ranking) -> dict[str, float]:
    scores = dict(ranking)
    if len(scores) < len(ranking):
        twice = next(id for id, times in Counter(id for id, _ in ranking).items() if times > 1)
        raise InputError(f"query {query!r} ranks passage {twice!r} twice: list each passage once")
    return scores


def _refuse_nan(scores: np.ndarray, qrels: Qrels, rankings: Sequence[dict[str, float]]) -> None:
    faulty = np.isnan(scores).any(axis=1)
    if faulty.any():
        query, ranking = next(compress(zip(qrels, rankings, strict=True), faulty))
        passage = next(id for id, score in ranking.items() if math.isnan(score))
        raise InputError(f"query {query!r} scores passage {passage!r} NaN: give it a number")


def _whole(values: np.ndarray, what: str, least: int | None = None, end: int = 0) -> np.ndarray:
    """The values as int64, checked to be integers from `least` to `end` - 1 if these are given."""
    values = np.asarray(values)
    if values.size and values.dtype.kind not in "iub":
        hint = ", above 0 for relevant" if what == "a grade" else ""
        raise InputError(f"{what} is not a whole number: give integers{hint}")
    if least is not None and values.size and not least <= values.min() <= values.max() < end:
        raise InputError(f"{what} is not from {least} to {end - 1}")
    return values.astype(np.int64)


def _float32(scores: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite
        return np.asarray(scores).astype(np.float32)


def _placed(values: np.ndarray, taken: np.ndarray, empty: float) -> np.ndarray:
    """A matrix with the values at the places that are taken, row by row."""
    if taken.all():
        return values.reshape(taken.shape)
    matrix = np.full(taken.shape, empty, values.dtype)
    matrix[taken] = values
    return matrix


def _ties(scores: np.ndarray) -> list[list[bool]]:
    """For each row, which of its places hold a tied score; empty if none do."""
    in_order = np.sort(scores, axis=1)
    equal = in_order[:, 1:] == in_order[:, :-1]
    rows = np.flatnonzero(equal.any(axis=1))
    tied = np.zeros((len(rows), scores.shape[1]), bool)
    tied[:, 1:] = equal[rows]
    tied[:, :-1] |= equal[rows]
    places = np.empty_like(tied)
    np.put_along_axis(places, np.argsort(scores[rows], axis=1), tied, axis=1)
    every: list[list[bool]] = [[]] * len(scores)
    for row, there in zip(rows.tolist(), places.tolist(), strict=True):
        every[row] = there
    return every


def _numbered(judged: Iterable[str], ranked: Iterable[str], tied: Sequence[bool]) -> dict[str, int]:
    """Codes in the order of ids, for the judged passages and those with tied scores."""
    return {id: code for code, id in enumerate(sorted({*judged, *compress(ranked, tied)}))}


def _coded(number: dict[str, int], ids: Mapping[str, object]) -> Iterable[int]:
    """The codes of the ids, -1 for ids without one."""
    if ids.keys().isdisjoint(number):
        return repeat(-1, len(ids))
    return map(number.get, ids, repeat(-1))


def _matrix(
    rows: np.ndarray, ranks: np.ndarray, values: np.ndarray, queries: int, depth: int
) -> np.ndarray:
    """The values at their rows and ranks, else zeros; cut at `depth` or after the last rank."""
    width = max(1, min(depth, int(ranks.max(initial=0)) + 1))
    matrix = np.zeros((queries, width), np.int64)
    kept = ranks < width
    matrix[rows[kept], ranks[kept]] = values[kept]
    return matrix
