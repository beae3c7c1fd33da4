"""Tables of passages, queries and judgements in files or datasets.

They read the formats of BEIR, MS MARCO, MIRACL, TREC and the embedded Wikipedias on the Hub.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tercet.config.corpus import PassagesTable, QrelsTable, QueriesTable, TableSettings
from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources import cells
from tercet.data.sources.cells import Row
from tercet.data.sources.formats import QREL_COLUMNS, SUFFIXES, TEXT_COLUMNS, kind, read_file
from tercet.data.sources.hub import HubDataset

_MAGIC = set("*?[")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
#: Place, id, and vector as float32 [dimension].
Vectors = Iterator[tuple[str, str, np.ndarray]]


class _Table:
    """A table of the section `corpus.key`; `nameless` has the columns of files without a header."""

    def __init__(
        self, settings: TableSettings, key: str, nameless: dict[int, tuple[str, ...]]
    ) -> None:
        self.settings, self.nameless = settings, nameless
        self.files = _files(settings.path, f"corpus.{key}.path")
        given = [name for name in ("config", "split", "revision") if getattr(settings, name)]
        if self.files and given:
            raise InputError(f"corpus.{key}.{given[0]} is a dataset's, and {settings.path} a file")

        self.dataset = HubDataset(
            settings.path,
            config=settings.config,
            split=settings.split,
            revision=settings.revision,
        )

    def identity(self) -> list[Any]:
        """Files or commit, and the settings of columns."""
        columns = {k: v for k, v in vars(self.settings).items() if k not in ("path", "revision")}
        files = [(file.name, file_sha256(file)) for file in self.files]
        return [files or self.dataset.identity, columns]

    def rows(self, known: Sequence[str]) -> Iterator[tuple[str, Row, str]]:
        """Each row with its place and its split ("" if unknown).

        Formats with columns are read for the `known` columns and those of the recipe alone.
        """
        settings = self.settings
        named = [value for value in vars(settings).values() if isinstance(value, str)]
        wanted = [*named, *known]
        for file in self.files:
            for place, row in read_file(file, wanted, nameless=self.nameless):
                yield place, row, _split_of(file)
        if not self.files:
            for place, row in self.dataset.rows(wanted):
                yield place, row, settings.split or ""


def _split_of(file: Path) -> str:
    """The split in a file's name, without suffixes and the number of its shard."""
    return _SHARD.sub("", Path(file.name.removesuffix(".gz")).stem)


