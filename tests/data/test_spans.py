"""Spans are what stands in a passage, drawn alike for alike arguments."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, strategies as st

from tercet.core.schema import Passage
from tercet.data import SpanGenerator
from tercet.data.sources import BeirFolder
from tercet.data.spans import _without_addresses


def passages_of(folder: Path) -> list[Passage]:
    return [passage for _, passage in BeirFolder(str(folder)).passages()]


def drawn(texts: list[str], per_passage: int = 5, seed: int = 1) -> list[list[str]]:
    passages = [Passage(str(i), "", text) for i, text in enumerate(texts)]
    return SpanGenerator(texts).generate(passages, per_passage, seed)


def test_a_span_is_up_to_three_words_of_its_passage(tiny_beir_path: Path) -> None:
    passages = passages_of(tiny_beir_path)
    generator = SpanGenerator([passage.contents for passage in passages])
    for passage, spans in zip(passages, generator.generate(passages, 4, 1), strict=True):
        assert 1 < len(spans) == len({span.lower() for span in spans}) <= 4
        assert all(span in passage.contents and 1 <= len(span.split()) <= 3 for span in spans)


def test_equal_arguments_give_equal_spans_whatever_stands_beside(tiny_beir_path: Path) -> None:
    passages = passages_of(tiny_beir_path)
    generator = SpanGenerator([passage.contents for passage in passages])
    once = generator.generate(passages, 3, 7)
    assert generator.generate(passages, 3, 7) == once
    assert generator.generate(passages[::-1], 3, 7) == once[::-1]
    assert [generator.generate([passage], 3, 7)[0] for passage in passages] == once
    assert generator.generate(passages, 3, 8) != once


def test_words_of_many_passages_begin_and_end_no_span(tiny_beir_path: Path) -> None:
    passages = passages_of(tiny_beir_path)
    generator = SpanGenerator([passage.contents for passage in passages])
    ends = {
        word.lower()
        for spans in generator.generate(passages, 50, 1)
        for span in spans
        for word in (span.split()[0], span.split()[-1])
    }
    # Each template stands in twenty passages, each topic in three.
    assert not ends & {"the", "is", "guide", "winter", "a", "day"}
    assert {"lighthouse", "keeper"} <= ends


def test_no_span_crosses_a_clause_or_holds_an_address() -> None:
    text = "Red apples, green pears. See https://example.org/page or mail me@example.org now"
    for span in drawn([text], per_passage=100)[0]:
        assert not {*",.@:/"} & {*span}
        assert not ("apples" in span and "green" in span)


def test_rarer_and_earlier_spans_are_likelier() -> None:
    texts = ["zebra filler filler filler", *["filler word"] * 9, *["other thing"] * 30]
    firsts = [drawn(texts, per_passage=1, seed=seed)[0][0] for seed in range(300)]
    assert sum("zebra" in span for span in firsts) > 200


def test_a_passage_without_words_gives_no_span() -> None:
    assert drawn(["", "...", "2024", "a b c"]) == [[], [], [], []]


def test_words_that_all_passages_share_are_still_words() -> None:
    assert drawn(["one"], 3) == [["one"]]
    assert [sorted(spans) for spans in drawn(["same"] * 3)] == [["same"]] * 3


@given(st.lists(st.text(max_size=40), min_size=1, max_size=12), st.integers(1, 9), st.integers(0))
def test_any_texts_give_spans_of_theirs(texts: list[str], per_passage: int, seed: int) -> None:
    for text, spans in zip(texts, drawn(texts, per_passage, seed), strict=True):
        assert len(set(spans)) == len(spans) <= per_passage
        assert all(span in text and span.strip() for span in spans)


ADDRESS = re.compile(r"https?://\S+|\S+@\S+\.\w+")


@given(st.text(st.sampled_from("ab@.:/ \n)https"), max_size=30) | st.text(max_size=30))
def test_addresses_are_what_one_expression_finds_that_takes_longer(text: str) -> None:
    assert _without_addresses(text) == ADDRESS.sub(" . ", text)
