"""A BEIR folder is read as it is, or refused by file and line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources.beir import BeirFolder

CORPUS = b'{"_id": "p", "title": "T", "text": "x"}\n'
QUERIES = b'{"_id": "q", "text": "y"}\n'
QRELS = b"query-id\tcorpus-id\tscore\nq\tp\t1\n"


def folder(
    path: Path,
    corpus: bytes = CORPUS,
    queries: bytes | None = QUERIES,
    qrels: bytes | None = QRELS,
) -> BeirFolder:
    (path / "qrels").mkdir(exist_ok=True)
    for file, content in [
        ("corpus.jsonl", corpus),
        ("queries.jsonl", queries),
        ("qrels/test.tsv", qrels),
    ]:
        if content is not None:
            (path / file).write_bytes(content)
    return BeirFolder(str(path))


def read(source: BeirFolder) -> tuple[list[Passage], list[Query], list[tuple[str, str, str, int]]]:
    passages = [passage for _, passage in source.passages()]
    queries = [query for _, query in source.queries()]
    return passages, queries, [row[1:] for row in source.judgements()]


def refusal(read_all: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        read_all()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folder_is_read_in_its_own_order(tmp_path: Path) -> None:
    corpus = b'{"_id": "b", "title": "T", "text": "x"}\n\n{"_id": "a", "text": "y", "url": 1}\n'
    source = folder(tmp_path, corpus, qrels=b"q\tp\t1\nq\ta\t-1\n")
    passages, queries, judgements = read(source)
    assert passages == [Passage("b", "T", "x"), Passage("a", "", "y")]
    assert queries == [Query("q", "y")]
    assert judgements == [("test", "q", "p", 1), ("test", "q", "a", -1)]
    assert [place for place, _ in source.passages()] == [
        f"{tmp_path}/corpus.jsonl:1",
        f"{tmp_path}/corpus.jsonl:3",
    ]


def test_a_split_is_the_name_of_its_file(tiny_beir_path: Path) -> None:
    source = BeirFolder(str(tiny_beir_path))
    splits = [split for _, split, *_ in source.judgements()]
    assert {split: splits.count(split) for split in splits} == {"dev": 24, "test": 36}
    assert len(list(source.passages())) == 60 and len(list(source.queries())) == 20


def test_judgements_are_not_needed(tmp_path: Path) -> None:
    assert read(folder(tmp_path, queries=None, qrels=None))[1:] == ([], [])
    assert read(folder(tmp_path, queries=b"not read", qrels=None))[1:] == ([], [])


@pytest.mark.fault("malformed input")
def test_line_ends_and_a_byte_order_mark_are_no_part_of_a_text(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    marked = folder(
        tmp_path,
        bom + CORPUS.replace(b"\n", b"\r\n"),
        bom + QUERIES.rstrip(),
        bom + QRELS.replace(b"\n", b"\r\n"),
    )
    expected = ([Passage("p", "T", "x")], [Query("q", "y")], [("test", "q", "p", 1)])
    assert read(marked) == expected


@pytest.mark.fault("ids that are no text")
def test_whole_numbers_are_ids_by_their_digits(tmp_path: Path) -> None:
    source = folder(tmp_path, b'{"_id": 7, "text": "x"}', b'{"_id": -1, "text": "y"}')
    passages, queries, _ = read(source)
    assert (passages[0].id, queries[0].id) == ("7", "-1")


def test_a_line_separator_within_a_text_ends_no_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three\x0bfour\x1cfive"
    line = json.dumps({"_id": "p", "text": text}, ensure_ascii=False).encode()
    assert read(folder(tmp_path, line + b"\n"))[0] == [Passage("p", "", text)]


@pytest.mark.fault("malformed input")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON"),
        (b"plain words", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"_id": "p"}', "'text' is missing"),
        (b'{"_id": "p", "text": ["x"]}', "'text' must be text, not ['x']"),
        (b'{"_id": "p", "title": 3, "text": "x"}', "'title' must be text, not 3"),
        (b'{"text": "x"}', "'_id' must be text that is not empty, or a whole number, not None"),
        (
            b'{"_id": null, "text": "x"}',
            "'_id' must be text that is not empty, or a whole number, not None",
        ),
        (
            b'{"_id": "", "text": "x"}',
            "'_id' must be text that is not empty, or a whole number, not ''",
        ),
        (
            b'{"_id": 1.0, "text": "x"}',
            "'_id' must be text that is not empty, or a whole number, not 1.0",
        ),
        (
            b'{"_id": true, "text": "x"}',
            "'_id' must be text that is not empty, or a whole number, not True",
        ),
        (b'{"_id": "p", "text": "\\ud83d"}', "'text' holds '\\ud83d', which is half a character"),
        (b'{"_id": "\\udc00", "text": "x"}', "'_id' holds '\\udc00'"),
        (b'{"_id": "p", "text": "caf\xe9"}', "not UTF-8 (byte 26 of the line)"),
    ],
    ids=range(16),
)
def test_a_malformed_line_is_refused_with_its_place(
    tmp_path: Path, line: bytes, message: str
) -> None:
    source = folder(tmp_path, CORPUS + b"\n" + line + b"\n")
    expected = f"{tmp_path}/corpus.jsonl:3: {message}"
    assert refusal(lambda: list(source.passages())).startswith(expected)
    if b"title" not in line:
        source = folder(tmp_path, queries=line)
        assert refusal(lambda: list(source.queries())).startswith(f"{tmp_path}/queries.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"q\tp", "2 cells for 3 columns"),
        (b"q", "1 cells for 3 columns"),
        (b"q\t0\tp\t1", "4 cells for 3 columns"),
        (b"q\tp\tgood", "'good' is not a whole number"),
        (b"q\tp\t0.5", "'0.5' is not a whole number"),
        (b"q\tp\t", "'' is not a whole number"),
        (b"q\tp\t99999999999", "grade 99999999999 is too large"),
        (b"query-id\tcorpus-id\tscore", "'score' is not a whole number"),
        (b"q\t\xff\t1", "not UTF-8 (byte 3 of the line)"),
    ],
)
def test_a_malformed_judgement_is_refused_with_its_place(
    tmp_path: Path, line: bytes, message: str
) -> None:
    source = folder(tmp_path, qrels=QRELS + line + b"\n")
    expected = f"{tmp_path}/qrels/test.tsv:3: {message}"
    assert refusal(lambda: list(source.judgements())) == expected


ROWS_OF_ALL = [{"_id": "a", "title": float("nan"), "text": "x"}, {"_id": "b", "text": "y"}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS_OF_ALL),
        json.dumps(ROWS_OF_ALL, indent=1),
        "\n".join(json.dumps(row) for row in ROWS_OF_ALL),
        "\n".join(json.dumps(row, indent=2) for row in ROWS_OF_ALL),
        json.dumps({"data": ROWS_OF_ALL}, indent=1),
        json.dumps({"a": {"text": "x"}, "b": {"title": "", "text": "y"}}, indent=1),
        json.dumps({"a": "x", "b": "y"}, indent=1),
        json.dumps({"queries": {"q": "y"}, "corpus": {"a": "x", "b": "y"}, "relevant_docs": {}}),
    ],
    ids=(
        *("array", "array over lines", "lines", "objects over lines", "an object's array"),
        *("mapping to objects", "mapping to texts", "three mappings"),
    ),
)
@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.json"])
def test_json_is_read_in_the_shape_that_it_has(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / name).write_text(text)
    passages = [passage for _, passage in BeirFolder(str(tmp_path)).passages()]
    assert passages == [Passage("a", "", "x"), Passage("b", "", "y")]


def test_one_object_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "a", "text": "x"}, indent=1))
    assert [p for _, p in BeirFolder(str(tmp_path)).passages()] == [Passage("a", "", "x")]


def test_what_is_no_beir_folder_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no such folder" in refusal(lambda: BeirFolder(str(tmp_path / "nowhere")))
    assert "holds no corpus.jsonl" in refusal(lambda: BeirFolder(str(empty)))
    assert "has qrels but no queries.jsonl" in refusal(lambda: folder(empty, queries=None))


def test_the_identity_follows_every_file_that_is_read(tmp_path: Path) -> None:
    same = folder(tmp_path).identity()
    assert folder(tmp_path).identity() == same
    changes: list[dict[str, bytes]] = [
        {"corpus": CORPUS + CORPUS},
        {"queries": QUERIES + b"\n"},
        {"qrels": QRELS + b"q\tr\t1\n"},
    ]
    seen = {same, *(folder(tmp_path, **change).identity() for change in changes)}
    folder(tmp_path)
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels" / "dev.tsv")
    seen.add(BeirFolder(str(tmp_path)).identity())
    assert len(seen) == 5
    (tmp_path / "notes.txt").write_text("not read")
    assert BeirFolder(str(tmp_path)).identity() in seen


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
)
ROWS = st.dictionaries(st.sampled_from(["_id", "title", "text", "more"]), JSON).map(
    lambda row: json.dumps(row).encode()
)
PIECES = st.sampled_from(
    [b"\t", b"q", b"1", b"-", b"\xff", b"\xef\xbb\xbf", b"score", b"\r", b"{}", b'"_id"', b" "]
)
LINES = st.lists(
    st.binary(max_size=20) | ROWS | st.lists(PIECES, max_size=6).map(b"".join), max_size=4
).map(b"\n".join)


@given(LINES, LINES, LINES)
def test_any_bytes_are_read_or_refused(corpus: bytes, queries: bytes, qrels: bytes) -> None:
    with tempfile.TemporaryDirectory() as path:
        source = folder(Path(path), corpus, queries, qrels)
        for rows in (source.passages, source.queries, source.judgements):
            try:
                for place, *values in rows():
                    assert place.startswith(path)
                    assert all(str(value).encode() is not None for value in values)
            except InputError as error:
                assert str(error).startswith(path) and "\n" not in str(error)
