"""Whatever reads a text of a corpus takes time in proportion to its length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from growth import assert_linear

from tercet.config.corpus import TableSettings
from tercet.core.schema import InputError, Passage
from tercet.core.text import excerpt, one_line
from tercet.data import SpanGenerator
from tercet.data.judgements import is_own
from tercet.data.near_duplicates import normalised
from tercet.data.sources.documents import _markdown
from tercet.data.sources.formats import read_file
from tercet.data.sources.json_files import json_rows
from tercet.data.sources.trec import topics
from tercet.retrieval import BM25Retriever

SIZE = 16_000


def repeated(piece: str) -> Callable[[int], str]:
    return lambda size: (piece * (size // len(piece) + 1))[:size]


#: Texts on which an expression that tries every start, or every end, takes a time that is squared.
TEXTS = {
    "no blanks": repeated("日本の灯台は海辺にあり夜になると光を放つ"),
    "one word": repeated("x"),
    "base64": repeated("iVBORw0KGgoAAAANSUhEUgAA+/"),
    "signs of addresses": repeated("a@"),
    "dots": repeated("a@."),
    "addresses": repeated("a@b.c"),
    "web addresses": repeated("https://"),
    "dashes": repeated(" -/"),
    "blanks": repeated(" "),
    "line breaks": repeated("\n"),
    "headings": repeated("#"),
    "a heading of blanks": lambda size: "# x" + " " * size + "x",
    "hashes after blanks": repeated("# "),
    "first tags": repeated("<top>"),
    "tags that do not end": repeated("<topic "),
    "elements that do not end": repeated("<a>"),
    "numbers": repeated("1.5,"),
    "quotes": repeated('"'),
    "words": repeated("lighthouse keeper's lamp "),
}


def spans(text: str) -> object:
    return SpanGenerator([text]).generate([Passage("p", "", text)], 3, 1)


def bm25(text: str) -> object:
    return BM25Retriever([Passage("p", "", text)], ids=["p"]).search(["x"], 1)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(
    "run",
    [
        spans,
        bm25,
        one_line,
        normalised,
        lambda text: excerpt(text, 40),
        lambda text: is_own(text, text),
    ],
    ids=("spans", "bm25", "one line", "normalised", "excerpt", "own passage"),
)
def test_a_text_takes_time_by_its_length(
    run: Callable[[str], object], text: Callable[[int], str]
) -> None:
    assert_linear(run, text, SIZE)


def as_file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[str], object]:
    def run(text: str) -> object:
        file = folder / name
        file.write_text(text)
        try:
            return read(file)
        except InputError as error:
            return error

    return run


READERS: dict[str, Callable[[Path], object]] = {
    "p.md": _markdown,
    "t.topics": lambda file: list(topics(file)),
    "p.json": lambda file: list(json_rows(file, "passages")),
    **{
        name: lambda file: list(read_file(file, TableSettings(path=str(file)), None, "passages"))
        for name in ("p.csv", "p.tsv", "p.jsonl")
    },
    "j.qrels": lambda file: list(read_file(file, TableSettings(path=str(file)), None, "qrels")),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("name", READERS)
def test_a_file_takes_time_by_its_length(
    tmp_path: Path, name: str, text: Callable[[int], str]
) -> None:
    assert_linear(as_file(tmp_path, name, READERS[name]), text, SIZE)
