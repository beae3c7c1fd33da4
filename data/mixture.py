"""Several scorers of one list: their scores brought to one scale, and the sum by weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Scores = Sequence[np.ndarray]

#: Weights of the student's own scores that are tried on held-out queries.
WEIGHTS = (0.85, 0.7, 0.5, 0.3, 0.0)
_DEFAULT_WEIGHT = 0.5
_T = TypeVar("_T", bound=Hashable)


@dataclass(frozen=True)
class Mixture:
    """The weights of a target's members, of which the student's own score is one.

    `student` is that of its score. The scorers share the rest by `scorers`, which add up to 1.
    """

    student: float
    scorers: tuple[float, ...] = (1.0,)

    def of(self, scaled: Sequence[Scores], student: Scores) -> list[np.ndarray]:
        """float32 targets of the scorers' scaled scores and the student's."""
        return anchored(mixed(scaled, self.scorers), student, self.student)


def equal(scorers: int) -> tuple[float, ...]:
    """The same weight for each scorer."""
    return (1 / scorers,) * scorers


def shares(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights in the same proportion that add up to 1."""
    return tuple(weight / sum(weights) for weight in weights)


def mixed(scaled: Sequence[Scores], weights: Sequence[float]) -> list[np.ndarray]:
    """float64 sums of each list's scores, by weight; those of one scorer are as they were."""
    weighted = [
        [weight * np.asarray(scores, np.float64) for scores in each]
        for each, weight in zip(scaled, weights, strict=True)
        if weight
    ]
    return [functools.reduce(np.add, parts) for parts in zip(*weighted, strict=True)]


def anchored(teacher: Scores, student: Scores, weight: float) -> list[np.ndarray]:
    """float32 targets: weight x the student's own score + (1 - weight) x the scaled teacher's."""
    return [
        (weight * np.asarray(s, np.float64) + (1 - weight) * t).astype(np.float32)
        for s, t in zip(student, teacher, strict=True)
    ]


def scorers_of(columns: Mapping[str, Sequence[Any]]) -> list[Scores]:
    """Each scorer's lists, of the columns of triplets: the teacher's where that is one scorer."""
    if "scorers" not in columns:
        return [[np.array(x, np.float32) for x in columns["teacher"]]]
    rows = columns["scorers"]
    return [[np.array(row[i], np.float32) for row in rows] for i in range(len(rows[0]))]


def choose(
    figures_of: Callable[[Mixture], np.ndarray],
    scorers: int,
    student: float | None,
    weights: tuple[float, ...] | None,
) -> tuple[Mixture, dict[Mixture, np.ndarray]]:
    """The mixture that held-out queries choose, and the metric of each query by what was tried.

    First the scorers' weights, where they are not given: equal ones, each scorer alone, and all
    but each. Then the student's, where that is not given.
    """
    tried: dict[Mixture, np.ndarray] = {}

    def best(mixtures: Sequence[Mixture], default: Mixture) -> Mixture:
        tried.update({each: figures_of(each) for each in mixtures if each not in tried})
        return best_of({each: tried[each] for each in mixtures}, default)

    chosen = unchosen(scorers, student, weights)
    if weights is None and scorers > 1:
        chosen = best([Mixture(chosen.student, each) for each in _parts(scorers)], chosen)
    if student is None:
        chosen = best([Mixture(each, chosen.scorers) for each in WEIGHTS], chosen)
    return chosen, tried


def unchosen(scorers: int, student: float | None, weights: tuple[float, ...] | None) -> Mixture:
    """What is given of a mixture; where nothing is, equal weights, and a half is the student's."""
    return Mixture(_DEFAULT_WEIGHT if student is None else student, weights or equal(scorers))


def tried_mixtures(scorers: int, student: float | None, weights: Sequence[float] | None) -> int:
    """How many mixtures `choose` tries."""
    parts = len(_parts(scorers)) if weights is None and scorers > 1 else 0
    own = len(WEIGHTS) if student is None else 0
    return parts + own - (1 if parts and own else 0)


def _parts(scorers: int) -> list[tuple[float, ...]]:
    """Weights of scorers that are tried: equal ones first, then one alone, then all but one."""
    alone = [tuple(float(i == j) for j in range(scorers)) for i in range(scorers)]
    without = [shares([float(i != j) for j in range(scorers)]) for i in range(scorers)]
    return [equal(scorers), *alone, *(without if scorers > 2 else [])]


def best_of(figures: Mapping[_T, np.ndarray], default: _T) -> _T:
    """The choice with the largest mean metric if it is significantly better than `default`.

    It must exceed the default by 1.96 standard errors of the paired difference: on a few hundred
    queries, neighbouring weights differ by less than chance. `figures` are metric values,
    [queries].
    """
    best = max(figures, key=lambda each: float(np.mean(figures[each])))
    difference = np.asarray(figures[best]) - np.asarray(figures[default])
    error = 1.96 * np.std(difference) / np.sqrt(len(difference))
    return best if np.mean(difference) > error else default
