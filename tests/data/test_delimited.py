"""Whatever its delimiter, quotes, line ends and encoding, a text file gives the cells written."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from tercet.config.corpus import PassagesTable
from tercet.core.schema import InputError
from tercet.data.sources.cells import Row
from tercet.data.sources.delimited import Dialect, find_dialect
from tercet.data.sources.formats import read_file
from tercet.data.sources.made_ids import MadeIds, query_id

NAMES = ("id", "title", "text", "author", "year")
#: The reader ends lines in cells with LF, whatever they ended with.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=15)
#: What is hard to tell: delimiters, quotes and line ends.
HARD = st.text(st.sampled_from(",;|\t\"'\n a1é"), max_size=8)


def rows_of(file: Path, **told: object) -> list[Row]:
    table = PassagesTable(path=str(file), **told)  # type: ignore[arg-type]
    return [row for _, row in read_file(file, table, None, "passages")]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], bytes, str]:
    """Rows, the bytes of a file with them, and the file's name."""
    width = draw(st.integers(2, len(NAMES)))
    names = draw(st.permutations(NAMES))[:width]
    if "id" not in names:  # between tabs a header is known by it
        names = ["id", *names[1:]]
    cells = draw(st.lists(st.lists(CELLS | HARD, min_size=width, max_size=width), max_size=6))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=draw(st.sampled_from(",;\t|")),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        lineterminator=end,
    )
    for record in [names, *cells]:
        writer.writerow([cell.replace("\n", end) for cell in record])
    content = out.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    suffix = draw(st.sampled_from([".csv", ".tsv", ".txt"]))
    packed = draw(st.booleans())
    rows = [dict(zip(names, record, strict=True)) for record in cells if "".join(record).strip()]
    return rows, gzip.compress(content) if packed else content, f"t{suffix}{'.gz' * packed}"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_a_table_is_read_as_it_was_written(
    tmp_path: Path, table: tuple[list[Row], bytes, str]
) -> None:
    rows, content, name = table
    (tmp_path / name).write_bytes(content)
    assert rows_of(tmp_path / name) == rows


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(HARD, HARD), min_size=1, max_size=5),
    delimiter=st.sampled_from([":", "~", "¦", "\x1f", " ", "^"]),
)
def test_any_delimiter_may_be_told(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([("id", "text"), *rows])
    (tmp_path / "t.csv").write_bytes(out.getvalue().encode("cp1252"))
    found = rows_of(tmp_path / "t.csv", delimiter=delimiter, encoding="cp1252")
    assert [tuple(row.values()) for row in found] == [row for row in rows if "".join(row).strip()]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.sampled_from("\"', a;"), min_size=1, max_size=8), min_size=1))
def test_between_tabs_quotes_may_be_text(tmp_path: Path, texts: list[str]) -> None:
    (tmp_path / "t.tsv").write_text("".join(f"p{i}\t{text}\n" for i, text in enumerate(texts)))
    assert [row["text"] for row in rows_of(tmp_path / "t.tsv", quotes="text")] == texts


@pytest.mark.parametrize(
    ("name", "text", "dialect"),
    [
        ("t.csv", "id,text\n1,a; b\n2,c; d\n", Dialect(",")),
        ("t.csv", "id;text\n1;a, b\n2;c, d\n", Dialect(";")),
        ("t.csv", "id;price;text\n1;2,50;a, b\n2;3,70;c, d\n", Dialect(";")),
        ("t.csv", "id|text\n1|a, b; c\n", Dialect("|")),
        ("t.csv", "id\ttext\n1\ta, b\n", Dialect("\t", quotes=False)),
        ("t.csv", "text\na, b\nc, d, e\n", Dialect(";")),
        ("t.csv", "sep=|\nid|text\n1|a,b\n", Dialect("|")),
        ("t.csv", 'id,text\n1,"a\n\nb; c"\n', Dialect(",")),
        ("t.tsv", "1\ta, b\n2\tc, d\n", Dialect("\t", quotes=False)),
        # As MS MARCO's passages are: quotes that open a text and end within it.
        ("t.tsv", '1\t"So" he said\n2\t"No, said she\n', Dialect("\t", quotes=False)),
        ("t.tsv", '1\t"So"\n2\tNo\n', Dialect("\t", quotes=False)),
        ("t.tsv", '1\t"So ""he"" said"\n2\tNo\n', Dialect("\t")),
        ("t.tsv", '1\t"So\nhe said"\n2\tNo\n', Dialect("\t")),
        ("t.tsv", '"id"\t"text"\n"2"\t"No"\n', Dialect("\t")),
    ],
)
def test_the_dialect_is_found(tmp_path: Path, name: str, text: str, dialect: Dialect) -> None:
    (tmp_path / name).write_text(text)
    assert find_dialect(tmp_path / name, names=("id", "text")) == dialect


def test_excel_s_line_that_names_the_delimiter_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=|\nid|text\n1|a,b\n")
    assert rows_of(tmp_path / "t.csv") == [{"id": "1", "text": "a,b"}]


@pytest.mark.parametrize(
    ("told", "content", "message"),
    [
        ({}, b"id,text\n1,caf\xe9\n", "t.csv:2: not UTF-8 .*give `encoding`, as cp1252"),
        ({"encoding": "cp1253x"}, b"id,text\n", "there is no encoding 'cp1253x'"),
        ({"encoding": "ascii"}, b"id,text\n1,caf\xe9\n", "t.csv:2: not ascii"),
        ({"encoding": "utf-16"}, b"id,text\n1,x\n\n", "t.csv: not utf-16, after line 0"),
        ({"delimiter": "||"}, b"id||text\n", r"delimiter '\|\|' is not one character"),
        ({"columns": ["id", "text"]}, b"1,x\n2,y,z\n", "t.csv:2: 3 cells for 2 columns"),
    ],
)
def test_what_is_told_wrong_is_refused(
    tmp_path: Path, told: dict[str, object], content: bytes, message: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        rows_of(tmp_path / "t.csv", **told)


# ── made ids ─────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60))
@example(list("abcabcaab"))
def test_made_ids_are_of_texts_and_never_the_same(texts: list[str]) -> None:
    made = MadeIds(recent=4)
    ids = [made.of("T", text) for text in texts]
    assert len(set(ids)) == len(ids)
    again = MadeIds()
    assert ids == [again.of("T", text) for text in texts]
    # Those of other texts stay, whatever comes before.
    more = MadeIds()
    more.of("T", "another")
    assert ids == [more.of("T", text) for text in texts]


def test_title_and_text_are_told_apart() -> None:
    made = MadeIds()
    assert made.of("a", "b c") != made.of("a b", "c")
    assert query_id("Reset  my Password ") == query_id("reset my password") != query_id("reset")
