from __future__ import annotations

import numpy as np
import pytest

from tercet.retrieval import significance
from tercet.retrieval.significance import Interval, paired_bootstrap
from tercet.schema import InputError


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(300):
        before = rng.beta(2, 3, 100)
        after = before + rng.normal(0.03, 0.2, 100)
        interval = paired_bootstrap(before, after, resamples=1000, seed=seed)
        covered += interval.low <= 0.03 <= interval.high
    assert 0.91 <= covered / 300 <= 0.98


def test_the_order_of_queries_and_the_size_of_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    before, after = rng.random((2, 50))
    order = rng.permutation(50)
    interval = paired_bootstrap(before, after, resamples=500)
    assert interval == paired_bootstrap(before[order], after[order], resamples=500)
    assert interval != paired_bootstrap(before, after, resamples=500, seed=14)
    monkeypatch.setattr(significance, "_DRAWS_AT_ONCE", 1000)
    assert interval == paired_bootstrap(before, after, resamples=500)


def test_swapping_the_systems_turns_the_sign():
    before, after = np.random.default_rng(0).random((2, 80))
    there = paired_bootstrap(before, after)
    back = paired_bootstrap(after, before)
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.01)


def test_a_constant_difference_has_no_width_and_none_excludes_nothing():
    figures = np.linspace(0, 1, 20)
    assert paired_bootstrap(figures, figures) == Interval(0.0, 0.0, 0.0)
    assert not paired_bootstrap(figures, figures).excludes_zero
    assert paired_bootstrap(figures, figures + 0.5).excludes_zero
    assert paired_bootstrap(figures + 0.5, figures).excludes_zero
    assert not Interval(0.1, -0.1, 0.3).excludes_zero


def test_a_higher_level_is_wider():
    before, after = np.random.default_rng(0).random((2, 80))
    narrow = paired_bootstrap(before, after, level=0.8)
    wide = paired_bootstrap(before, after, level=0.99)
    assert wide.low < narrow.low < narrow.difference < narrow.high < wide.high


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([1.0], [1.0, 2.0], "1 figures before and 2 after"),
        ([], [], "empty"),
        ([1.0, float("nan")], [1.0, 1.0], "figure 1 before"),
        ([1.0, 1.0], [float("inf"), 1.0], "figure 0 after"),
    ],
)
def test_unpaired_figures_are_refused(before, after, message):
    with pytest.raises(InputError, match=message):
        paired_bootstrap(before, after)


@pytest.mark.parametrize("setting", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(InputError, match="at least 1 resample"):
        paired_bootstrap([1.0], [2.0], **setting)
