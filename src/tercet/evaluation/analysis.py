"""Comparisons of systems: all pairs, slices of queries, single queries, score margins.

No result depends on the order of queries, systems or passages.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np

from tercet.core.schema import InputError, Qrels, Query, Ranking, Run
from tercet.core.text import excerpt
from tercet.evaluation.results import Change, Changes, Hit, Margins, Pair, Slice
from tercet.retrieval.significance import (
    bootstrap_difference,
    holm,
    paired_bootstrap,
    randomisation_test,
    smallest_detectable,
)
from tercet.retrieval.validation import in_order

#: System -> query id -> value of one metric.
_Values = Mapping[str, Mapping[str, float]]

#: Lower bounds of the slices. Zero is a query without text, or without a relevant passage.
_WORDS = (0, 1, 4, 8, 16)
_RELEVANT = (0, 1, 2, 5, 10)
#: Characters of a passage in a report.
PASSAGE_CHARACTERS = 300
_OUTSIDE = 0.005  # share of a model's margins beyond either end of the histogram
_ABSENT = "(not in the corpus)"


def slices(
    queries: Sequence[Query],
    qrels: Qrels,
    values: _Values,
    baseline: str,
    resamples: int,
    seed: int,
) -> list[Slice]:
    """Means by query length, in whitespace-separated words, and by number of relevant passages.

    Each query is in one slice of either kind; slices without queries are left out. The baseline
    comes first in each, the others by name. Intervals are not corrected for the number of slices:
    of twenty, about one excludes zero by chance.

    Raises InputError for an unknown baseline and for systems with different queries.
    """
    _check(values, baseline)
    words = {query.id: len(query.text.split()) for query in queries}
    relevant = {id: sum(grade > 0 for grade in judged.values()) for id, judged in qrels.items()}
    systems = [baseline, *sorted(values.keys() - {baseline})]
    rows = []
    for name, counts, starts in (
        ("words in the query", words, _WORDS),
        ("relevant passages", relevant, _RELEVANT),
    ):
        bands: dict[int, list[str]] = {}
        for query in sorted(values[baseline]):
            bands.setdefault(bisect_right(starts, counts.get(query, 0)) - 1, []).append(query)
        for band, members in sorted(bands.items()):
            for system in systems:
                after = [values[system][query] for query in members]
                before = [values[baseline][query] for query in members]
                mean = math.fsum(after) / len(after)
                label = _band_name(starts, band)
                row = Slice(name, label, len(members), system, mean, None, None, None)
                if system != baseline:
                    interval = paired_bootstrap(before, after, resamples=resamples, seed=seed)
                    row = replace(row, **asdict(interval))
                rows.append(row)
    return rows


def changes(
    system: str,
    baseline: str,
    values: _Values,
    runs: Mapping[str, Run],
    queries: Sequence[Query],
    qrels: Qrels,
    texts: Mapping[str, str],
    most: int = 5,
    shown: int = 3,
) -> Changes:
    """The `most` queries with the largest gains and losses, and every query's difference.

    Equal differences are ordered by query id. Each query comes with the first `shown` passages of
    both runs and as many relevant ones, the highest grades first and equal grades by passage id,
    retrieved or not. Ranks are trec_eval's. `texts` maps passage ids to texts.

    Raises InputError for an unknown baseline and for systems with different queries.
    """
    _check(values, baseline)
    before, after = values[baseline], values[system]
    differences = {query: after[query] - before[query] for query in before}
    ascending = sorted(differences, key=lambda query: (differences[query], query))
    descending = sorted(differences, key=lambda query: (-differences[query], query))
    query_texts = {query.id: query.text for query in queries}

    def change(query: str) -> Change:
        judged = qrels.get(query, {})
        rankings = [trec_order(runs[name].get(query, ())) for name in (baseline, system)]
        ranks = {passage: rank for rank, (passage, _) in enumerate(rankings[1], 1)}

        def hit(passage: str, rank: int | None) -> Hit:
            text = excerpt(texts[passage], PASSAGE_CHARACTERS) if passage in texts else _ABSENT
            return Hit(rank, passage, judged.get(passage, 0), text)

        hits = [[hit(p, rank) for rank, (p, _) in enumerate(r[:shown], 1)] for r in rankings]
        best = sorted((-grade, passage) for passage, grade in judged.items() if grade > 0)
        return Change(
            query_id=query,
            query=query_texts.get(query, ""),
            before=before[query],
            after=after[query],
            found_before=hits[0],
            found_after=hits[1],
            relevant=[hit(passage, ranks.get(passage)) for _, passage in best[:shown]],
        )

    return Changes(
        system=system,
        gained=[change(query) for query in descending[:most] if differences[query] > 0],
        lost=[change(query) for query in ascending[:most] if differences[query] < 0],
        differences={query: differences[query] for query in ascending},
    )


def wins(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[int, int, int]:
    """Number of queries with a larger value after than before, a smaller one, and an equal one.

    Raises InputError if the queries differ.
    """
    _check({"before": before, "after": after}, "before")
    return _signs(np.array([after[query] - value for query, value in before.items()]))


def _signs(differences: np.ndarray) -> tuple[int, int, int]:
    return int((differences > 0).sum()), int((differences < 0).sum()), int((differences == 0).sum())


def margins(
    teacher: Sequence[Sequence[float]],
    student: Sequence[Sequence[float]],
    scale: float,
    bins: int = 40,
) -> Margins:
    """Histograms of the positive's score minus each candidate's; the positive is first in a list.

    The teacher's margins are multiplied by `scale`. Both models share the edges, one of which is
    zero: candidates that score above their positive are counted below it. The edges leave out the
    0.5% smallest and largest margins of either model, which the outer bins count too.

    Raises InputError for lists of different lengths, without candidates, or with scores that are
    not finite.
    """
    if [len(scores) for scores in teacher] != [len(scores) for scores in student]:
        raise InputError("the teacher's and the student's lists differ in length: give both alike")
    both = [_margins(teacher) * scale, _margins(student)]
    if not both[0].size or not np.isfinite(both).all():
        raise InputError("the lists hold no candidates, or scores that are not finite numbers")
    span = np.quantile(both, [_OUTSIDE, 1 - _OUTSIDE], axis=1)
    negative = np.concatenate([margins[margins < 0] for margins in both])
    # A bin below zero, however few margins belong there.
    edges = _edges(np.append(span, negative.max() if negative.size else 0.0), bins)
    counts = [np.histogram(np.clip(m, edges[0], edges[-1]), edges)[0].tolist() for m in both]
    return Margins(edges.tolist(), teacher=counts[0], student=counts[1], scale=float(scale))


def trec_order(ranking: Ranking) -> Ranking:
    """The ranking as the metrics order it, which compare scores as float32."""
    pairs = [(passage, float(np.float32(score))) for passage, score in ranking]
    return in_order(pairs, len(pairs))


def _check(values: _Values, baseline: str) -> None:
    if baseline not in values:
        raise InputError(f"the baseline {baseline!r} is none of {', '.join(sorted(values))}")
    for system in sorted(values):
        odd = sorted(values[system].keys() ^ values[baseline].keys())
        if odd:
            raise InputError(
                f"{system!r} and {baseline!r} do not both have a value for query {odd[0]!r}: "
                "evaluate them on the same queries"
            )


def _band_name(starts: Sequence[int], band: int) -> str:
    if band + 1 == len(starts):
        return f"{starts[band]}+"
    first, last = starts[band], starts[band + 1] - 1
    return str(first) if first == last else f"{first}-{last}"


def _margins(lists: Sequence[Sequence[float]]) -> np.ndarray:
    arrays = [np.asarray(scores, np.float64) for scores in lists]
    return np.concatenate([scores[:1] - scores[1:] for scores in arrays] or [np.empty(0)])


def _edges(span: np.ndarray, bins: int) -> np.ndarray:
    """float64 [bins + 1]: evenly spaced edges that cover the span and include zero."""
    low, high = min(float(span.min()), 0.0), max(float(span.max()), 0.0)
    # One bin to spare: aligning an edge with zero shifts the others by up to one bin.
    width = (high - low) / (bins - 1)
    if width < np.finfo(np.float32).tiny:
        width = 1 / bins
    # Rounding must not end the edges at zero: a margin of zero belongs to the bin above it.
    first = max(math.floor(low / width), 1 - bins)
    return (first + np.arange(bins + 1)) * width


def compare_all(values: _Values, *, resamples: int, seed: int) -> list[Pair]:
    """Every pair of systems on one metric, the largest difference first."""
    names = sorted(values)
    pairs = list(combinations(names, 2))
    if not pairs:
        return []
    queries = sorted(values[names[0]])
    columns = {name: np.array([values[name][query] for query in queries]) for name in names}
    # The larger mean comes first, so differences are gains; equal means are ordered by name.
    pairs = [(b, a) if columns[b].mean() > columns[a].mean() else (a, b) for a, b in pairs]
    differences = np.array([columns[first] - columns[second] for first, second in pairs]).T
    intervals = bootstrap_difference(differences, resamples=resamples, seed=seed)
    ps = randomisation_test(differences, permutations=resamples, seed=seed)
    corrected, detectable = holm(ps), smallest_detectable(differences)
    compared = [
        Pair(
            first=pairs[i][0],
            second=pairs[i][1],
            difference=float(intervals.mean[i]),
            low=float(intervals.low[i]),
            high=float(intervals.high[i]),
            p=float(ps[i]),
            p_holm=float(corrected[i]),
            detectable=float(detectable[i]),
            **dict(zip(("wins", "losses", "ties"), _signs(column), strict=True)),
        )
        for i, column in enumerate(differences.T)
    ]
    return sorted(compared, key=lambda pair: (-pair.difference, pair.first, pair.second))


def overlap(exact: Run, approximate: Run, k: int) -> float:
    """Recall@k of an approximate index: the mean share of exact search's k best that it returns.

    Queries without exact results are left out.
    """
    shares = []
    for query, ranking in exact.items():
        best = {passage for passage, _ in ranking[:k]}
        if best:
            found = {passage for passage, _ in approximate[query][:k]}
            shares.append(len(best & found) / len(best))
    return float(np.mean(shares)) if shares else 1.0
