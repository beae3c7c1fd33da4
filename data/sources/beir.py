"""A BEIR folder: `corpus.jsonl` and, with judgements, `queries.jsonl` and `qrels/<split>.tsv`.

The JSON may be lines, arrays or mappings of ids, and gzipped; the judgements BEIR's or TREC's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tercet.config.corpus import QrelsTable
from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources.cells import Row, Rows, as_id, as_text, find
from tercet.data.sources.formats import read_file
from tercet.data.sources.json_files import json_lines
from tercet.data.sources.qrels import QREL_COLUMNS, judgement
from tercet.data.sources.tables import split_of
from tercet.data.sources.text_files import kind

_JSON = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz")
_QRELS = (".tsv", ".txt", ".csv", ".qrels", ".qrel", ".trec", ".json", ".jsonl")


class BeirFolder:
    """Reads a BEIR folder line by line."""

    def __init__(self, path: str) -> None:
        self.folder = Path(path)
        if not self.folder.is_dir():
            raise InputError(f"{path}: no such folder (corpus.path)")
        corpus = self._json("corpus")
        if corpus is None:
            raise InputError(f"{path}: holds no corpus.jsonl (corpus.path must be a BEIR folder)")
        self._corpus = corpus
        others = [file for file in sorted((self.folder / "qrels").glob("*")) if file.is_file()]
        others = [file for file in others if not file.name.lower().startswith((".", "readme"))]
        self.qrels = [file for file in others if kind(file) in _QRELS]
        self._queries = self._json("queries")
        if others and not self.qrels:
            raise InputError(f"{path}: its qrels are {others[0].name}: name them <split>.tsv")
        if self.qrels and self._queries is None:
            raise InputError(f"{path}: has qrels but no queries.jsonl")

    def _json(self, name: str) -> Path | None:
        files = [self.folder / f"{name}{suffix}" for suffix in _JSON]
        return next((file for file in files if file.is_file()), None)

    def identity(self) -> str:
        """Digest of the files' names and bytes."""
        files = [self._corpus, *self.qrels]
        if self.qrels and self._queries:
            files.append(self._queries)
        return digest([(file.name, file_sha256(file)) for file in files])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The rows of corpus.jsonl."""
        for place, row, id in _rows(json_lines(self._corpus, "utf-8", "passages")):
            title = as_text(row.get("title"), "title", place)
            yield place, Passage(id, title, _text(row, place))

    def queries(self) -> Iterator[tuple[str, Query]]:
        """The rows of queries.jsonl."""
        if self.qrels and self._queries:
            for place, row, id in _rows(json_lines(self._queries, "utf-8", "queries")):
                yield place, Query(id, _text(row, place))

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """The rows of qrels/*; the split is the file's name."""
        table = QrelsTable(encoding="utf-8")
        for file in self.qrels:
            for place, row in read_file(file, table, QREL_COLUMNS, "qrels"):
                yield place, split_of(file), *judgement(row, table, place)


def _rows(rows: Rows) -> Iterator[tuple[str, Row, str]]:
    """Each row with its place and id."""
    for place, row in rows:
        name = find(row, ("_id", "id")) or "_id"
        yield place, row, as_id(row.get(name), name, place)


def _text(row: Row, place: str) -> str:
    if "text" not in row:
        raise InputError(f"{place}: 'text' is missing")
    return as_text(row["text"], "text", place)
