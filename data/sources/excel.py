"""Rows of a sheet in an Excel file (.xlsx), by openpyxl; the file's distinct texts are held."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time
from pathlib import Path
from typing import Any

from tercet.core.extras import missing
from tercet.core.schema import InputError
from tercet.core.text import error_text


def sheet_records(file: Path, sheet: str | None) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of each row that has any, as text, as a CSV export of the sheet has them.

    Raises InputError for a missing sheet, and where there are several and `sheet` names none.
    """
    try:
        from openpyxl import load_workbook  # it takes a quarter of a second
    except ImportError:
        raise missing("a reader of Excel files", "excel") from None
    try:
        book = load_workbook(file, read_only=True, data_only=True)
    except Exception as error:  # of zip files, XML and openpyxl itself
        raise InputError(
            f"{file}: cannot be read as .xlsx ({error_text(error)}): save it as .xlsx or .csv anew"
        ) from None
    try:
        names = [each.title for each in book.worksheets]
        if sheet is None and len(names) != 1:
            raise InputError(f"{file}: has sheets {', '.join(names)}: give `sheet`, one of them")
        if sheet is not None and sheet not in names:
            raise InputError(f"{file}: no sheet {sheet!r}; there are {', '.join(names)}")
        rows = book[sheet or names[0]]
        rows.reset_dimensions()  # some programs write wrong ones
        for number, row in enumerate(rows.iter_rows(values_only=True), 1):
            cells = [_text(cell) for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield f"{file}, row {number}", cells
    finally:
        book.close()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # Excel knows no whole numbers
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)
