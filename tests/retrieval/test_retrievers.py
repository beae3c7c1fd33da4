from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tercet.core.schema import Retriever
from tercet.retrieval.exact_index import ExactIndex
from tercet.retrieval.retrievers import DenseRetriever


class LetterCounts:
    """A small encoder: the counts of a, b and c; a query asks for twice as many."""

    name = "letters"
    dimension = 3

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[text.count(c) for c in "abc"] for text in texts], np.float32)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return 2 * self.encode_passages(texts)


def test_queries_are_encoded_as_queries_and_searched_in_the_index():
    encoder, index = LetterCounts(), ExactIndex()
    index.build(["x", "y", "z"], encoder.encode_passages(["aab", "bcc", "abc"]))
    retriever: Retriever = DenseRetriever(encoder, index)
    assert retriever.search(["a", "cc"], 2) == [
        [("x", 4.0), ("z", 2.0)],
        [("y", 8.0), ("z", 4.0)],
    ]


def test_it_is_called_by_its_name_or_by_the_encoders():
    assert DenseRetriever(LetterCounts(), ExactIndex()).name == "letters"
    assert DenseRetriever(LetterCounts(), ExactIndex(), name="tuned").name == "tuned"