class PassageTable:
    """Passages, row by row."""

    def __init__(self, settings: PassagesTable) -> None:
        if not settings.path:
            raise InputError("corpus.passages.path names no table of passages")
        self.settings, self.table = settings, _Table(settings, "passages", TEXT_COLUMNS)

    def identity(self) -> str:
        """Digest of the input and the settings of columns."""
        return digest(self.table.identity())

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The rows. Raises InputError for a column of the recipe that no row has."""
        for place, passage, _ in self._read():
            yield place, passage

    def embedded(self) -> Iterator[tuple[str, Passage, np.ndarray]]:
        """The rows with their vectors. Raises InputError if the recipe has no column of vectors."""
        column = self.settings.vector
        if not column:
            raise InputError("corpus.passages.vector names no column of vectors")
        for place, passage, row in self._read():
            cells.column(row, column, (), "passages' vectors", place)
            yield place, passage, cells.as_vector(row[column], column, place)

    def _read(self) -> Iterator[tuple[str, Passage, Row]]:
        settings, titled = self.settings, not self.settings.title
        for place, row, _ in self.table.rows(cells.PASSAGE_COLUMNS):
            id = cells.column(row, settings.id, cells.IDS, "passages' ids", place)
            text = cells.column(row, settings.text, cells.TEXTS, "passages' texts", place)
            title = settings.title or next((name for name in cells.TITLES if name in row), "title")
            titled |= title in row
            passage = Passage(
                cells.as_id(row[id], id, place),
                cells.as_text(row.get(title), title, place),
                cells.as_text(row[text], text, place),
            )
            yield place, passage, row
        if not titled:
            raise InputError(f"{settings.path}: no row has a column {settings.title!r} for titles")


class JudgementTables:
    """Queries and relevance judgements, in two tables, or in one table with both in each row.

    `split` is the split of judgements without another one. Without a table of queries there are no
    judgements.
    """

    def __init__(self, queries: QueriesTable, qrels: QrelsTable, split: str) -> None:
        self.of_queries, self.of_qrels, self.split = queries, qrels, split
        if queries.positives and qrels.path:
            raise InputError("corpus.queries.positives and corpus.qrels are both given: choose one")
        if queries.negatives and not queries.positives:
            raise InputError("corpus.queries.negatives needs corpus.queries.positives beside it")
        if queries.path and not queries.positives and not qrels.path:
            raise InputError("corpus.queries has no judgements: give corpus.qrels.path")
        if qrels.path and not queries.path:
            raise InputError("corpus.qrels has no texts of its queries: give corpus.queries.path")
        self.queries_table = _Table(queries, "queries", TEXT_COLUMNS) if queries.path else None
        self.qrels_table = _Table(qrels, "qrels", QREL_COLUMNS) if qrels.path else None
        splits = [_split_of(file) for file in self.qrels_table.files] if self.qrels_table else []
        if len(splits) > 1 and split not in splits:
            raise InputError(
                f"{qrels.path}: its files are the splits {', '.join(splits)}, and none is "
                f"corpus.test_split, {split!r}"
            )

    def identity(self) -> str:
        """Digest of the input and the settings of columns."""
        tables = (self.queries_table, self.qrels_table)
        return digest([self.split, [table.identity() for table in tables if table]])

    def queries(self) -> Iterator[tuple[str, Query]]:
        """The rows of the table of queries."""
        for place, row, id in self._query_rows():
            known = [name for name in cells.QUERY_TEXTS if name != id]
            text = cells.column(row, self.of_queries.text, known, "queries' texts", place)
            yield (
                place,
                Query(cells.as_id(row[id], id, place), cells.as_text(row[text], text, place)),
            )

    def vectors(self) -> Vectors:
        """Ids and vectors of queries. Raises InputError if the recipe has no column of vectors."""
        column = self.of_queries.vector
        if not column:
            raise InputError("corpus.queries.vector names no column of vectors")
        for place, row, id in self._query_rows():
            cells.column(row, column, (), "queries' vectors", place)
            yield (
                place,
                cells.as_id(row[id], id, place),
                cells.as_vector(row[column], column, place),
            )

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """The rows of the table of judgements, or the judgements in the rows of queries."""
        if self.of_queries.positives:
            yield from self._nested()
        if not self.qrels_table:
            return
        settings, one = self.of_qrels, len(self.qrels_table.files) == 1
        known = (*cells.QUERY_IDS, *cells.PASSAGE_IDS, *cells.GRADES)
        for place, row, split in self.qrels_table.rows(known):
            query = cells.column(row, settings.query, cells.QUERY_IDS, "judged queries", place)
            passage = cells.column(
                row, settings.passage, cells.PASSAGE_IDS, "judged passages", place
            )
            grade = cells.column(row, settings.grade, cells.GRADES, "grades", place)
            yield (
                place,
                self.split if one or not split else split,
                cells.as_id(row[query], query, place),
                cells.as_id(row[passage], passage, place),
                cells.as_grade(row[grade], place),
            )

    def _query_rows(self) -> Iterator[tuple[str, Row, str]]:
        if self.queries_table:
            known = (*cells.QUERY_IDS, *cells.QUERY_TEXTS)
            for place, row, _ in self.queries_table.rows(known):
                id = cells.column(row, self.of_queries.id, cells.QUERY_IDS, "queries' ids", place)
                yield place, row, id

    def _nested(self) -> Iterator[tuple[str, str, str, str, int]]:
        settings = self.of_queries
        split = settings.split or self.split
        for place, row, id in self._query_rows():
            query = cells.as_id(row[id], id, place)
            for name, grade in ((settings.positives, 1), (settings.negatives, 0)):
                if name:
                    cells.column(row, name, (), "judged passages", place)
                    for passage in _passage_ids(row[name], name, place):
                        yield place, split, query, passage, grade


def _passage_ids(cell: Any, name: str, place: str) -> Iterator[str]:
    """Ids in a list of ids or of rows with an id."""
    entries = cells.as_rows(cell) if isinstance(cell, dict) else cell or []
    if not isinstance(entries, list):
        raise InputError(f"{place}: {name!r} must be a list of passages, not {cell!r}")
    for entry in entries:
        if isinstance(entry, dict):
            entry = entry[cells.column(entry, None, cells.IDS, f"passages of {name!r}", place)]
        yield cells.as_id(entry, name, place)


def _files(path: str, key: str) -> list[Path]:
    """The files of a table's path, sorted; empty for a dataset's folder or name."""
    place = Path(path)
    if place.is_file():
        return [place]
    if _MAGIC & set(path):
        found = sorted(Path(name) for name in glob.glob(path, recursive=True))
        files = [file for file in found if file.is_file()]
        if not files:
            raise InputError(f"{path}: no file matches ({key})")
        return files
    hub_name = path.count("/") <= 1 and not path.startswith((".", "/", "~"))
    if place.is_dir() or (hub_name and kind(place) not in SUFFIXES):
        return []
    raise InputError(f"{path}: no such file or folder ({key})")
