"""Scorers of pairs by vectors, from memory and as a sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tercet.core.schema import InputError, Passage
from tercet.data import DenseScorer, KnownScorer, MixedScorer, Passages

RANDOM = np.random.default_rng(2)
TEXTS = [f"passage {i}" for i in range(9)]
# Two passages of one text.
PASSAGES = Passages.of(Passage(f"p{i}", "", text) for i, text in enumerate([*TEXTS, TEXTS[3]]))
VECTORS = RANDOM.normal(size=(10, 4)).astype(np.float32)
VECTORS[9] = VECTORS[3]
QUERIES = {f"query {i}": RANDOM.normal(size=4).astype(np.float32) for i in range(5)}


class Encoder:
    name, dimension = "encoder", 4

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return np.stack([QUERIES[text] for text in texts])


def test_a_pair_has_the_product_of_its_vectors_and_each_query_is_encoded_once() -> None:
    encoder: Any = Encoder()
    scorer = DenseScorer(encoder, PASSAGES, VECTORS)
    pairs = [(query, text) for text in TEXTS for query in QUERIES]
    expected = [QUERIES[query] @ VECTORS[TEXTS.index(text)] for query, text in pairs]
    assert scorer.score(pairs) == pytest.approx(np.array(expected), abs=1e-6)
    assert sorted(encoder.asked) == sorted(QUERIES)
    assert scorer.lengths(pairs).tolist() == [1] * len(pairs)
    with pytest.raises(InputError, match="encoder has no vector of 'no such text': no passage"):
        scorer.score([("query 0", TEXTS[0]), ("query 1", "no such text")])


def test_what_is_known_is_not_asked_again_and_sums_are_by_factor() -> None:
    encoder: Any = Encoder()
    dense = DenseScorer(encoder, PASSAGES, VECTORS)
    known = KnownScorer(dense)
    pairs = [("query 0", text) for text in TEXTS]
    assert np.array_equal(known.score(pairs[:5]), dense.score(pairs[:5]))
    encoder.asked.clear()
    assert np.array_equal(known.score(pairs[:3] * 2), dense.score(pairs[:3] * 2))
    assert encoder.asked == ["query 0"]  # of the second alone
    found = MixedScorer("sum", [(known, 2.0), (dense, -0.5)]).score(pairs)
    assert found == pytest.approx(1.5 * dense.score(pairs), abs=1e-5)
