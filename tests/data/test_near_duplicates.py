"""Near duplicates are found exactly, whatever their case, order of arrival and punctuation."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tercet.data.near_duplicates import NearDuplicates, normalised, pieces

# Without its vowel signs the Hindi query would be the other one.
JUDGED = [
    "मोदी की",
    "graph database",
    "What is the capital of France?",
    "自然言語処理",
    "naïve Bayes",
    "C",
]


@pytest.mark.parametrize(
    "text",
    [
        "Graph-Database",
        "graph databases",
        "the graph database",
        "what is the capital of  france",
        "what's the capital of France",
        "自然言語処理。",
        "naïve bayes!",
        "ｇｒａｐｈ ｄａｔａｂａｓｅ",  # full width
        "c",
    ],
)
def test_another_spelling_is_near(text: str) -> None:
    assert text in NearDuplicates(JUDGED)


@pytest.mark.parametrize(
    "text",
    [
        "graph theory",
        "relational database",
        "what is the capital of Spain and of Portugal",
        "自然言語処理とは",  # nearly half of its pieces are others
        "C++ templates",
        "मोदी का",
        "",
        "?!",
    ],
)
def test_another_question_is_not(text: str) -> None:
    assert text not in NearDuplicates(JUDGED)


def test_nothing_is_near_nothing() -> None:
    assert "" not in NearDuplicates([]) and "" not in NearDuplicates(["", "..."])


WORDS = st.lists(st.sampled_from(["ab", "abc", "bcd", "abcd", "x", "yz"]), max_size=6)
TEXTS = WORDS.map(" ".join)


@given(st.lists(TEXTS, max_size=8), TEXTS, st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]))
def test_the_rarest_pieces_find_what_comparing_all_finds(
    judged: list[str], text: str, shared: float
) -> None:
    def near(a: str, b: str) -> bool:
        one, two = pieces(a), pieces(b)
        return bool(normalised(b)) and len(one & two) >= shared * len(one | two)

    assert (text in NearDuplicates(judged, shared)) == any(near(text, other) for other in judged)


@given(st.text())
def test_normalising_again_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
