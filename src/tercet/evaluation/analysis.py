"""Where one system is better than another: kinds of queries, single queries, score margins.

Nothing here depends on the order in which queries, systems or passages are given.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np

from tercet.core.schema import InputError, Qrels, Query, Ranking, Run
from tercet.evaluation.results import Change, Changes, Hit, Margins, Pair, Slice
from tercet.retrieval.significance import (
    bootstrap_difference,
    holm,
    paired_bootstrap,
    randomisation_test,
    smallest_detectable,
)
from tercet.retrieval.validation import in_order

#: System -> query id -> figure.
Figures = Mapping[str, Mapping[str, float]]

#: Where the bands of a count begin. Zero is a query without text, or without a relevant passage.
_WORDS = (0, 1, 4, 8, 16)
_RELEVANT = (0, 1, 2, 5, 10)
_LONGEST = 300  # characters of a passage that is shown
_OUTSIDE = 0.005  # of a model's margins, at either end, may lie beyond the histogram's range
_ABSENT = "(not in the corpus)"


def slices(
    queries: Sequence[Query],
    qrels: Qrels,
    figures: Figures,
    baseline: str,
    resamples: int,
    seed: int,
) -> list[Slice]:
    """Figures by length of the query, in words between white space, and by relevant passages.

    Each query is in one slice of either kind; slices without queries are left out. The baseline
    comes first in each, the others by name. Intervals are not corrected for the number of slices:
    of twenty, chance makes one exclude zero.

    Raises InputError for a baseline without figures, and for figures of differing queries.
    """
    _check(figures, baseline)
    words = {query.id: len(query.text.split()) for query in queries}
    relevant = {id: sum(grade > 0 for grade in judged.values()) for id, judged in qrels.items()}
    systems = [baseline, *sorted(figures.keys() - {baseline})]
    found = []
    for name, counts, starts in (
        ("words in the query", words, _WORDS),
        ("relevant passages", relevant, _RELEVANT),
    ):
        bands: dict[int, list[str]] = {}
        for query in sorted(figures[baseline]):
            bands.setdefault(bisect_right(starts, counts.get(query, 0)) - 1, []).append(query)
        for band, members in sorted(bands.items()):
            value = _band_name(starts, band)
            for system in systems:
                after = [figures[system][query] for query in members]
                before = [figures[baseline][query] for query in members]
                mean = math.fsum(after) / len(after)
                row = Slice(name, value, len(members), system, mean, None, None, None)
                if system != baseline:
                    interval = paired_bootstrap(before, after, resamples=resamples, seed=seed)
                    row = replace(row, **asdict(interval))
                found.append(row)
    return found


def changes(
    system: str,
    baseline: str,
    figures: Figures,
    runs: Mapping[str, Run],
    queries: Sequence[Query],
    qrels: Qrels,
    texts: Mapping[str, str],
    most: int = 5,
    shown: int = 3,
) -> Changes:
    """The `most` queries that gained and that lost most, and every query's difference.

    Equal differences are ordered by query id. Of each, the first `shown` passages of either run and
    as many of the best-judged relevant ones, equal grades by passage id, whether found or not.
    Ranks are trec_eval's, as the figures' are. `texts` maps passage ids to texts.

    Raises InputError for a baseline without figures, and for figures of differing queries.
    """
    _check(figures, baseline)
    before, after = figures[baseline], figures[system]
    differences = {query: after[query] - before[query] for query in before}
    ascending = sorted(differences, key=lambda query: (differences[query], query))
    descending = sorted(differences, key=lambda query: (-differences[query], query))
    asked = {query.id: query.text for query in queries}

    def change(query: str) -> Change:
        judged = qrels.get(query, {})
        rankings = [as_measured(runs[name].get(query, ())) for name in (baseline, system)]
        ranks = {passage: rank for rank, (passage, _) in enumerate(rankings[1], 1)}

        def hit(passage: str, rank: int | None) -> Hit:
            text = excerpt(texts[passage]) if passage in texts else _ABSENT
            return Hit(rank, passage, judged.get(passage, 0), text)

        found = [[hit(p, rank) for rank, (p, _) in enumerate(r[:shown], 1)] for r in rankings]
        best = sorted((-grade, passage) for passage, grade in judged.items() if grade > 0)
        return Change(
            query_id=query,
            query=asked.get(query, ""),
            before=before[query],
            after=after[query],
            found_before=found[0],
            found_after=found[1],
            relevant=[hit(passage, ranks.get(passage)) for _, passage in best[:shown]],
        )

    return Changes(
        system=system,
        gained=[change(query) for query in descending[:most] if differences[query] > 0],
        lost=[change(query) for query in ascending[:most] if differences[query] < 0],
        differences={query: differences[query] for query in ascending},
    )


def wins(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[int, int, int]:
    """Queries whose figure is larger after than before, smaller, and equal.

    Raises InputError if the queries differ.
    """
    _check({"before": before, "after": after}, "before")
    differences = [after[query] - figure for query, figure in before.items()]
    won, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return won, lost, len(differences) - won - lost


def margins(
    teacher: Sequence[Sequence[float]],
    student: Sequence[Sequence[float]],
    scale: float,
    bins: int = 40,
) -> Margins:
    """Histograms of positive minus candidate, the positive being the first score of each list.

    The teacher's margins are multiplied by `scale`. Both models share the edges, and zero is one of
    them: a candidate that scores above its positive is counted below it. The edges span all but
    the half per cent of either model's margins that are smallest, and that are largest; the two
    outer bins hold those too, so that every margin is counted.

    Raises InputError for lists that do not go together, without a candidate or not finite.
    """
    if [len(scores) for scores in teacher] != [len(scores) for scores in student]:
        raise InputError("the teacher's and the student's lists differ in length: give both alike")
    both = [_margins(teacher) * scale, _margins(student)]
    if not both[0].size or not np.isfinite(both).all():
        raise InputError("the lists hold no candidates, or scores that are not finite numbers")
    edges = _edges(np.quantile(both, [_OUTSIDE, 1 - _OUTSIDE], axis=1), bins)
    counts = [np.histogram(np.clip(m, edges[0], edges[-1]), edges)[0].tolist() for m in both]
    return Margins(edges.tolist(), teacher=counts[0], student=counts[1], scale=float(scale))


def as_measured(ranking: Ranking) -> Ranking:
    """The ranking in the order that the measures see: scores are float32 to them."""
    pairs = [(passage, float(np.float32(score))) for passage, score in ranking]
    return in_order(pairs, len(pairs))


def excerpt(text: str, longest: int = _LONGEST) -> str:
    """The text on one line, cut to `longest` characters: after a word where one ends near by."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    end = line.rfind(" ", longest // 2, longest)
    # Where nothing ends, as in scripts without spaces, it is cut anywhere.
    return line[: end if end > 0 else longest - 1] + "…"


