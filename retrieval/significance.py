"""Whether a difference between two systems is more than the choice of queries.

Figures come as matrices, [queries, columns], and every column has its own answer: it depends on
that column's figures and the seed, neither on the order of the queries nor on the other columns.
The columns share the random draws all the same, for each is sorted before it is drawn from. The
sums are exact, so threads, blocks and the order of columns change no last bit either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tercet.core.schema import InputError

_DRAWS_AT_ONCE = 1 << 21  # draws in memory: 16 MiB, and as much again for what they count


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


class Intervals(NamedTuple):
    """A mean for each column, and the ends of its interval: float64 [columns]."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def paired_bootstrap(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    resamples: int = 10_000,
    seed: int = 13,
    level: float = 0.95,
) -> Interval:
    """The interval of the mean difference over resampled queries: see `bootstrap_difference`.

    `before` and `after` hold one figure for each query, in the same order of queries; which order
    that is changes nothing.

    Raises InputError for lengths that differ, for no queries, for figures that are not finite, for
    a level outside (0, 1) and for no resamples.
    """
    pair = _figures(before, "before"), _figures(after, "after")
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"{len(pair[0])} figures before and {len(pair[1])} after: give both for every query"
        )
    found = bootstrap_difference((pair[1] - pair[0])[:, None], resamples, seed, level)
    return Interval(*(float(values[0]) for values in found))


def bootstrap_difference(
    differences: np.ndarray, resamples: int = 10_000, seed: int = 13, level: float = 0.95
) -> Intervals:
    """Intervals of mean differences, each mirrored where its column changes sign.

    The mean, plus and minus what `level` of the resampled means deviate from it at most, widened
    as Student's t is beside the normal and for the divisor n - 1. Real per-query differences are
    skewed and largely zero. Over 4,000 samples of 50 queries from each of 16 populations of them,
    5 to 86% zeros, the plain percentile interval covered the truth in 89 to 94%, this one in 93 to
    98%; the bias-corrected and the studentised one did worse. Where more than 90% are zero, 50
    queries are too few for any of them. After Efron and Tibshirani, An Introduction to the
    Bootstrap, chapter 13, and Hall, The Bootstrap and Edgeworth Expansion, section 3.6.

    One query tells nothing of others: its interval holds all that figures from 0 to 1 can differ
    by. Raises InputError for no queries, for differences that are not finite, for a level outside
    (0, 1) and for no resamples.
    """
    matrix = _matrix(differences)
    _check(resamples, level)
    mean, queries = _means(matrix), len(matrix)
    if queries == 1:
        return Intervals(mean, np.minimum(mean, -1), np.maximum(mean, 1))
    sums, total, unit = _resampled_sums(matrix, resamples, seed)
    deviations = np.abs(sums - total[:, None])
    place = min(deviations.shape[1], math.ceil(level * (deviations.shape[1] + 1))) - 1
    reach = np.partition(deviations, place, axis=1)[:, place] * unit / queries
    reach *= _widening(queries, level) / _normal(level)
    return Intervals(mean, mean - reach, mean + reach)


def bootstrap_mean(
    figures: np.ndarray, resamples: int = 10_000, seed: int = 13, level: float = 0.95
) -> Intervals:
    """Intervals of means, none beyond the least and the largest figure of its column.

    The percentiles of the resampled means, at a level that is raised as `bootstrap_difference`
    widens: a symmetric interval would reach beyond 1 where a system is nearly perfect. After
    Hesterberg, What Teachers Should Know about the Bootstrap, 2015.

    One query tells nothing of others: its interval is from 0 to 1. Raises InputError as
    `bootstrap_difference` does.
    """
    matrix = _matrix(figures)
    _check(resamples, level)
    mean, queries = _means(matrix), len(matrix)
    if queries == 1:
        return Intervals(mean, np.minimum(mean, 0), np.maximum(mean, 1))
    sums, _, unit = _resampled_sums(matrix, resamples, seed)
    tail = NormalDist().cdf(-_widening(queries, level))
    place = max(0, math.floor(tail * (sums.shape[1] + 1)) - 1)
    ends = np.partition(sums, [place, -1 - place], axis=1)[:, [place, -1 - place]]
    low, high = ends.T * unit / queries
    return Intervals(mean, np.minimum(low, mean), np.maximum(high, mean))


