"""Weights are what is given, or what held-out queries clearly favour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tercet.data.mixture import (
    WEIGHTS,
    Mixture,
    choose,
    equal,
    mixed,
    scorers_of,
    shares,
    tried_mixtures,
)

WEIGHT = st.floats(0, 1)


def figures_of(best: Mixture, by: float = 0.5) -> Callable[[Mixture], np.ndarray]:
    """Metric values that are the better, the nearer a mixture is to the best one."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=200)

    def figures(mixture: Mixture) -> np.ndarray:
        apart = abs(mixture.student - best.student)
        apart += sum(abs(a - b) for a, b in zip(mixture.scorers, best.scorers, strict=True))
        return noise - by * apart

    return figures


ALONE = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
WITHOUT = [(0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]


@pytest.mark.parametrize("student", WEIGHTS)
@pytest.mark.parametrize("weights", [equal(3), *ALONE, *WITHOUT])
def test_the_mixture_that_clearly_gains_most_is_chosen(
    student: float, weights: tuple[float, ...]
) -> None:
    best = Mixture(student, weights)
    chosen, tried = choose(figures_of(best), 3, None, None)
    assert chosen == best
    assert len(tried) == tried_mixtures(3, None, None) == 7 + 4
    assert {each.scorers for each in tried} == {equal(3), *ALONE, *WITHOUT}
    assert {each.student for each in tried} == {*WEIGHTS}


def test_what_differs_by_less_than_chance_leaves_equal_weights_and_a_half() -> None:
    random = np.random.default_rng(1)
    chosen, _ = choose(lambda mixture: random.normal(size=100) * 1e-3, 2, None, None)
    assert chosen == Mixture(0.5, equal(2))


@pytest.mark.parametrize(
    ("scorers", "student", "weights", "number"),
    [
        (1, None, None, 5),
        (1, 0.3, None, 0),
        (2, None, (0.2, 0.8), 5),
        (2, 0.3, None, 3),
        (3, 0.3, None, 7),
    ],
)
def test_what_is_given_is_not_tried(
    scorers: int, student: float | None, weights: tuple[float, ...] | None, number: int
) -> None:
    best = Mixture(0.85, (1.0, *[0.0] * (scorers - 1)))
    chosen, tried = choose(figures_of(best), scorers, student, weights)
    assert len(tried) == tried_mixtures(scorers, student, weights) == number
    assert chosen.student == (0.85 if student is None else student)
    assert chosen.scorers == (weights or best.scorers)


@settings(max_examples=50)
@given(st.lists(st.lists(WEIGHT, min_size=3, max_size=3), min_size=1, max_size=4), WEIGHT)
def test_a_target_is_linear_in_each_members_scores(rows: list[list[float]], own: float) -> None:
    lists = [[np.array([row[i], -row[i]]) for row in rows] for i in range(2)]
    student = [np.array([row[2], 1.0]) for row in rows]
    weights = shares([1.0, 3.0])
    for i, target in enumerate(Mixture(own, weights).of(lists, student)):
        parts = 0.25 * lists[0][i] + 0.75 * lists[1][i]
        assert target == pytest.approx(own * student[i] + (1 - own) * parts, abs=1e-6)


def test_one_scorer_is_left_as_it_is() -> None:
    lists = [np.array([-0.0, 0.1, 3e-9]), np.array([1.0])]
    for given_, found in zip(lists, mixed([lists], (1.0,)), strict=True):
        assert given_.tobytes() == found.tobytes()
    assert [x.tolist() for x in mixed([lists, [np.full(3, np.nan)] * 2], (1.0, 0.0))] == [
        x.tolist() for x in lists
    ]


def test_the_lists_of_each_scorer_are_read_from_either_form() -> None:
    one = {"teacher": [[1.0, 2.0], [3.0]]}
    assert [[x.tolist() for x in each] for each in scorers_of(one)] == [one["teacher"]]
    rows = [[[1.0, 2.0], [3.0, 4.0]], [[5.0], [6.0]]]
    both = scorers_of({**one, "scorers": rows})
    assert [[x.tolist() for x in each] for each in both] == [[[1, 2], [5]], [[3, 4], [6]]]
