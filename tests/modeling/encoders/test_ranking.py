"""A map refined by how words rank passages: it finds what a least-squares map cannot."""

from __future__ import annotations

import numpy as np
import pytest

from tercet.modeling.encoders.ranking import Ranked, refine
from tercet.modeling.encoders.ridge import Map

PASSAGES, TEXTS, IN, OUT = 400, 3, 12, 20


@pytest.fixture(scope="module")
def ranked() -> Ranked:
    """Passages in two spaces: each has what the other has not, and they share something."""
    random = np.random.default_rng(1)
    shared = random.normal(size=(PASSAGES, 8))
    own = np.hstack([shared, 0.3 * random.normal(size=(PASSAGES, IN - 8))])
    axes = np.linalg.qr(random.normal(size=(OUT, OUT)))[0]
    stored = np.hstack([shared, 2.0 * random.normal(size=(PASSAGES, OUT - 8))]) @ axes
    texts = [own + 0.2 * random.normal(size=own.shape) for _ in range(TEXTS)]
    of = [(each / np.linalg.norm(each, axis=1, keepdims=True)) for each in (*texts, own, stored)]
    *asked, told, known = (each.astype(np.float32) for each in of)
    return Ranked(asked, told, known)


def found(map: Map, ranked: Ranked) -> float:
    """Mean reciprocal rank of each text's own passage."""
    scores = map(ranked.as_queries[0].astype(np.float64)) @ ranked.stored.T.astype(np.float64)
    own = np.diag(scores)[:, None]
    return float(np.mean(1 / (1 + (scores > own).sum(axis=1))))


def start() -> Map:
    random = np.random.default_rng(2)
    return Map(0.01 * random.normal(size=(IN, OUT)), np.zeros(OUT))


def test_words_find_their_passages_better(ranked: Ranked) -> None:
    before, after = start(), refine(start(), ranked, seed=3)
    assert found(before, ranked) < 0.05
    assert found(after, ranked) > 0.5


def test_the_same_seed_finds_the_same_map_and_the_start_is_kept(ranked: Ranked) -> None:
    given = start()
    one, two, other = (refine(given, ranked, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.weight, two.weight) and np.array_equal(one.bias, two.bias)
    assert not np.array_equal(one.weight, other.weight)
    assert np.array_equal(given.weight, start().weight)


@pytest.mark.parametrize("count", [1, 5, 16, 17])
def test_a_handful_of_passages_breaks_nothing(ranked: Ranked, count: int) -> None:
    few = Ranked(
        [each[:count] for each in ranked.as_queries],
        ranked.as_passages[:count],
        ranked.stored[:count],
    )
    found = refine(start(), few, seed=3)
    assert np.isfinite(found.weight).all() and np.isfinite(found.bias).all()


@pytest.mark.parametrize("unit", [0.01, 100.0])
def test_the_unit_of_the_vectors_makes_no_difference(ranked: Ranked, unit: float) -> None:
    given = start()
    other = Ranked(ranked.as_queries, ranked.as_passages, ranked.stored * np.float32(unit))
    scaled = refine(Map(given.weight * unit, given.bias * unit), other, seed=3)
    assert scaled.weight == pytest.approx(refine(given, ranked, seed=3).weight * unit, rel=1e-2)


def test_passages_in_one_place_break_nothing(ranked: Ranked) -> None:
    alike = Ranked(ranked.as_queries, np.ones_like(ranked.as_passages), np.ones_like(ranked.stored))
    found = refine(start(), alike, seed=3)
    assert np.isfinite(found.weight).all()
