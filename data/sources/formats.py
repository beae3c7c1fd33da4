"""Rows of JSON lines, CSV, TSV, TREC and Parquet files, each with its place.

A row is a mapping of columns to values. Files may be gzipped. Malformed input is refused with the
file and line; missing columns are left to the caller.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tercet.core.schema import InputError
from tercet.core.text import one_line
from tercet.data.sources.cells import NAMES_OF_IDS, Row

Rows = Iterator[tuple[str, Row]]

#: Columns of files without a header, by their number.
QREL_COLUMNS = {3: ("query_id", "passage_id", "grade"), 4: ("query_id", "_", "passage_id", "grade")}
TEXT_COLUMNS = {2: ("id", "text"), 3: ("id", "title", "text")}

SUFFIXES = (
    *(".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet"),
    *(".qrels", ".qrel", ".topics", ".xml", ".sgml"),
)
_BATCH_ROWS = 1_024
_TOPIC = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
# A field ends at the next one: a text may hold "<", as in "pH < 7".
_FIELD = re.compile(
    r"<(num|title|desc|narr)>(.*?)(?=</?(?:num|title|desc|narr)>|\Z)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\s*(Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)


def read_file(
    file: Path, columns: Sequence[str] | None = None, *, nameless: dict[int, tuple[str, ...]]
) -> Rows:
    """Rows of a file, by its suffix; a Parquet file is read for `columns` alone.

    `nameless` has the column names of text files without a header. Raises InputError for an unknown
    suffix.
    """
    readers: dict[str, Callable[[], Rows]] = {
        **dict.fromkeys((".jsonl", ".ndjson"), lambda: json_lines(file)),
        ".csv": lambda: csv_rows(file),
        ".parquet": lambda: _parquet_rows(file, columns),
        **dict.fromkeys((".topics", ".xml", ".sgml"), lambda: _topics(file)),
        **dict.fromkeys((".tsv", ".txt", ".qrels", ".qrel"), lambda: _tabbed_rows(file, nameless)),
    }
    assert set(readers) == set(SUFFIXES)
    if kind(file) not in readers:
        raise InputError(
            f"{file}: unknown file type; known are {', '.join(SUFFIXES)}, each with .gz too"
        )
    return readers[kind(file)]()


def kind(file: Path) -> str:
    """The suffix of the format in lower case, without .gz."""
    name = file.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def lines(file: Path, *, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Numbered lines, with `blank` also blank ones. Raises InputError unless they are UTF-8."""
    handle: Any = gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb")
    number = 0
    with handle:
        try:
            for number, raw in enumerate(handle, 1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if blank or line.strip():
                    yield number, line
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file}:{number}: not UTF-8 (byte {error.start + 1} of the line)"
            ) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{file}: a damaged gzip file, after line {number} ({error})"
            ) from None


def json_lines(file: Path) -> Rows:
    """Rows of a file with one JSON object per line."""
    for number, line in lines(file):
        place = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            # The parser's message ends with a position within the line.
            raise InputError(f"{place}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"{place}: not a JSON object")
        yield place, row


def csv_rows(file: Path) -> Rows:
    """Rows of a CSV file (RFC 4180) with a header; quoted cells may hold line breaks."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a text may be longer than 131,072
    numbers: list[int] = []  # line numbers of one record

    def counted() -> Iterator[str]:
        for number, line in lines(file, blank=True):  # a quoted cell may hold blank lines
            numbers.append(number)
            yield line + "\n"

    reader = csv.reader(counted(), strict=True)
    names: list[str] | None = None
    while True:
        numbers.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{file}:{numbers[0]}: not CSV ({error})") from None
        place = f"{file}:{numbers[0]}"
        if not cells:
            continue
        if names is None:
            names = _names(cells, place)
            continue
        if len(cells) != len(names):
            raise InputError(f"{place}: {len(cells)} cells for {len(names)} columns")
        yield place, dict(zip(names, cells, strict=True))


def _names(cells: Sequence[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) != len(names):
        raise InputError(f"{place}: two columns have one name ({', '.join(names)})")
    return names


def _tabbed_rows(file: Path, nameless: dict[int, tuple[str, ...]]) -> Rows:
    """Rows of cells separated by tabs, or by spaces in qrels without tabs.

    The first line is a header if one of its cells is a known name of an id column.
    """
    names: Sequence[str] | None = None
    for number, line in lines(file):
        place = f"{file}:{number}"
        # Texts hold spaces, judgements do not.
        blanks = "\t" not in line and nameless is QREL_COLUMNS
        cells = line.split() if blanks else line.split("\t")
        if names is None:
            if {cell.strip().lower() for cell in cells} & NAMES_OF_IDS:
                names = _names(cells, place)
                continue
            names = nameless.get(len(cells))
            if names is None:
                known = " or ".join(", ".join(columns) for columns in nameless.values())
                raise InputError(
                    f"{place}: {len(cells)} cells and no header: without a header the columns must "
                    f"be {known}, separated by tabs"
                )
        if len(cells) != len(names):
            raise InputError(f"{place}: {len(cells)} cells for {len(names)} columns")
        yield place, dict(zip(names, cells, strict=True))


def _parquet_rows(file: Path, columns: Sequence[str] | None = None) -> Rows:
    """Rows of a Parquet file; only the `columns` that it has are read."""
    try:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        # If no column is known, the reader of the first row refuses it with all names.
        wanted = [name for name in names if columns is None or name in columns] or names
        number = 0
        # Group by group: a reader of all groups keeps them in memory.
        batches = (
            batch
            for group in range(parquet.num_row_groups)
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted)
        )
        for batch in batches:
            for cells in zip(*map(_cells, batch.columns), strict=True):
                number += 1
                yield f"{file}, row {number}", dict(zip(wanted, cells, strict=True))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{file}: cannot be read as Parquet ({reason})") from None


def _cells(column: pa.Array) -> Sequence[Any]:
    """The values of a column; lists of numbers as arrays, which is a hundred times as fast."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        cells: list[Any] = column.to_pylist()
        return cells
    rows = [scalar.values for scalar in column]
    return [None if row is None else row.to_numpy(zero_copy_only=False) for row in rows]


def _topics(file: Path) -> Rows:
    """TREC topics: `num`, `title`, `desc` and `narr`, in the old markup or as XML."""
    text = "\n".join(line for _, line in lines(file))
    found = 0
    for found, block in enumerate(_TOPIC.findall(text), 1):
        fields = {name.lower(): _LABEL.sub("", value) for name, value in _FIELD.findall(block)}
        yield f"{file}, topic {found}", _unescaped(fields)
    if not found:
        yield from _xml_topics(file, text)


def _xml_topics(file: Path, text: str) -> Rows:
    """Topics of later TREC tracks: `<topic number="1"><query>...</query></topic>`."""
    found = 0
    for found, match in enumerate(
        re.finditer(r"<topic\b([^>]*)>(.*?)</topic>", text, re.DOTALL), 1
    ):
        attributes, block = match.groups()
        number = re.search(r"""(?:number|id)\s*=\s*["']([^"']+)""", attributes)
        fields = dict(re.findall(r"<(\w+)>(.*?)</\1>", block, re.DOTALL))
        yield f"{file}, topic {found}", _unescaped({"num": number[1] if number else ""} | fields)
    if not found:
        raise InputError(f"{file}: holds neither <top> nor <topic>, so no TREC topics")


def _unescaped(fields: dict[str, str]) -> Row:
    return {name: one_line(unescape(value)) for name, value in fields.items()}
