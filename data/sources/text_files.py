"""Lines of text files, plain or gzipped, in UTF-8 or an encoding that the recipe names."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.core.schema import InputError

_PEEK = 1 << 16  # bytes in which the kind of line ends is looked for
_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def kind(file: Path) -> str:
    """The suffix of the format in lower case, without .gz."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def lines(
    file: Path, encoding: str | None = None, *, blank: bool = False
) -> Iterator[tuple[int, str]]:
    """Numbered lines that end with LF, CRLF or CR, with `blank` also blank ones.

    An unset encoding is UTF-8, or UTF-16 where the file begins with its mark. Raises InputError for
    what the encoding cannot decode, and for a damaged gzip file.
    """
    number = 0
    try:
        with opened(file) as handle:
            for number, line in enumerate(_decoded(handle, encoding, file), 1):
                line = line.rstrip("\r\n")
                if blank or line.strip():
                    yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{file}: a damaged gzip file, after line {number} ({error})") from None


def whole_text(file: Path, encoding: str | None = None) -> str:
    """All lines as one text."""
    return "\n".join(line for _, line in lines(file, encoding, blank=True))


def opened(file: Path) -> Any:
    """The file's bytes, unzipped."""
    return gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb", _PEEK)


def _decoded(handle: Any, encoding: str | None, file: Path) -> Iterator[str]:
    """Lines with their ends."""
    start = handle.peek(_PEEK)
    if encoding is None and start.startswith(_BOMS):
        encoding = "utf-16"
    name = _codec(encoding or "utf-8", file)
    seen = start.decode(name, "ignore")
    end = "\r" if "\r" in seen and "\n" not in seen else "\n"  # an old Macintosh's, or others'
    if name.startswith(("utf-16", "utf-32")):  # a byte of these may look like a line break
        yield from _wide(handle, name, end, file)
        return
    raw: Iterator[bytes] = handle
    if end == "\r":
        text = io.TextIOWrapper(handle, "latin-1", newline=end)
        raw = (line.encode("latin-1") for line in text)
    for number, line in enumerate(raw, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 and name == "utf-8" else name)
        except UnicodeDecodeError as error:
            mend = "" if encoding else ": if it is in another encoding, give `encoding`, as cp1252"
            said = "UTF-8" if name == "utf-8" else name
            raise InputError(
                f"{file}:{number}: not {said} (byte {error.start + 1} of the line){mend}"
            ) from None


def _wide(handle: Any, name: str, end: str, file: Path) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(io.TextIOWrapper(handle, name, newline=end), 1):
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError:
        raise InputError(f"{file}: not {name}, after line {number}") from None


def _codec(encoding: str, file: Path) -> str:
    try:
        b"".decode(encoding)  # some of Python's are of bytes, as base64
        return codecs.lookup(encoding).name
    except LookupError:
        raise InputError(
            f"{file}: there is no encoding {encoding!r}: give utf-8, cp1252, latin-1, utf-16 or "
            "another of Python's"
        ) from None
