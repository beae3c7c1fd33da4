"""Relevance judgements in text: TREC's and BEIR's, between tabs or any white space.

A record has a query, a passage and a grade, with TREC's iteration as second of four. Between tabs
an id may hold blanks, and a cell may be quoted as in CSV.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tercet.config.corpus import QrelsTable, TableSettings
from tercet.core.schema import InputError
from tercet.data.sources import cells as known
from tercet.data.sources.text_files import lines

WIDTHS = (3, 4)
_BLANKS = re.compile(r"[ \t\v\f]+")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


def qrel_records(file: Path, settings: TableSettings) -> Iterator[tuple[int, list[str]]]:
    """Numbered lines as cells, as many as the first line or the recipe has names for."""
    widths: Collection[int] = [len(settings.columns)] if settings.columns else WIDTHS
    quotes = settings.quotes != "text"
    first = not settings.columns
    for number, line in lines(file, settings.encoding):
        cells = _cells(line, widths, quotes)
        if first and not any(map(_is_number, cells)):
            widths = [len(cells)]
        first = False
        yield number, cells


def _cells(line: str, widths: Collection[int], quotes: bool) -> list[str]:
    """Cells between tabs if their number is one of `widths`, else between any white space."""
    between_tabs = _split(line, quotes)
    while not between_tabs[-1] and (
        len(between_tabs) - 1 in widths or len(between_tabs) > max(widths)
    ):
        between_tabs.pop()
    if len(between_tabs) in widths:
        return between_tabs
    between_blanks = _split(_BLANKS.sub("\t", line.strip(" \t\v\f")), quotes)
    fits = len(between_blanks) in widths or "\t" not in line
    return between_blanks if fits else between_tabs


def _split(line: str, quotes: bool) -> list[str]:
    cells = [cell.strip() for cell in line.split("\t")]
    if quotes and '"' in line:
        with suppress(csv.Error):
            return next(csv.reader(["\t".join(cells)], delimiter="\t", strict=True))
    return cells


def is_header(cells: Sequence[str], place: str, *, named: bool) -> bool:
    """Whether a first record holds names of columns; `named`: it has some that are known.

    Raises InputError for what is neither that nor a judgement.
    """
    if any(map(_is_number, cells)):
        return False
    if not named:
        raise InputError(
            f"{place}: neither names of columns that are known, as {', '.join(known.GRADES[:3])}, "
            f"nor a query, a passage and a whole number between tabs or blanks: {list(cells)!r}"
        )
    return True


def judgement(row: known.Row, settings: QrelsTable, place: str) -> tuple[str, str, int]:
    """Query, passage and grade of a row."""
    query = known.column(row, settings.query, known.JUDGED_QUERIES, "judged queries", place)
    passage = known.column(row, settings.passage, known.PASSAGE_IDS, "judged passages", place)
    grade = known.column(row, settings.grade, known.GRADES, "grades", place)
    return (
        known.as_id(row[query], query, place),
        known.as_id(row[passage], passage, place),
        known.as_grade(row[grade], place),
    )


#: The columns that are read of a table of judgements.
QREL_COLUMNS = (*known.JUDGED_QUERIES, *known.PASSAGE_IDS, *known.GRADES)


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None
