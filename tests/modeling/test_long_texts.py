"""A passage of a million characters costs the teacher what it reads of it, once for all pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from growth import assert_linear, seconds

from tercet.modeling.batching import shortened
from tercet.modeling.cross_encoder import CrossEncoderTeacher

TEXTS = {
    "words": "the lighthouse keeper polishes the lantern in winter ",
    "no blanks": "灯台は海辺にあり",
    "one word": "x",
    "signs": "-",
}


@pytest.fixture(scope="module")
def teacher(tiny_cross_encoder_path: Path) -> CrossEncoderTeacher:
    return CrossEncoderTeacher.from_pretrained(
        tiny_cross_encoder_path, precision="fp32", device="cpu", max_length=32
    )


def long(piece: str, size: int) -> str:
    return (piece * (size // len(piece) + 1))[:size]


class Counting:
    """A tokenizer that counts the characters that it reads."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.read = tokenizer, 0

    def __call__(self, texts: Any, *more: Any, **options: Any) -> Any:
        for given in (texts, *more):
            self.read += sum(map(len, [given] if isinstance(given, str) else given))
        return self.tokenizer(texts, *more, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


@pytest.mark.parametrize("piece", TEXTS.values(), ids=TEXTS)
def test_a_long_passage_scores_as_its_whole_text(teacher: CrossEncoderTeacher, piece: str) -> None:
    text = long(piece, 20_000)
    pairs = [(query, passage) for query in ("lantern", "x y") for passage in (text, "a bow")]
    whole = teacher.tokenizer(
        [query for query, _ in pairs],
        [passage for _, passage in pairs],
        truncation="only_second",
        max_length=teacher.max_length,
    )["input_ids"]
    found = teacher.inputs.tokenize(pairs)["input_ids"]
    assert [row.tolist() for row in found] == whole


def test_many_pairs_read_the_beginning_of_a_passage_alone(
    teacher: CrossEncoderTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = long(TEXTS["words"], 1_000_000)
    short = teacher.score([(f"query {i}", text[:600]) for i in range(50)])
    counting = Counting(teacher.tokenizer)
    monkeypatch.setattr(teacher.inputs, "tokenizer", counting)
    scores = teacher.score([(f"query {i}", text) for i in range(50)])
    assert counting.read < 100_000
    assert np.allclose(scores, short)


def test_a_doubled_passage_takes_no_longer(teacher: CrossEncoderTeacher) -> None:
    pairs = lambda size: [(f"q{i}", long(TEXTS["words"], size)) for i in range(8)]  # noqa: E731
    short, far = pairs(50_000), pairs(800_000)
    before = seconds(lambda: teacher.score(short))
    assert seconds(lambda: teacher.score(far)) < 4 * before + 0.1


@pytest.mark.parametrize("piece", TEXTS.values(), ids=TEXTS)
def test_the_beginning_is_found_in_time_by_the_length_of_a_text(
    teacher: CrossEncoderTeacher, piece: str
) -> None:
    assert_linear(
        lambda text: shortened(teacher.tokenizer, [text, text], 32),
        lambda size: long(piece, size),
        32_000,
    )
