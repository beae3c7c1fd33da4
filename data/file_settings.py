"""How a user's files are read: encoding, delimiter, header, as the keys of a table."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tercet.core.schema import InputError
from tercet.core.text import excerpt
from tercet.data import columns
from tercet.data.sources.delimited import Dialect, find_dialect, records
from tercet.data.sources.excel import sheet_records
from tercet.data.sources.formats import is_delimited
from tercet.data.sources.paths import is_hub_name
from tercet.data.sources.tables import files_of
from tercet.data.sources.text_files import kind, opened

#: What names a collection instead of a file.
WEAVIATE = "weaviate:"
#: First bytes of files whose names are often wrong.
_CONTENTS = {
    b"PK\x03\x04": (".xlsx", "a zip, as Excel's files are"),
    b"\xd0\xcf\x11\xe0": (".xls", "an old Excel file"),
    b"PAR1": (".parquet", "a Parquet file"),
    b"\x1f\x8b": (".gz", "gzipped"),
}
_OPTIONS = {"passages": "passages", "queries": "--judged", "qrels": "--qrels"}


def file_settings(
    path: str,
    role: str,
    *,
    named: Sequence[str] = (),
    sheet: str | None = None,
    split: str | None = None,
    header: bool = False,
    encoding: str | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """How the files of a path are read, as keys of its table, and why.

    `named` are the columns of files without a header, `header` says that they have one though it
    does not look so, and `encoding` is that of files that are not UTF-8. Raises InputError for what
    is empty, or no table by its contents.
    """
    settings: dict[str, Any] = {"path": path}
    reasons: dict[str, str] = {}
    files = _found(path, role)
    if not files:
        if split:
            settings["split"] = split
        return settings, reasons
    for file in files:
        _check_contents(file)
    text = [file for file in files if kind(file) not in (".parquet", ".xlsx")]
    if found := next(filter(None, map(_encoding, text)), None):
        settings["encoding"] = encoding or found
        if not encoding:
            reasons["encoding"] = "not UTF-8: if letters look wrong, name another"
    first = files[0]
    if sheet and kind(first) == ".xlsx":
        settings["sheet"] = sheet
    if role != "qrels":
        if is_delimited(first):
            dialect = find_dialect(first, settings.get("encoding"), names=columns.COLUMN_NAMES)
            settings["delimiter"] = {"\t": "tab"}.get(dialect.delimiter, dialect.delimiter)
            if dialect.delimiter == "\t" and dialect.quotes:
                settings["quotes"] = "csv"
        if named:
            settings["columns"] = list(named)
            reasons["columns"] = "the file has no header"
        elif is_delimited(first) or kind(first) == ".xlsx":
            _check_header(first, settings, role, header)
    return settings, reasons


def _found(path: str, role: str) -> list[Path]:
    """The files of a path. Raises InputError if it is neither that nor may be a dataset."""
    if is_hub_name(path) and "/" not in path and not Path(path).exists():
        raise InputError(
            f"{path}: no such file or folder; a dataset of the Hub is OWNER/NAME, a collection "
            f"{WEAVIATE}NAME"
        )
    return files_of(path, _OPTIONS[role])


def _check_contents(file: Path) -> None:
    """Refuse an empty file, and one whose name says another format than its bytes."""
    if not file.stat().st_size:
        raise InputError(f"{file}: an empty file")
    with file.open("rb") as handle:
        start = handle.read(4)
    for magic, (suffix, what) in _CONTENTS.items():
        if start.startswith(magic) and not file.name.lower().endswith(suffix):
            raise InputError(f"{file}: is {what} by its contents: name it {file.stem}{suffix}")


def _encoding(file: Path) -> str | None:
    """The encoding of a file that is not UTF-8: Windows' if all its bytes have a meaning there."""
    decoders = [codecs.getincrementaldecoder(name)() for name in ("utf-8-sig", "cp1252")]
    failed = [False, False]
    with opened(file) as handle:
        if handle.peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return None
        while block := handle.read(1 << 20):
            for place, decoder in enumerate(decoders):
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    failed[place] = True
    try:
        decoders[0].decode(b"", final=True)
    except UnicodeDecodeError:
        failed[0] = True
    return ("latin-1" if failed[1] else "cp1252") if failed[0] else None


def _check_header(file: Path, settings: dict[str, Any], role: str, header: bool) -> None:
    """Refuse a first record that looks like data, unless the file's columns are the usual ones."""
    first, *rest = first_records(file, settings) or [[]]
    if not first:
        raise InputError(f"{file}: holds no row")
    if header or columns.has_header(first, rest):
        if not rest:
            raise InputError(f"{file}: holds no row below its header")
        return
    option = "--columns id,title,text" if role == "passages" else "--judged-columns query,relevant"
    shown = excerpt(" | ".join(first), 60)
    raise InputError(
        f"{file}: the first line looks like data, not like names of columns ({shown}): name its "
        f"{len(first)} columns, as in {option}, or give --header if it is one"
    )


def first_records(file: Path, settings: dict[str, Any]) -> list[list[str]]:
    """The first records of a text file or sheet that is read by these keys."""
    if kind(file) == ".xlsx":
        return [cells for _, cells in islice(sheet_records(file, settings.get("sheet")), 100)]
    delimiter = {"tab": "\t"}.get(settings["delimiter"], settings["delimiter"])
    dialect = Dialect(delimiter, delimiter != "\t" or settings.get("quotes") == "csv")
    return [cells for _, cells in islice(records(file, dialect, settings.get("encoding")), 100)]
