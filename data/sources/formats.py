"""Rows of files, by the suffix of their names, each with its place.

A row is a mapping of columns to values. Text files may be gzipped. Malformed input is refused with
the file and line; missing columns are left to the caller. All but `.json` and `.xlsx` are streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tercet.config.corpus import TableSettings
from tercet.core.schema import InputError
from tercet.data.sources.cells import NAMES_OF_IDS, Row, Rows, is_wanted, plain
from tercet.data.sources.delimited import find_dialect, records
from tercet.data.sources.excel import sheet_records
from tercet.data.sources.json_files import json_lines, json_rows
from tercet.data.sources.qrels import is_header, qrel_records
from tercet.data.sources.text_files import kind
from tercet.data.sources.trec import topics

#: Columns of files without a header, by their number.
_QREL_COLUMNS = {
    3: ("query_id", "passage_id", "grade"),
    4: ("query_id", "_", "passage_id", "grade"),
}
_TEXT_COLUMNS = {2: ("id", "text"), 3: ("id", "title", "text")}

SUFFIXES = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".xlsx"),
    *(".qrels", ".qrel", ".topics", ".xml", ".sgml"),
)
#: Of files that are often taken for tables, and how they become one.
_OTHERS = {
    **dict.fromkeys((".xls", ".ods", ".numbers"), "save it as .xlsx or .csv"),
    **dict.fromkeys((".zip", ".7z", ".tar", ".bz2", ".xz", ".zst"), "unpack it, or gzip the file"),
    **dict.fromkeys(
        (".docx", ".pdf", ".html", ".htm", ".md", ".markdown"),
        "put documents (txt, md, html, pdf) in a folder, and give that: corpus.source documents",
    ),
}
_BATCH_ROWS = 1_024


def read_file(file: Path, settings: TableSettings, wanted: Sequence[str] | None, role: str) -> Rows:
    """Rows of a file, by its suffix; a Parquet file is read for the `wanted` columns alone.

    `role` is passages, queries or qrels: it decides the columns of a file between tabs without a
    header. A file of qrels may have any suffix, as qrels.dl20. Raises InputError for another one
    that is unknown.
    """
    encoding = settings.encoding
    readers: dict[str, Callable[[], Rows]] = {
        **dict.fromkeys((".jsonl", ".ndjson"), lambda: json_lines(file, encoding, role)),
        ".json": lambda: json_rows(file, role, encoding),
        ".csv": lambda: _delimited_rows(file, settings, role),
        ".parquet": lambda: _parquet_rows(file, wanted),
        ".xlsx": lambda: _sheet_rows(file, settings),
        **dict.fromkeys((".topics", ".xml", ".sgml"), lambda: topics(file, encoding)),
        **dict.fromkeys((".tsv", ".txt"), lambda: _delimited_rows(file, settings, role)),
        **dict.fromkeys((".qrels", ".qrel"), lambda: _delimited_rows(file, settings, "qrels")),
    }
    assert set(readers) == set(SUFFIXES)
    if kind(file) not in readers:
        if role == "qrels" and kind(file) not in _OTHERS:
            return _delimited_rows(file, settings, role)
        mend = _OTHERS.get(kind(file)) or f"known are {', '.join(SUFFIXES)}, text with .gz too"
        raise InputError(f"{file}: unknown file type: {mend}")
    return readers[kind(file)]()


def is_delimited(file: Path) -> bool:
    """Whether the file's cells stand between delimiters."""
    return kind(file) in (".csv", ".tsv", ".txt")


#: Keys of tables whose text is no column.
_NO_COLUMNS = {
    *("path", "config", "split", "revision", "encoding", "delimiter", "quotes", "sheet"),
    *("ids", "separator", "click_grades"),
}


def named_columns(settings: TableSettings) -> list[str]:
    """The columns that the recipe names."""
    given = vars(settings).items()
    return [value for name, value in given if isinstance(value, str) and name not in _NO_COLUMNS]


def told_for_files(settings: TableSettings) -> str:
    """The first key that is set and is about files alone, or ""."""
    names = ("encoding", "delimiter", "quotes", "columns", "sheet")
    return next((name for name in names if getattr(settings, name) not in (None, [])), "")


def _delimited_rows(file: Path, settings: TableSettings, role: str) -> Rows:
    """Rows of a CSV or TSV file.

    The first record is the header, unless the recipe names the columns, or the file is no CSV and
    no cell of it is the name of an id column or one of the recipe's. Of qrels, a record with a
    number is none.
    """
    columns = {plain(name) for name in named_columns(settings)} | NAMES_OF_IDS
    known = _QREL_COLUMNS if role == "qrels" else _TEXT_COLUMNS
    names: Sequence[str] | None = settings.columns or None
    for number, cells in _records(file, settings, role, columns):
        place = f"{file}:{number}"
        if names is None:
            headed = kind(file) == ".csv" or bool({plain(cell.strip()) for cell in cells} & columns)
            if is_header(cells, place, named=headed) if role == "qrels" else headed:
                names = _names(cells, place)
                continue
            names = known.get(len(cells))
            if names is None:
                usual = " or ".join(", ".join(columns) for columns in known.values())
                raise InputError(
                    f"{place}: {len(cells)} cells and no header: without a header the columns must "
                    f"be {usual}, separated by tabs, or named by `columns`"
                )
        yield place, _row(names, cells, place)


def _records(file: Path, settings: TableSettings, role: str, names: set[str]) -> Any:
    if role == "qrels" and kind(file) != ".csv" and not settings.delimiter:
        return qrel_records(file, settings)
    dialect = find_dialect(
        file,
        settings.encoding,
        delimiter=settings.delimiter,
        quotes=None if settings.quotes is None else settings.quotes == "csv",
        names=names,
    )
    return records(file, dialect, settings.encoding)


def _sheet_rows(file: Path, settings: TableSettings) -> Rows:
    names: Sequence[str] | None = settings.columns or None
    for place, cells in sheet_records(file, settings.sheet):
        if names is None:
            names = _names(cells, place)
            continue
        # Empty cells at the end of a row are not written.
        yield place, _row(names, cells + [""] * (len(names) - len(cells)), place)


def _names(cells: Sequence[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) != len(names):
        raise InputError(f"{place}: two columns have one name ({', '.join(names)}): rename one")
    return names


def _row(names: Sequence[str], cells: Sequence[str], place: str) -> Row:
    if len(cells) != len(names):
        raise InputError(f"{place}: {len(cells)} cells for {len(names)} columns")
    return dict(zip(names, cells, strict=True))


def _parquet_rows(file: Path, columns: Sequence[str] | None = None) -> Rows:
    """Rows of a Parquet file; only the `columns` that it has are read."""
    try:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        # If no column is known, the reader of the first row refuses it with all names.
        wanted = [name for name in names if is_wanted(name, columns)] or names
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
    except Exception as error:  # of Arrow, or of what is no UTF-8 in it
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
