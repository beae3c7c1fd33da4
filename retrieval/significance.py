"""Whether a difference between two systems is more than the choice of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet.schema import InputError

_DRAWS_AT_ONCE = 1 << 21  # indices in memory: 16 MiB, and as much again for what they pick


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference, after minus before, and the interval that its resamples span."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends lie on one side of zero: the difference is significant."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    resamples: int = 10_000,
    seed: int = 13,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of the mean difference over resampled queries.

    `before` and `after` hold one figure for each query, in the same order of queries; which order
    that is changes nothing. Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.

    Raises InputError for lengths that differ, for no queries, for figures that are not finite, for
    a level outside (0, 1) and for no resamples.
    """
    if resamples < 1 or not 0 < level < 1:
        raise InputError(
            f"a bootstrap of {resamples} resamples at level {level}: "
            "give at least 1 resample and a level between 0 and 1"
        )
    pair = _figures(before, "before"), _figures(after, "after")
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"{len(pair[0])} figures before and {len(pair[1])} after: give both for every query"
        )
    # Sorted, so that the draws do not depend on the order in which the queries came.
    differences = np.sort(pair[1] - pair[0])
    queries = len(differences)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _DRAWS_AT_ONCE // queries)
    for start in range(0, resamples, step):
        block = means[start : start + step]
        drawn = generator.integers(queries, size=(len(block), queries))
        block[:] = differences[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(differences.mean()), float(low), float(high))


def _figures(values: Sequence[float] | np.ndarray, which: str) -> np.ndarray:
    figures = np.asarray(values, np.float64)
    if figures.ndim != 1 or not figures.size:
        raise InputError(f"the figures {which} are empty or not a list: give one for each query")
    if not np.isfinite(figures).all():
        query = int(np.flatnonzero(~np.isfinite(figures))[0])
        raise InputError(f"figure {query} {which} (counted from 0) is not a finite number")
    return figures
