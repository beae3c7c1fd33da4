"""Systems beside each other: every pair on one measure, and an index beside exact search."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from tercet.core.schema import Run
from tercet.evaluation.results import Pair
from tercet.retrieval.significance import (
    bootstrap_difference,
    holm,
    randomisation_test,
    smallest_detectable,
)


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
