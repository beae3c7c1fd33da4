from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from tercet.core.schema import InputError
from tercet.data.sources.bookmarks import Bookmarks
from tercet.retrieval import BM25Retriever, significance
from tercet.retrieval.metrics import evaluate
from tercet.retrieval.significance import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    holm,
    paired_bootstrap,
    randomisation_test,
    smallest_detectable,
)

ARCHIVE = Path(__file__).parents[2] / "corpora" / "cherche-2.2.1.tar.gz"
EXPERIMENTS = 1000


@pytest.fixture(scope="module")
def real_differences():
    """nDCG@10 of BM25 without stemming minus with it: 2,370 queries, two thirds of them zero."""
    if not ARCHIVE.is_file():
        pytest.skip("the archive is not here: `make models` brings it")
    source = Bookmarks(str(ARCHIVE))
    passages = [passage for _, passage in source.passages() if passage.contents]
    texts = {topic: query.text for topic, query in source.queries()}
    qrels = {}
    for topic, _, _, passage, grade in source.judgements():
        qrels.setdefault(topic, {})[passage] = grade
    figures = []
    for language in ("english", None):
        rankings = BM25Retriever(passages, language=language).search(list(texts.values()), 10)
        run = dict(zip(texts, rankings, strict=True))
        figures.append(evaluate(qrels, run, ["ndcg@10"])["ndcg@10"])
    return np.array([figures[1][topic] - figures[0][topic] for topic in qrels])


@pytest.mark.models
@pytest.mark.parametrize("queries", [50, 93, 300])
def test_the_interval_of_real_differences_covers_the_truth(real_differences, queries):
    assert len(real_differences) > 2000
    samples = np.random.default_rng(queries).choice(real_differences, (queries, EXPERIMENTS))
    intervals = bootstrap_difference(samples, resamples=2000)
    truth = real_differences.mean()
    covered = ((intervals.low <= truth) & (truth <= intervals.high)).mean()
    assert 0.92 <= covered <= 0.97


@pytest.mark.models
@pytest.mark.parametrize("queries", [50, 93, 300])
def test_random_signs_of_real_differences_are_rejected_as_seldom_as_they_should_be(
    real_differences, queries
):
    rng = np.random.default_rng(queries)
    samples = rng.choice(real_differences, (queries, EXPERIMENTS))
    samples *= rng.choice([-1, 1], samples.shape)
    rejected = (randomisation_test(samples, permutations=1999) <= 0.05).mean()
    assert 0.03 <= rejected <= 0.07


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


def test_swapping_the_systems_turns_the_sign_and_nothing_else():
    before, after = np.random.default_rng(0).random((2, 80))
    there = paired_bootstrap(before, after)
    back = paired_bootstrap(after, before)
    assert (back.difference, back.low, back.high) == (-there.difference, -there.high, -there.low)


def test_the_interval_is_near_students_where_that_is_right():
    x = np.random.default_rng(3).normal(0.1, 0.2, (40, 50))
    found = bootstrap_difference(x, resamples=20_000)
    reach = 2.0227 * x.std(axis=0, ddof=1) / np.sqrt(40)
    assert found.mean == pytest.approx(x.mean(axis=0))
    assert found.high - found.mean == pytest.approx(reach, rel=0.06)
    assert found.mean - found.low == pytest.approx(reach, rel=0.06)
    means = bootstrap_mean(x, resamples=20_000)
    assert np.mean(means.high - means.low) == pytest.approx(np.mean(2 * reach), rel=0.03)


@pytest.mark.parametrize(("queries", "t"), [(10, 2.2622), (20, 2.0930)])
def test_few_queries_widen_both_intervals_as_students_t_does(queries, t):
    # Unwidened they are 18% and 8% too narrow; without the divisor n - 1, 6% of ten queries.
    x = np.random.default_rng(3).normal(0.1, 0.2, (queries, 400))
    reach = t * np.mean(x.std(axis=0, ddof=1)) / np.sqrt(queries)
    for method in (bootstrap_difference, bootstrap_mean):
        _, low, high = method(x, resamples=20_000)
        assert np.mean(high - low) / 2 == pytest.approx(reach, rel=0.04)


def test_an_interval_of_a_mean_stays_among_the_figures_and_leans_as_they_do():
    figures = np.zeros((30, 2))
    figures[:3, 0] = 1
    figures[3:, 1] = 1
    mean, low, high = bootstrap_mean(figures)
    assert mean.tolist() == [0.1, 0.9]
    assert low[0] >= 0 and high[0] - mean[0] > mean[0] - low[0] > 0
    assert (low[1], high[1]) == pytest.approx((1 - high[0], 1 - low[0]))


matrices = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.sampled_from([0.0, 1 / 3, -1 / 3, 0.5, 1.0, -1.0, 0.1]) | st.floats(-1, 1),
)


