"""Rerankers of every shape: read as their makers read them, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reranker_folders import PAIRS, READ, REFUSED, TEXTS, Shape, expected, phobert
from transformers import AutoTokenizer

from tercet.core.schema import InputError
from tercet.modeling import Asked, CrossEncoderTeacher
from tercet.modeling.batching import cut_texts


def load(folder: Path, **given) -> CrossEncoderTeacher:  # noqa: ANN003
    return CrossEncoderTeacher.from_pretrained(folder, precision="fp32", device="cpu", **given)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", READ.values(), ids=READ)
def test_scores_are_those_of_the_makers(tmp_path: Path, shape: Shape) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shape.make(folder)
    theirs = expected(shape, folder, PAIRS)
    assert theirs.std() > 1e-3, "all pairs are alike"
    ours = load(folder, max_length=180, asked=shape.asked).score(PAIRS)
    assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", REFUSED.values(), ids=REFUSED)
def test_what_would_be_read_wrongly_is_refused_by_its_name(tmp_path: Path, shape: Shape) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shape.make(folder)
    with pytest.raises(InputError) as caught:
        load(folder, max_length=128, asked=shape.asked)
    assert shape.reference in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Qwen3 classifier with a chat template", "monoT5", "bge-reranker-v2-gemma", "BERT"]
)
def test_a_long_passage_is_cut_and_what_stands_around_it_is_not(tmp_path: Path, name: str) -> None:
    READ[name].make(tmp_path)
    teacher = load(tmp_path, max_length=24, asked=READ[name].asked)
    long = " ".join(TEXTS * 500)
    pairs = [("bees", long), ("bees", long[: len(long) // 2]), (long, "bees"), (long, long)]
    rows = teacher.inputs.tokenize(pairs)["input_ids"]
    short = teacher.inputs.tokenize([("bees", "bees")])["input_ids"][0]
    assert [len(row) <= teacher.max_length for row in rows] == [True] * 4
    assert teacher.lengths(pairs).tolist()[0] == teacher.max_length
    assert all(row[-1] == short[-1] and row[0] == short[0] for row in rows)
    first, second = teacher.score(pairs[:2])
    assert first == pytest.approx(second, abs=1e-6), "what is cut off has no say"
    assert teacher.counts["cut"] >= 3


def test_a_tokenizer_in_python_cuts_by_tokens(tmp_path: Path) -> None:
    phobert(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert not tokenizer.is_fast
    (cut,) = cut_texts(tokenizer, [" ".join(TEXTS)], 5)
    assert len(tokenizer(cut, add_special_tokens=False)["input_ids"]) == 5
    assert " ".join(TEXTS).startswith(cut)
    assert cut_texts(tokenizer, ["", TEXTS[0]], 100) == ["", TEXTS[0]]
    assert load(tmp_path, max_length=20).score([(TEXTS[0] * 9, TEXTS[1] * 9)]).shape == (1,)


def test_equal_pairs_are_scored_once(tmp_path: Path) -> None:
    READ["BERT"].make(tmp_path)
    teacher = load(tmp_path)
    once = teacher.score(PAIRS)
    teacher.counts.clear()
    again = teacher.score([*PAIRS, *PAIRS])
    tokens = teacher.counts["tokens"]
    teacher.counts.clear()
    teacher.score(PAIRS)
    assert tokens == teacher.counts["tokens"] and (again == [*once, *once]).all()


def test_an_instruction_is_part_of_what_is_read(tmp_path: Path) -> None:
    READ["Qwen3-Reranker as published"].make(tmp_path)
    plain, asked = load(tmp_path), load(tmp_path, asked=Asked(instruction="Find bees."))
    assert np.abs(plain.score(PAIRS) - asked.score(PAIRS)).max() > 1e-3
    assert "assumed" in plain.reading and "Find bees." in asked.reading
    assert "'yes' over 'no'" in plain.reading


def test_a_form_longer_than_the_model_is_refused_with_the_longest_that_fits(tmp_path: Path) -> None:
    READ["Qwen3-Reranker as published"].make(tmp_path)
    with pytest.raises(InputError, match=r"set teacher.max_length to \d+ or less"):
        load(tmp_path, max_length=1000)


def test_words_that_answer_may_be_named(tmp_path: Path) -> None:
    READ["LogitScore of one answer"].make(tmp_path)
    one, two = load(tmp_path), load(tmp_path, asked=Asked(answers=["yes", "no"]))
    yes, no = (load(tmp_path, asked=Asked(answers=[word])) for word in ("yes", "no"))
    assert np.allclose(one.score(PAIRS), yes.score(PAIRS))
    assert np.allclose(two.score(PAIRS), yes.score(PAIRS) - no.score(PAIRS), atol=1e-5)
