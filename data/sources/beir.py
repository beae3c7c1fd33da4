"""A folder in BEIR's layout.

It holds `corpus.jsonl`, and where there are judgements `queries.jsonl` and `qrels/<split>.tsv`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.artifacts import digest, file_sha256
from tercet.schema import InputError, Passage, Query

#: Judgements are held as int32; no collection grades as finely.
LARGEST_GRADE = 2**31 - 1


class BeirFolder:
    """Reads a BEIR folder line by line."""

    def __init__(self, path: str) -> None:
        self.folder = Path(path)
        if not self.folder.is_dir():
            raise InputError(f"{path}: no such folder (corpus.path)")
        if not (self.folder / "corpus.jsonl").is_file():
            raise InputError(f"{path}: holds no corpus.jsonl (corpus.path must be a BEIR folder)")
        self.qrels = sorted((self.folder / "qrels").glob("*.tsv"))
        if self.qrels and not (self.folder / "queries.jsonl").is_file():
            raise InputError(f"{path}: has qrels but no queries.jsonl")

    def identity(self) -> str:
        """Digest of the names and bytes of the files read."""
        files = [self.folder / "corpus.jsonl", *self.qrels]
        if self.qrels:
            files.append(self.folder / "queries.jsonl")
        return digest([(file.name, file_sha256(file)) for file in files])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The lines of corpus.jsonl."""
        for place, row in _json_lines(self.folder / "corpus.jsonl"):
            title, text = _text(row, "title", place, default=""), _text(row, "text", place)
            yield place, Passage(_id(row, place), title, text)

    def queries(self) -> Iterator[tuple[str, Query]]:
        """The lines of queries.jsonl."""
        if self.qrels:
            for place, row in _json_lines(self.folder / "queries.jsonl"):
                yield place, Query(_id(row, place), _text(row, "text", place))

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """The lines of qrels/*.tsv; the split is the file's name."""
        for file in self.qrels:
            for number, line in _lines(file):
                place = f"{file}:{number}"
                cells = line.split("\t")
                if number == 1 and cells[-1].strip() == "score":
                    continue
                if len(cells) != 3:
                    raise InputError(
                        f"{place}: expected query-id, corpus-id, score between tabs, "
                        f"found {len(cells)} columns"
                    )
                try:
                    grade = int(cells[2])
                except ValueError:
                    raise InputError(f"{place}: {cells[2]!r} is not a whole number") from None
                if abs(grade) > LARGEST_GRADE:
                    raise InputError(f"{place}: {grade} is no grade")
                yield place, file.stem, cells[0], cells[1], grade


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Raises InputError where the bytes are not UTF-8."""
    with file.open("rb") as handle:
        for number, raw in enumerate(handle, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{file}:{number}: not UTF-8 (byte {error.start + 1} of the line)"
                ) from None
            if line.strip():
                yield number, line


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in _lines(file):
        place = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            # The parser's own message ends in a position within the line.
            raise InputError(f"{place}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"{place}: not a JSON object")
        yield place, row


def _id(row: dict[str, Any], place: str) -> str:
    """An id as text: whole numbers are taken by their digits, anything else is refused."""
    value = row.get("_id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise InputError(f"{place}: '_id' must be text that is not empty, not {value!r}")
    return _encodable(value, "_id", place)


def _text(row: dict[str, Any], name: str, place: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if value is None and default is not None:
        value = default
    if not isinstance(value, str):
        raise InputError(f"{place}: {name!r} must be text, not {value!r}")
    return _encodable(value, name, place)


def _encodable(value: str, name: str, place: str) -> str:
    """JSON may escape half of a surrogate pair, which is no character and no UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise InputError(f"{place}: {name!r} holds {half!r}, which is half a character") from None
    return value
