"""Passages, queries and judgements as three tables: of files in any usual format, or of datasets.

What BEIR, MS MARCO, MIRACL, TREC and the embedded Wikipedias of the Hub publish reads as such
tables; so does an export of one's own.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.artifacts import digest, file_sha256
from tercet.corpus_settings import (
    CorpusSection,
    PassagesTable,
    QrelsTable,
    QueriesTable,
    TableSettings,
)
from tercet.data.sources import hub
from tercet.data.sources import rows as read
from tercet.data.sources.rows import Row, Rows
from tercet.schema import InputError, Passage, Query

_MAGIC = set("*?[")


class Tables:
    """Reads the tables that a recipe's `corpus` section names, row by row."""

    def __init__(self, section: CorpusSection) -> None:
        if section.path:
            raise InputError("corpus.path is not read with tables: give corpus.passages.path")
        self.of_passages, self.of_queries = section.passages, section.queries
        self.of_qrels, self.split = section.qrels, section.test_split
        if not self.of_passages.path:
            raise InputError("corpus.passages.path names no table of passages")
        nested = self.of_queries.positives
        if nested and self.of_qrels.path:
            raise InputError("corpus.queries.positives and corpus.qrels both say what is relevant")
        if self.of_queries.path and not nested and not self.of_qrels.path:
            raise InputError("corpus.queries has no judgements: give corpus.qrels.path")
        if self.of_qrels.path and not self.of_queries.path:
            raise InputError("corpus.qrels has no texts of its queries: give corpus.queries.path")
        self.files = {
            name: files_of(table, f"corpus.{name}.path")
            for name, table in self._tables.items()
            if table.path
        }

    @property
    def _tables(self) -> dict[str, TableSettings]:
        return {"passages": self.of_passages, "queries": self.of_queries, "qrels": self.of_qrels}

    def identity(self) -> str:
        """Digest of what is read, and of the columns it is read from."""
        parts: list[Any] = [self.split]
        for name, files in self.files.items():
            table = self._tables[name]
            content: Any = [(file.name, file_sha256(file)) for file in files]
            content = content or hub.identity(table.path, table.revision)
            settings = {k: v for k, v in vars(table).items() if k not in ("path", "revision")}
            parts.append([name, content, settings])
        return digest(parts)

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The rows of the passages' table."""
        table: PassagesTable = self.of_passages
        columns = [table.id, table.title, table.text]
        known = (*read.IDS, *read.TITLES, *read.TEXTS)
        id = title = text = ""
        for place, row in self._rows("passages", columns, known):
            if not id:
                id = read.column(row, table.id, read.IDS, "passages' ids", place)
                text = read.column(row, table.text, read.TEXTS, "passages' texts", place)
                if table.title or any(name in row for name in read.TITLES):
                    title = read.column(row, table.title, read.TITLES, "passages' titles", place)
            passage = Passage(
                read.as_id(row.get(id), id, place),
                read.as_text(row.get(title), title, place),
                read.as_text(row.get(text), text, place),
            )
            yield place, passage

    def queries(self) -> Iterator[tuple[str, Query]]:
        """The rows of the queries' table."""
        if not self.of_queries.path:
            return
        for place, row, id in self._query_rows():
            known = [name for name in read.QUERY_TEXTS if name != id]
            text = read.column(row, self.of_queries.text, known, "queries' texts", place)
            yield place, Query(read.as_id(row[id], id, place), read.as_text(row[text], text, place))

    def _query_rows(self) -> Iterator[tuple[str, Row, str]]:
        table: QueriesTable = self.of_queries
        columns = [table.id, table.text, table.positives, table.negatives]
        for place, row in self._rows("queries", columns, (*read.QUERY_IDS, *read.QUERY_TEXTS)):
            yield place, row, read.column(row, table.id, read.QUERY_IDS, "queries' ids", place)

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """The rows of the judgements' table, or what stands in the queries' rows."""
        if self.of_queries.positives:
            yield from self._nested()
        if not self.of_qrels.path:
            return
        table: QrelsTable = self.of_qrels
        known = (*read.QUERY_IDS, *read.PASSAGE_IDS, *read.GRADES)
        for place, row in self._rows("qrels", [table.query, table.passage, table.grade], known):
            query = read.column(row, table.query, read.QUERY_IDS, "judged queries", place)
            passage = read.column(row, table.passage, read.PASSAGE_IDS, "judged passages", place)
            grade = read.column(row, table.grade, read.GRADES, "grades", place)
            yield (
                place,
                self._split_of(place),
                read.as_id(row[query], query, place),
                read.as_id(row[passage], passage, place),
                read.as_grade(row[grade], place),
            )

    def _split_of(self, place: str) -> str:
        """A dataset's own split; of several files each one's name; else the recipe's test split."""
        files = self.files["qrels"]
        if len(files) > 1:
            return Path(place.split(":")[0].split(", row")[0]).name.partition(".")[0]
        return self.split if files else self.of_qrels.split or self.split

    def _nested(self) -> Iterator[tuple[str, str, str, str, int]]:
        table: QueriesTable = self.of_queries
        split = self.split if self.files["queries"] else table.split or self.split
        for place, row, id in self._query_rows():
            query = read.as_id(row[id], id, place)
            for name, grade in ((table.positives, 1), (table.negatives, 0)):
                for entry in (row.get(name) or []) if name else []:
                    passage = entry
                    if isinstance(entry, dict):
                        passage = entry[read.column(entry, None, read.IDS, f"{name}' ids", place)]
                    yield place, split, query, read.as_id(passage, str(name), place), grade

    def _rows(self, name: str, columns: list[str | None], known: tuple[str, ...]) -> Rows:
        table, files = self._tables[name], self.files[name]
        wanted = [*(column for column in columns if column), *known]
        nameless = read.QREL_COLUMNS if name == "qrels" else read.TEXT_COLUMNS
        if not files:
            yield from hub.dataset_rows(
                table.path,
                wanted,
                config=table.config,
                split=table.split,
                revision=table.revision,
            )
        for file in files:
            yield from read.read_file(file, wanted, nameless=nameless)


def files_of(table: TableSettings, key: str) -> list[Path]:
    """The files that a table's path means, sorted; none where it is a dataset's folder or name."""
    path = Path(table.path).expanduser()
    if _MAGIC & set(table.path):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [file for file in found if file.is_file()]
        if not files:
            raise InputError(f"{table.path}: no file is named so ({key})")
        return files
    if path.is_file():
        return [path]
    if path.is_dir() or (table.path.count("/") <= 1 and not table.path.startswith((".", "/", "~"))):
        return []
    raise InputError(f"{table.path}: no such file or folder ({key})")
