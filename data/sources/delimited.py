"""Records of text files whose cells stand between delimiters: CSV, TSV and their relatives.

An unset delimiter is the one under which the first records have as many cells as the very first,
and more than one. Between tabs, quotes are part of the text, unless they must be CSV's.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tercet.core.schema import InputError
from tercet.data.sources.text_files import kind, lines

#: A record: the number of its first line, and its cells.
Records = Iterator[tuple[int, list[str]]]

_SAMPLE_LINES, _SAMPLE_CHARACTERS = 1_000, 1 << 20
#: Delimiters in the order in which equals are chosen.
_DELIMITERS = {".csv": ",;\t|"}
_TABS_FIRST = "\t,;|"
_WRITTEN = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
#: Excel's first line that names the delimiter.
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
_MOST_CELL = min(sys.maxsize, 2**31 - 1)  # a text may be longer than csv's 131,072 characters


@dataclass(frozen=True)
class Dialect:
    """How the cells of a file are told apart."""

    delimiter: str
    quotes: bool = True  # a cell may be quoted, and then hold delimiters and line breaks


def find_dialect(
    file: Path,
    encoding: str | None = None,
    *,
    delimiter: str | None = None,
    quotes: bool | None = None,
    names: Collection[str] = (),
) -> Dialect:
    """The dialect of a file's first lines; what is given is kept.

    `names`, of columns that a header may have, decide between delimiters that fit alike.
    """
    sample, characters = [], 0
    for _, line in islice(lines(file, encoding, blank=True), _SAMPLE_LINES):
        sample.append(line)
        characters += len(line)
        if characters > _SAMPLE_CHARACTERS:
            break
    if sample and (named := _SEPARATOR_LINE.fullmatch(sample[0])):
        delimiter, sample = delimiter or named[1], sample[1:]
    if delimiter:
        delimiter = _WRITTEN.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise InputError(f"{file}: delimiter {delimiter!r} is not one character, or tab")
    known = {name.lower() for name in names}
    order = _DELIMITERS.get(kind(file), _TABS_FIRST)
    fits = [
        (_fit(_parsed(sample, dialect), known), dialect)
        for each in ([delimiter] if delimiter else order)
        for dialect in [Dialect(each, _quoted(sample) if each == "\t" else True)]
    ]
    best = max(fits, key=lambda fit: fit[0])[1]  # of equals, the first
    return best if quotes is None else Dialect(best.delimiter, quotes)


def _fit(records: Sequence[Sequence[str]], known: set[str]) -> tuple[float, bool]:
    """How well a delimiter fits: the share of records as wide as the first, if it has cells."""
    if not records:
        return 0.0, False
    width = len(records[0])
    alike = sum(len(record) == width for record in records) / len(records)
    named = any(cell.strip().lower() in known for cell in records[0])
    # A file of one column is read by any delimiter that none of its lines has.
    return (alike if width > 1 else 0.01 * (alike == 1)), named


def _quoted(sample: Sequence[str]) -> bool:
    """Whether cells between tabs must be quoted: read so, they fit, and some show it.

    What shows it is a cell with a tab or a line break, a doubled quote, or a quoted header.
    """
    parsed, plain = (
        _parsed(sample, Dialect("\t"), strict=True),
        _parsed(sample, Dialect("\t", False)),
    )
    if not parsed or any(len(record) != len(parsed[0]) for record in parsed):
        return False
    raw = [cell for line in plain for cell in line if len(cell) > 1 and cell[0] == cell[-1] == '"']
    return (
        any("\t" in cell or "\n" in cell for record in parsed for cell in record)
        or any('""' in cell[1:-1] for cell in raw)
        or (bool(plain) and all(cell.startswith('"') for cell in plain[0]))
    )


def _parsed(sample: Sequence[str], dialect: Dialect, *, strict: bool = False) -> list[list[str]]:
    """The records of a sample up to the first fault, or with `strict` none if there is one."""
    if not dialect.quotes:
        return [line.split(dialect.delimiter) for line in sample if line.strip()]
    csv.field_size_limit(_MOST_CELL)
    records: list[list[str]] = []
    reader = csv.reader((f"{line}\n" for line in sample), delimiter=dialect.delimiter, strict=True)
    try:
        records += (cells for cells in reader if cells)
    except csv.Error:
        cut = len(sample) >= _SAMPLE_LINES and reader.line_num == len(sample)
        return [] if strict and not cut else records
    return records


def records(file: Path, dialect: Dialect, encoding: str | None = None) -> Records:
    """Records with any text: the others are blank lines, which spreadsheets write with delimiters.

    Raises InputError for a quote that does not end as it should.
    """
    rows = lines(file, encoding, blank=dialect.quotes)  # a quoted cell may hold blank lines
    if not dialect.quotes:
        for number, line in rows:
            if number > 1 or not _SEPARATOR_LINE.fullmatch(line):
                yield number, line.split(dialect.delimiter)
        return
    csv.field_size_limit(_MOST_CELL)
    numbers: list[int] = []  # line numbers of one record

    def counted() -> Iterable[str]:
        for number, line in rows:
            if number > 1 or not _SEPARATOR_LINE.fullmatch(line):
                numbers.append(number)
                yield line + "\n"

    reader = csv.reader(counted(), delimiter=dialect.delimiter, strict=True)
    while True:
        numbers.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            mend = ": if its quotes are text, give `quotes: text`" * (dialect.delimiter == "\t")
            raise InputError(f"{file}:{numbers[0]}: not CSV ({error}){mend}") from None
        if any(map(str.strip, cells)):
            yield numbers[0], cells
