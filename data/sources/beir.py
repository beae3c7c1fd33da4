"""A BEIR folder: `corpus.jsonl` and, with judgements, `queries.jsonl` and `qrels/<split>.tsv`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources.cells import as_grade, as_id, as_text
from tercet.data.sources.json_files import json_lines
from tercet.data.sources.text_files import lines


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
        """Digest of the files' names and bytes."""
        files = [self.folder / "corpus.jsonl", *self.qrels]
        if self.qrels:
            files.append(self.folder / "queries.jsonl")
        return digest([(file.name, file_sha256(file)) for file in files])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The lines of corpus.jsonl."""
        for place, row in json_lines(self.folder / "corpus.jsonl", "utf-8"):
            title = as_text(row.get("title"), "title", place)
            yield place, Passage(as_id(row.get("_id"), "_id", place), title, _text(row, place))

    def queries(self) -> Iterator[tuple[str, Query]]:
        """The lines of queries.jsonl."""
        if self.qrels:
            for place, row in json_lines(self.folder / "queries.jsonl", "utf-8"):
                yield place, Query(as_id(row.get("_id"), "_id", place), _text(row, place))

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """The lines of qrels/*.tsv; the split is the file's name."""
        for file in self.qrels:
            for number, line in lines(file, "utf-8"):
                place = f"{file}:{number}"
                cells = line.split("\t")
                if number == 1 and cells[-1].strip() == "score":
                    continue
                if len(cells) != 3:
                    raise InputError(
                        f"{place}: expected query-id, corpus-id, score between tabs, "
                        f"found {len(cells)} columns"
                    )
                yield place, file.stem, cells[0], cells[1], as_grade(cells[2], place)


def _text(row: dict[str, object], place: str) -> str:
    if "text" not in row:
        raise InputError(f"{place}: 'text' is missing")
    return as_text(row["text"], "text", place)
