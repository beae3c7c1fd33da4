"""Judged queries that gate share nothing with those that are reported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tercet.core.schema import InputError, Query
from tercet.data import check_gate, halves


class Judged:
    """A source of judgements alone: split -> query id -> relevant passages."""

    def __init__(self, splits: dict[str, dict[str, list[str]]], **texts: str) -> None:
        self.splits, self.texts = splits, texts

    def queries(self) -> Iterator[tuple[str, Query]]:
        for id in {id: 0 for queries in self.splits.values() for id in queries}:
            yield "", Query(id, self.texts.get(id, f"words of {id}"))

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        for split, queries in self.splits.items():
            for query, passages in queries.items():
                yield "", split, query, f"not {split}", 0
                yield from (("", split, query, passage, 1) for passage in passages)


def check(gate: str, dev: dict[str, list[str]], test: dict[str, list[str]], **texts: str) -> None:
    source: Any = Judged({"dev": dev, "test": test}, **texts)
    check_gate(source, gate, "test", 13)


def test_a_gate_apart_from_what_is_reported_is_accepted() -> None:
    check("dev", {"a": ["p1"], "b": ["p2"]}, {"c": ["p3"]})
    check("test", {"a": ["p1"]}, {"b": ["p2"], "c": ["p3"]})


@pytest.mark.parametrize(
    ("gate", "dev", "test", "texts", "words"),
    [
        ("dev", {"a": ["p1"]}, {"a": ["p2"]}, {}, "'a' shares the id 'a' with query 'a'"),
        ("dev", {"a": ["p1"]}, {"b": ["p1"]}, {}, "'a' shares the relevant passage 'p1'"),
        ("dev", {"a": []}, {"b": ["p1"]}, {"a": "Why?", "b": "why"}, "shares the text 'why'"),
        ("train", {"a": ["p1"]}, {"b": ["p2"]}, {}, "no judgements of this split: there are dev, "),
        ("test", {"a": ["p1"]}, {"b": ["p2"]}, {}, "cannot be halved"),
        ("test", {}, {"b": ["p2"], "c": ["p2"]}, {}, "cannot be halved"),
    ],
)
def test_a_gate_that_shares_something_is_refused(
    gate: str, dev: Any, test: Any, texts: dict[str, str], words: str
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        check(gate, dev, test, **texts)
    assert "\n" not in str(refused.value)


_passages = st.sets(st.integers(0, 30).map(str), max_size=3)


@given(st.dictionaries(st.integers(0, 40).map(str), _passages, min_size=2), st.integers(0, 99))
def test_halves_share_no_relevant_passage(found: dict[str, set[str]], seed: int) -> None:
    qrels = {query: dict.fromkeys(sorted(passages), 1) for query, passages in found.items()}
    texts = {query: query if int(query) % 7 else "the same" for query in qrels}
    try:
        gating, reported = halves(qrels, texts, seed)
    except InputError:
        return
    assert gating and reported and not gating & reported and gating | reported == set(qrels)
    first, second = ({p for query in half for p in found[query]} for half in (gating, reported))
    assert not first & second
    assert not {texts[query] for query in gating} & {texts[query] for query in reported}
    again = halves(dict(reversed(qrels.items())), texts, seed)
    assert again == (gating, reported), "the order of files changes nothing"


def test_halves_are_halves_and_follow_the_seed() -> None:
    qrels = {f"q{i:02}": {f"p{i // 2}": 1} for i in range(40)}
    halved = [halves(qrels, {}, seed) for seed in range(4)]
    assert all(len(gating) == len(reported) == 20 for gating, reported in halved)
    assert len({frozenset(gating) for gating, _ in halved}) == 4