@given(matrices, st.integers(0, 5), st.randoms())
def test_a_columns_answers_are_its_own_in_any_order_and_finite(matrix, seed, rng):
    rows, columns = (rng.sample(range(size), size) for size in matrix.shape)
    for method in (bootstrap_difference, bootstrap_mean):
        found = method(matrix, resamples=99, seed=seed)
        other = method(matrix[rows][:, columns], resamples=99, seed=seed)
        alone = method(matrix[:, :1], resamples=99, seed=seed)
        for here, there, single in zip(found, other, alone, strict=True):
            assert np.isfinite(here).all()
            assert here[columns].tolist() == there.tolist()
            assert here[:1].tolist() == single.tolist()
        assert (found.low <= found.mean).all() and (found.mean <= found.high).all()
    p = randomisation_test(matrix, permutations=99, seed=seed)
    signs = np.array([rng.choice([-1, 1]) for _ in columns])
    turned = (matrix * signs)[rows][:, columns]
    assert randomisation_test(turned, permutations=99, seed=seed).tolist() == p[columns].tolist()
    assert ((p >= 0.01) & (p <= 1)).all()
    detectable = smallest_detectable(matrix)
    assert smallest_detectable(turned).tolist() == detectable[columns].tolist()
    assert np.isfinite(detectable).all()


@given(matrices)
def test_the_mirrored_column_has_the_mirrored_interval(matrix):
    mean, low, high = bootstrap_difference(matrix, resamples=99)
    back = bootstrap_difference(-matrix, resamples=99)
    assert [(-x).tolist() for x in (mean, high, low)] == [x.tolist() for x in back]


def test_one_query_tells_nothing_of_the_others():
    one = np.array([[0.3, -0.3, 0.0]])
    mean, low, high = bootstrap_difference(one)
    assert (mean.tolist(), low.tolist(), high.tolist()) == (one[0].tolist(), [-1] * 3, [1] * 3)
    assert [float(x[0]) for x in bootstrap_mean(one)] == [0.3, 0, 1]
    assert randomisation_test(one).tolist() == [1, 1, 1]
    assert (smallest_detectable(one) > 1).all()
    assert not paired_bootstrap([0.1], [0.9]).excludes_zero


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
        ([1.0], [1.0, 2.0], "1 values before and 2 after"),
        ([], [], "empty"),
        ([1.0, float("nan")], [1.0, 1.0], "value 1 before"),
        ([1.0, 1.0], [float("inf"), 1.0], "value 0 after"),
    ],
)
def test_unpaired_figures_are_refused(before, after, message):
    with pytest.raises(InputError, match=message):
        paired_bootstrap(before, after)


@pytest.mark.parametrize("setting", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(InputError, match="at least 1 resample"):
        paired_bootstrap([1.0], [2.0], **setting)


def test_the_randomisation_test_counts_all_changes_of_sign():
    differences = np.array([[0.1, 1 / 3, 0.0], [0.2, 1 / 3, 0.0], [0.3, 1 / 3, 0.0]])
    p = randomisation_test(differences, permutations=40_000)
    # Of 8 changes of sign, 2 reach 0.6 and 2 reach 1; no difference at all is reached by all.
    assert p == pytest.approx([2 / 8, 2 / 8, 1], abs=0.01)
    # 0.1 + 0.2 - 0.3 is not 0 in floating point, yet is no smaller than 0 is.
    tied = randomisation_test(np.array([[0.1], [0.2], [-0.3]]), permutations=100)
    assert tied.tolist() == [1]
    clear = randomisation_test(np.full((40, 1), 0.01), permutations=999)
    assert clear.tolist() == [0.001]


def test_blocks_change_no_p(monkeypatch):
    matrix = np.random.default_rng(0).normal(0.05, 0.2, (60, 3))
    p = randomisation_test(matrix, permutations=500)
    assert p.tolist() != randomisation_test(matrix, permutations=500, seed=14).tolist()
    monkeypatch.setattr(significance, "_DRAWS_AT_ONCE", 1000)
    assert randomisation_test(matrix, permutations=500).tolist() == p.tolist()


def test_holm_is_that_of_a_worked_example():
    corrected = holm([0.01, 0.04, 0.03, 0.005])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []
    assert holm([0.4, 0.9, 0.5]).tolist() == [1, 1, 1]


@given(st.lists(st.floats(0, 1), max_size=8), st.randoms())
def test_holm_keeps_the_order_and_only_raises(p, rng):
    corrected = holm(p)
    assert (corrected >= p).all() and (corrected <= 1).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()
    order = rng.sample(range(len(p)), len(p))
    assert holm([p[i] for i in order]).tolist() == corrected[order].tolist()


def test_a_difference_of_the_detectable_size_is_found_in_four_of_five_samples():
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 0.2, (100, 2000))
    detectable = smallest_detectable(noise[:, :1])[0]
    assert detectable == pytest.approx(2.8 * noise[:, 0].std(ddof=1) / 10)
    p = randomisation_test(noise + 2.8 * 0.2 / 10, permutations=999)
    assert 0.75 <= (p <= 0.05).mean() <= 0.85


@pytest.mark.parametrize(
    "method", [bootstrap_difference, bootstrap_mean, randomisation_test, smallest_detectable]
)
def test_faulty_matrices_are_refused(method):
    with pytest.raises(InputError, match="at least one query"):
        method(np.zeros((0, 3)))
    with pytest.raises(InputError, match="columns"):
        method(np.zeros(3))
    with pytest.raises(InputError, match="value 1 of column 0"):
        method(np.array([[0.0], [np.nan]]))


def test_impossible_tests_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        randomisation_test(np.zeros((2, 1)), permutations=0)
    for faulty in ([0.5, 1.1], [float("nan")], [[0.5]]):
        with pytest.raises(InputError, match="from 0 to 1"):
            holm(faulty)