def randomisation_test(
    differences: np.ndarray, permutations: int = 10_000, seed: int = 13
) -> np.ndarray:
    """Two-sided p of each column's mean under random changes of its differences' signs.

    float64 [pairs], (b + 1) / (permutations + 1) where b of them reach the mean that was observed
    or more, on either side: Smucker, Allan and Carterette, A Comparison of Statistical Significance
    Tests for Information Retrieval Evaluation, 2007. Swapping the systems of a pair changes
    nothing. Raises InputError for no queries, differences that are not finite, no permutations.
    """
    matrix = _matrix(differences)
    if permutations < 1:
        raise InputError(f"{permutations} permutations: give at least 1")
    grid, _ = _on_grid(matrix)
    # Rounding to the grid moves each of two sums by half a unit for each query at most.
    observed = np.abs(grid.sum(axis=0)) - len(grid)
    sizes = np.sort(np.abs(grid), axis=0)
    generator = np.random.default_rng(seed)
    reached = np.zeros(grid.shape[1], np.int64)
    for count in _blocks(permutations, len(grid)):
        signs = 2.0 * generator.integers(2, size=(count, len(grid))) - 1
        reached += (np.abs(signs @ sizes) >= observed).sum(axis=0)
    return (reached + 1) / (permutations + 1)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P values corrected for their number, in the order given: Holm 1979, step down, at most 1.

    Raises InputError for a value outside [0, 1].
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise InputError("the p values are not a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def smallest_detectable(differences: np.ndarray) -> np.ndarray:
    """The mean difference that so many queries show with 80% power at .05, two-sided, by column.

    2.8 standard deviations of the differences by the root of their number: 2.8 is 1.96 + 0.84, the
    normal quantiles of the level and the power. Of one query the deviation is taken to be 1, the
    largest that figures from 0 to 1 can have. Raises InputError for no queries and for differences
    that are not finite.
    """
    matrix = _matrix(differences)
    if len(matrix) == 1:
        return np.full(matrix.shape[1], 2.8)
    squares = _means((matrix - _means(matrix)) ** 2) * len(matrix) / (len(matrix) - 1)
    return 2.8 * np.sqrt(squares / len(matrix))


def _resampled_sums(
    matrix: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of resampled queries in units of the grid, [columns, resamples]; the sum; the unit.

    Every resample comes with its mirror image, which counts the largest figure as often as it does
    the least, and so on: turning a column's sign turns that of all its sums. An odd number of
    resamples is rounded up.
    """
    grid, unit = _on_grid(matrix)
    grid = np.sort(grid, axis=0)
    queries, columns = grid.shape
    half = -(-resamples // 2)
    sums = np.empty((columns, 2, half))
    generator = np.random.default_rng(seed)
    start = 0
    for count in _blocks(half, queries):
        drawn = generator.integers(queries, size=(count, queries))
        drawn += queries * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        weights = times.astype(np.float64)
        for mirror, rows in enumerate((grid, grid[::-1])):
            sums[:, mirror, start : start + count] = (weights @ rows).T
        start += count
    return sums.reshape(columns, -1), grid.sum(axis=0), unit


def _on_grid(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column in whole multiples of a power of two so fine that no sum of them is rounded."""
    _, exponents = np.frexp(np.abs(matrix).max(axis=0) * len(matrix))
    unit = np.ldexp(1.0, np.maximum(exponents, -900) - 52)
    return np.rint(matrix / unit), unit


def _blocks(rounds: int, queries: int) -> Iterator[int]:
    step = max(1, _DRAWS_AT_ONCE // queries)
    for start in range(0, rounds, step):
        yield min(step, rounds - start)


def _widening(queries: int, level: float) -> float:
    """Student's t quantile times the root of n / (n - 1), the normal quantile's stand-in."""
    z, freedom = _normal(level), queries - 1
    # Cornish and Fisher's expansion: within 1% of t from 3 degrees of freedom, too small below.
    t = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    return t * math.sqrt(queries / freedom)


def _normal(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _means(matrix: np.ndarray) -> np.ndarray:
    return np.array([math.fsum(column) / len(matrix) for column in matrix.T.tolist()])


def _check(resamples: int, level: float) -> None:
    if resamples < 1 or not 0 < level < 1:
        raise InputError(
            f"a bootstrap of {resamples} resamples at level {level}: "
            "give at least 1 resample and a level between 0 and 1"
        )


def _matrix(values: np.ndarray) -> np.ndarray:
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or not len(matrix):
        raise InputError(
            f"figures of shape {matrix.shape}: give [queries, columns], at least one query"
        )
    if not np.isfinite(matrix).all():
        query, column = np.argwhere(~np.isfinite(matrix))[0].tolist()
        raise InputError(f"figure {query} of column {column} (from 0) is not a finite number")
    return matrix


def _figures(values: Sequence[float] | np.ndarray, which: str) -> np.ndarray:
    figures = np.asarray(values, np.float64)
    if figures.ndim != 1 or not figures.size:
        raise InputError(f"the figures {which} are empty or not a list: give one for each query")
    if not np.isfinite(figures).all():
        query = int(np.flatnonzero(~np.isfinite(figures))[0])
        raise InputError(f"figure {query} {which} (counted from 0) is not a finite number")
    return figures
