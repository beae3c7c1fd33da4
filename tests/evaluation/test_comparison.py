"""Pairs of systems, and an index beside exact search."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.evaluation.analysis import compare_all, overlap
from tercet.retrieval.significance import holm, randomisation_test

FIGURES = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
    min_size=2,
)


def named(values: list[float]) -> dict[str, float]:
    return {f"q{i}": value for i, value in enumerate(values)}


@given(FIGURES, st.randoms(use_true_random=False))
def test_the_order_of_systems_and_queries_changes_nothing(
    figures: dict[str, list[float]], shuffle: random.Random
) -> None:
    systems = {name: named(values) for name, values in figures.items()}
    pairs = compare_all(systems, resamples=200, seed=1)
    names, queries = list(systems), [f"q{i}" for i in range(6)]
    shuffle.shuffle(names)
    shuffle.shuffle(queries)
    again = {name: {q: systems[name][q] for q in queries} for name in names}
    assert compare_all(again, resamples=200, seed=1) == pairs
    assert len(pairs) == len(names) * (len(names) - 1) // 2


@given(FIGURES)
def test_every_pair_is_told_from_its_better_system(figures: dict[str, list[float]]) -> None:
    systems = {name: named(values) for name, values in figures.items()}
    for pair in compare_all(systems, resamples=200, seed=1):
        first, second = figures[pair.first], figures[pair.second]
        assert pair.difference == pytest.approx(np.mean(first) - np.mean(second), abs=1e-12)
        assert pair.difference >= -1e-12
        assert pair.low <= pair.difference <= pair.high
        assert pair.p <= pair.p_holm <= 1
        assert pair.wins == sum(a > b for a, b in zip(first, second, strict=True))
        assert pair.wins + pair.losses + pair.ties == 6


@given(FIGURES)
def test_a_pairs_p_is_the_randomisation_tests_and_holms_of_all_pairs(
    figures: dict[str, list[float]],
) -> None:
    pairs = compare_all({n: named(v) for n, v in figures.items()}, resamples=200, seed=1)
    columns = [np.subtract(figures[pair.first], figures[pair.second]) for pair in pairs]
    ps = randomisation_test(np.array(columns).T, permutations=200, seed=1)
    assert [pair.p for pair in pairs] == ps.tolist()
    assert [pair.p_holm for pair in pairs] == holm(ps).tolist()


def test_one_system_has_no_pair() -> None:
    assert compare_all({"a": {"q": 1.0}}, resamples=100, seed=1) == []


def test_overlap_is_recall_of_the_exact_ten() -> None:
    exact = {"1": [(p, 1.0) for p in "abcd"], "2": [("x", 1.0)], "3": []}
    other = {"1": [(p, 1.0) for p in "bazz"], "2": [("x", 1.0)], "3": [("y", 1.0)]}
    assert overlap(exact, exact, 10) == 1
    assert overlap(exact, other, 2) == 1
    assert overlap(exact, other, 4) == pytest.approx((2 / 4 + 1) / 2)
    assert overlap({"3": []}, other, 4) == 1
