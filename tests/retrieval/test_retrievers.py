from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tercet.core.schema import Ranking, Retriever
from tercet.retrieval import HybridRetriever, RerankedRetriever, fuse
from tercet.retrieval.exact_index import ExactIndex
from tercet.retrieval.retrievers import DenseRetriever
from tercet.retrieval.validation import in_order


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


# ── systems made of others: fusion and reranking ──────────────────────────────────────────────────

IDS = st.text("abcdefgh", min_size=1, max_size=3)


class Fixed:
    """A retriever that knows its answers."""

    def __init__(self, rankings: dict[str, list[str]], name: str = "fixed") -> None:
        self.rankings, self.name = rankings, name

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        return [[(p, 1.0 - rank) for rank, p in enumerate(self.rankings[q][:k])] for q in queries]


class ByLength:
    """A teacher whose logit is the passage's length; remembers the pairs in their order."""

    def __init__(self) -> None:
        self.name = "length"
        self.asked: list[list[tuple[str, str]]] = []

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([len(p) for _, p in pairs])

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        self.asked.append(list(pairs))
        return np.array([len(passage) for _, passage in pairs], np.float32)


def test_fusion_by_hand() -> None:
    a, b = Fixed({"q": ["x", "y"]}, "a"), Fixed({"q": ["y", "z"]}, "b")
    (ranking,) = HybridRetriever([a, b]).search(["q"], 10)
    scores = dict(ranking)
    assert [p for p, _ in ranking] == ["y", "x", "z"]
    assert scores["y"] == np.float32(1 / 62 + 1 / 61)
    assert scores["x"] == np.float32(1 / 61)
    assert HybridRetriever([a, b]).name == "a+b"


@given(st.lists(IDS, unique=True, max_size=20), st.lists(IDS, unique=True, max_size=20))
def test_fusion_holds_whichever_comes_first(first: list[str], second: list[str]) -> None:
    a, b = Fixed({"q": first}), Fixed({"q": second})
    (ranking,) = HybridRetriever([a, b]).search(["q"], 50)
    assert list(ranking) == list(HybridRetriever([b, a]).search(["q"], 50)[0])
    assert {p for p, _ in ranking} == {*first, *second}
    assert list(ranking) == sorted(ranking, key=lambda pair: (pair[1], pair[0]), reverse=True)
    for k in (1, 3):
        assert list(HybridRetriever([a, b]).search(["q"], k)[0]) == list(ranking[:k])


def test_a_weighted_sum_by_hand() -> None:
    first, second = [("x", 9.0), ("y", 5.0), ("z", 1.0)], [("z", 0.9), ("w", 0.7)]
    scores = dict(fuse([first, second], 10, 0.75))
    expected = {"z": 0.75 * 1 + 0.25 * 0, "x": 0.25, "y": 0.25 * 0.5, "w": 0.75 * 0}
    assert scores == {passage: pytest.approx(value) for passage, value in expected.items()}
    assert [p for p, _ in fuse([first, second], 2, 0.75)] == ["z", "x"]


SCORED = st.dictionaries(IDS, st.integers(-1000, 1000).map(float), max_size=20)


@given(SCORED, SCORED, st.floats(0, 1), st.floats(0.5, 100), st.floats(-100, 100))
def test_a_weighted_sum_ignores_scale_and_shift(
    first: dict[str, float], second: dict[str, float], weight: float, scale: float, shift: float
) -> None:
    a, b = ([*in_order([*found.items()], 20)] for found in (first, second))
    moved = [(passage, scale * score + shift) for passage, score in a]
    before, after = (dict(fuse([each, b], 50, weight)) for each in (a, moved))
    assert before == {passage: pytest.approx(value, abs=1e-6) for passage, value in after.items()}
    assert before.keys() == {*first, *second}
    assert dict(fuse([b, a], 50, 1 - weight)) == {
        passage: pytest.approx(value, abs=1e-6) for passage, value in before.items()
    }


@given(SCORED.filter(bool), SCORED)
def test_a_whole_share_ranks_as_the_one_ranking(
    first: dict[str, float], second: dict[str, float]
) -> None:
    a, b = ([*in_order([*found.items()], 20)] for found in (first, second))
    scores = dict(fuse([a, b], 50, 0.0))
    assert max(scores.values()) == 1 == scores[a[0][0]]
    assert all(scores[upper] >= scores[lower] for (upper, _), (lower, _) in pairwise(a))
    assert not any(scores[passage] for passage, _ in b if passage not in first)


@given(
    st.lists(IDS, unique=True, min_size=1, max_size=20),
    st.integers(1, 25),
    st.integers(1, 25),
)
def test_reranking_moves_the_first_and_keeps_the_rest(found: list[str], depth: int, k: int) -> None:
    texts = {id: "x" * (1 + sum(map(ord, id)) % 7) for id in found}
    reranked = RerankedRetriever(Fixed({"q": found}), ByLength(), lambda _: texts, depth)
    (ranking,) = reranked.search(["q"], k)
    assert len(ranking) == min(k, len(found))
    (whole,) = reranked.search(["q"], 100)
    ids = [id for id, _ in whole]
    assert sorted(ids[:depth]) == sorted(found[:depth])
    assert ids[depth:] == found[depth:]
    scores = [score for _, score in whole]
    assert scores == sorted(scores, reverse=True)
    assert [texts[id] for id in ids[:depth]] == sorted(texts[id] for id in ids[:depth])[::-1]
    assert list(ranking) == list(whole[:k])


def test_a_teacher_sees_each_pair_once_in_an_order_of_their_own() -> None:
    texts = {"1": "one", "2": "two!", "3": "one"}
    rankings = {"b": ["1", "2", "3"], "a": ["3", "2"]}
    asked = []
    for order in (["b", "a", "b"], ["a", "b"]):
        teacher = ByLength()
        RerankedRetriever(Fixed(rankings), teacher, lambda _: texts, depth=3).search(order, 3)
        asked.append(teacher.asked)
    assert asked[0] == asked[1] == [[("a", "one"), ("a", "two!"), ("b", "one"), ("b", "two!")]]


def test_nothing_found_is_nothing_reranked() -> None:
    reranked = RerankedRetriever(Fixed({"q": []}), ByLength(), lambda _: {}, depth=3)
    assert [list(r) for r in reranked.search(["q"], 3)] == [[]]