def _check(figures: Figures, baseline: str) -> None:
    if baseline not in figures:
        raise InputError(f"the baseline {baseline!r} is none of {', '.join(sorted(figures))}")
    for system in sorted(figures):
        odd = sorted(figures[system].keys() ^ figures[baseline].keys())
        if odd:
            raise InputError(
                f"{system!r} and {baseline!r} do not both have a figure for query {odd[0]!r}: "
                "measure them on the same queries"
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
    """float64 [bins + 1], evenly apart, zero among them, from below the span to above it."""
    low, high = min(float(span.min()), 0.0), max(float(span.max()), 0.0)
    # One bin to spare, for zero moves the others by up to one.
    width = (high - low) / (bins - 1)
    if width < np.finfo(np.float32).tiny:
        width = 1 / bins
    return (math.floor(low / width) + np.arange(bins + 1)) * width


def compare_all(
    figures: Mapping[str, Mapping[str, float]], *, resamples: int, seed: int
) -> list[Pair]:
    """Each pair of systems on one measure, system -> query id -> figure; largest difference first.

    The order of systems and of queries changes nothing.
    """
    names = sorted(figures)
    pairs = list(combinations(names, 2))
    if not pairs:
        return []
    queries = sorted(figures[names[0]])
    columns = {name: np.array([figures[name][query] for query in queries]) for name in names}
    # The larger mean first, so that differences are gains; of equal means, the name decides.
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
            wins=int((column > 0).sum()),
            losses=int((column < 0).sum()),
            ties=int((column == 0).sum()),
        )
        for i, column in enumerate(differences.T)
    ]
    return sorted(compared, key=lambda pair: (-pair.difference, pair.first, pair.second))


def overlap(exact: Run, approximate: Run, k: int) -> float:
    """The mean share of each query's k best passages by exact search that the other run's k hold.

    A query that exact search finds nothing for has nothing to miss.
    """
    shares = []
    for query, ranking in exact.items():
        best = {passage for passage, _ in ranking[:k]}
        if best:
            found = {passage for passage, _ in approximate[query][:k]}
            shares.append(len(best & found) / len(best))
    return float(np.mean(shares)) if shares else 1.0
