from __future__ import annotations

import math
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from tercet.core.schema import InputError, Passage
from tercet.retrieval.bm25 import BM25Retriever

PASSAGES = [
    Passage("fox", "Foxes", "The quick brown fox jumps over the lazy dog."),
    Passage("dog", "Dogs", "Dogs sleep while foxes run."),
    Passage("cat", "", "Cats chase mice in the barn"),
    Passage("empty", "", ""),
]
OF_FEW_WORDS = st.lists(st.sampled_from("the bees bee sleep fox foxes in".split()), max_size=9).map(
    " ".join
)


def lucene(passages, query, k1, b):
    """BM25 by the formula: a passage's score by its id, for those that share a term."""
    terms = {p.id: re.findall(r"\b\w\w+\b", p.contents.lower()) for p in passages}
    mean = sum(map(len, terms.values())) / len(terms)
    scores = Counter()
    for term in re.findall(r"\b\w\w+\b", query.lower()):
        holding = sum(term in words for words in terms.values())
        for id, words in terms.items():
            tf = words.count(term)
            if tf:
                idf = math.log(1 + (len(terms) - holding + 0.5) / (holding + 0.5))
                scores[id] += idf * tf / (tf + k1 * (1 - b + b * len(words) / mean))
    return scores


def test_scores_are_those_of_the_formula():
    rng = random.Random(0)
    words = [f"word{i}" for i in range(40)]
    passages = [
        Passage(f"p{i}", rng.choice(words), " ".join(rng.choices(words, k=rng.randrange(30))))
        for i in range(60)
    ]
    retriever = BM25Retriever(passages, k1=1.2, b=0.6, language=None)
    queries = [" ".join(rng.choices(words, k=rng.randrange(1, 5))) for _ in range(50)]
    for query, ranking in zip(queries, retriever.search(queries, 100), strict=True):
        expected = lucene(passages, query, k1=1.2, b=0.6)
        assert dict(ranking) == pytest.approx(expected, rel=1e-5)
        assert list(ranking) == sorted(ranking, key=lambda p: (p[1], p[0]), reverse=True)
        assert retriever.search([query], 7) == [ranking[:7]]


def test_stemming_and_stop_words_are_the_languages():
    english, plain = BM25Retriever(PASSAGES), BM25Retriever(PASSAGES, language=None)
    assert {id for id, _ in english.search(["a sleeping DOG"], 10)[0]} == {"dog", "fox"}
    assert english.search(["the in"], 10) == [[]]
    assert {id for id, _ in plain.search(["the in"], 10)[0]} == {"fox", "cat"}
    assert plain.search(["mouse cat"], 10) == [[]]
    assert BM25Retriever(PASSAGES).name == "bm25"


@pytest.mark.parametrize(
    ("language", "passage", "query", "stop_words"),
    [
        ("indonesian", "membaca bukunya", "buku", ""),
        ("german", "die schönen Häuser", "ein schönes Haus", "die"),
        ("russian", "большие города и реки", "большой город", "и"),
    ],
)
def test_other_languages_are_stemmed(language, passage, query, stop_words):
    retriever = BM25Retriever(
        [Passage("p", "", passage), Passage("q", "", "xyz")], language=language
    )
    assert [[id for id, _ in ranking] for ranking in retriever.search([query], 5)] == [["p"]]
    assert retriever.search([stop_words], 5) == [[]]


def test_queries_that_share_no_term_find_nothing():
    retriever = BM25Retriever(PASSAGES)
    assert retriever.search(["", "?!", "zebra", "the"], 3) == [[], [], [], []]
    assert retriever.search([], 3) == []


@pytest.mark.parametrize("k", [1, 3, 6, 50])
def test_ties_go_to_the_larger_id_in_whatever_order_passages_came(k):
    passages = [Passage(f"p{i}", "", "same words") for i in range(6)] + [Passage("z", "", "other")]
    expected = [f"p{i}" for i in reversed(range(6))][:k]
    for order in (passages, passages[::-1], passages[3:] + passages[:3]):
        ranking = BM25Retriever(order).search(["words"], k)[0]
        assert [id for id, _ in ranking] == expected


@pytest.mark.parametrize("text", ["", "the", "?"])
def test_a_corpus_without_terms_finds_nothing(text):
    retriever = BM25Retriever([Passage("a", "", text), Passage("b", "", "")])
    assert retriever.search(["anything", ""], 2) == [[], []]


def test_an_empty_first_passage_changes_nothing():
    assert BM25Retriever(PASSAGES[::-1]).search(["fox"], 3) == BM25Retriever(PASSAGES).search(
        ["fox"], 3
    )


def test_it_prints_nothing(capfd):
    BM25Retriever(PASSAGES).search(["fox"], 3)
    assert capfd.readouterr() == ("", "")


def test_faulty_input_is_refused():
    with pytest.raises(InputError, match="language 'klingon': choose one of .*english.*, or none"):
        BM25Retriever(PASSAGES, language="klingon")
    with pytest.raises(InputError, match="passage 'fox' occurs twice"):
        BM25Retriever([*PASSAGES, PASSAGES[0]])
    with pytest.raises(InputError, match="no passages"):
        BM25Retriever([])
    with pytest.raises(InputError, match="at least 1"):
        BM25Retriever(PASSAGES).search(["fox"], 0)


@settings(max_examples=50)
@pytest.mark.parametrize(("k1", "b", "language"), [(0.9, 0.4, "english"), (1.7, 1.0, None)])
@given(
    texts=st.lists(OF_FEW_WORDS, min_size=1, max_size=12),
    queries=st.lists(OF_FEW_WORDS, max_size=4),
)
def test_a_pair_scores_bit_by_bit_what_a_search_gives(
    texts: list[str], queries: list[str], k1: float, b: float, language: str | None
) -> None:
    passages = [Passage(f"p{i}", "", text) for i, text in enumerate(texts)]
    bm25 = BM25Retriever(passages, k1=k1, b=b, language=language)
    pairs = [(query, passage.contents) for query in queries for passage in passages]
    found = [dict(ranking) for ranking in bm25.search(queries, len(passages))] if queries else []
    expected = [each.get(passage.id, 0.0) for each in found for passage in passages]
    assert bm25.score(pairs).tolist() == expected
    assert bm25.lengths(pairs).tolist() == [1] * len(pairs)
