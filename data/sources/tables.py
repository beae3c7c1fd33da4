"""Tables of passages, queries and judgements in files or datasets.

They read the formats of BEIR, MS MARCO, MIRACL, TREC and the embedded Wikipedias on the Hub.
"""

from __future__ import annotations

import ast
import glob
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tercet.config.corpus import PassagesTable, QrelsTable, QueriesTable, TableSettings
from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources import cells
from tercet.data.sources.cells import Row
from tercet.data.sources.formats import named_columns, read_file, told_for_files
from tercet.data.sources.hub import HubDataset
from tercet.data.sources.made_ids import MadeIds, query_id
from tercet.data.sources.paths import is_hub_name
from tercet.data.sources.qrels import QREL_COLUMNS, judgement

_MAGIC = set("*?[")
_TEXT = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_ARRAY = re.compile(rf"\[\s*(?:{_TEXT.pattern})(?:\s+(?:{_TEXT.pattern}))+\s*\]")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
#: Place, id, and vector as float32 [dimension].
Vectors = Iterator[tuple[str, str, np.ndarray]]


class Table:
    """A table of the section `corpus.role`: passages, queries or qrels."""

    def __init__(self, settings: TableSettings, role: str) -> None:
        self.settings, self.role = settings, role
        self.files = files_of(settings.path, f"corpus.{role}.path")
        given = [name for name in ("config", "split", "revision") if getattr(settings, name)]
        if self.files and given:
            raise InputError(f"corpus.{role}.{given[0]} is a dataset's, and {settings.path} a file")
        if not self.files and (told := told_for_files(settings)):
            raise InputError(f"corpus.{role}.{told} is a file's, and {settings.path} a dataset")

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

    def rows(self, known: Sequence[str] | None) -> Iterator[tuple[str, Row, str]]:
        """Each row with its place and its split ("" if unknown).

        Formats with columns are read for the `known` columns and those of the recipe alone; with
        None for all.
        """
        wanted = None if known is None else [*named_columns(self.settings), *known]
        for file in self.files:
            for place, row in read_file(file, self.settings, wanted, self.role):
                yield place, row, split_of(file)
        if not self.files:
            for place, row in self.dataset.rows(wanted):
                yield place, row, self.settings.split or ""


def split_of(file: Path) -> str:
    """The split in a file's name, without suffixes and the number of its shard."""
    return _SHARD.sub("", Path(file.name.removesuffix(".gz")).stem)


class PassageTable:
    """Passages, row by row."""

    def __init__(self, settings: PassagesTable) -> None:
        if not settings.path:
            raise InputError("corpus.passages.path names no table of passages")
        if settings.id and settings.ids == "made":
            raise InputError("corpus.passages.id and ids: made are both given: choose one")
        self.settings, self.table = settings, Table(settings, "passages")

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
        made = MadeIds() if settings.ids == "made" else None
        for place, row, _ in self.table.rows(cells.PASSAGE_COLUMNS):
            column = cells.column(row, settings.text, cells.TEXTS, "passages' texts", place)
            text = cells.as_text(row[column], column, place)
            column = settings.title or cells.find(row, cells.TITLES) or "title"
            title = cells.as_text(row.get(column), column, place)
            titled |= column in row
            if made:
                id = made.of(title, text)
            else:
                column = cells.column(row, settings.id, cells.IDS, "passages' ids", place)
                id = cells.as_id(row[column], column, place)
            yield place, Passage(id, title, text), row
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
        _check_positives(queries)
        self.queries_table = Table(queries, "queries") if queries.path else None
        self.qrels_table = Table(qrels, "qrels") if qrels.path else None
        splits = [split_of(file) for file in self.qrels_table.files] if self.qrels_table else []
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
        """The rows of the table of queries; rows of one query with `positives` give it once."""
        for place, row, id in self._first_rows():
            column = self._text_column(row, place)
            yield place, Query(id, cells.as_text(row[column], column, place))

    def vectors(self) -> Vectors:
        """Ids and vectors of queries. Raises InputError if the recipe has no column of vectors."""
        column = self.of_queries.vector
        if not column:
            raise InputError("corpus.queries.vector names no column of vectors")
        for place, row, id in self._first_rows():
            cells.column(row, column, (), "queries' vectors", place)
            yield place, id, cells.as_vector(row[column], column, place)

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """The rows of the table of judgements, or the judgements in the rows of queries."""
        if self.of_queries.positives:
            split = self.of_queries.split or self.split
            for place, query, passage, given in self._graded():
                yield place, split, query, passage, given
        if not self.qrels_table:
            return
        settings, one = self.of_qrels, len(self.qrels_table.files) == 1
        for place, row, split in self.qrels_table.rows(QREL_COLUMNS):
            of_row = judgement(row, settings, place)
            yield place, self.split if one or not split else split, *of_row

    def _query_rows(self) -> Iterator[tuple[str, Row, str]]:
        """The rows of the table of queries with the ids of their queries."""
        if self.queries_table:
            known = (*cells.QUERY_IDS, *cells.QUERY_TEXTS)
            for place, row, _ in self.queries_table.rows(known):
                yield place, row, self._id(row, place)

    def _first_rows(self) -> Iterator[tuple[str, Row, str]]:
        """The query rows; with `positives` the first of each query alone."""
        texts: dict[str, tuple[str, str]] = {}
        for place, row, id in self._query_rows():
            if self.of_queries.positives:
                column = self._text_column(row, place)
                text = query_id(cells.as_text(row[column], column, place))
                before, first = texts.setdefault(id, (text, place))
                if before != text:
                    raise InputError(f"{place}: query {id!r} has another text than at {first}")
                if first != place:
                    continue
            yield place, row, id

    def _id(self, row: Row, place: str) -> str:
        """The id of a row's query: of its column, or made from the text."""
        column = self._id_column(row)
        if column is None and not self.of_queries.positives:
            column = cells.column(row, None, cells.QUERY_IDS, "queries' ids", place)
        text = self._text_column(row, place) if self.of_queries.positives else None
        if column in (None, text):
            assert text
            return query_id(cells.as_text(row[text], text, place))
        cells.column(row, column, (), "queries' ids", place)
        return cells.as_id(row[column], column, place)

    def _id_column(self, row: Row) -> str | None:
        return self.of_queries.id or cells.find(row, cells.QUERY_IDS)

    def _text_column(self, row: Row, place: str) -> str:
        id = self._id_column(row)
        known = sorted(cells.QUERY_TEXTS, key=lambda name: name == id)  # rather another column
        return cells.column(row, self.of_queries.text, known, "queries' texts", place)

    def _graded(self) -> Iterator[tuple[str, str, str, int]]:
        """Place, query, passage and grade of each judgement in the rows of queries."""
        settings = self.of_queries
        if settings.clicks or settings.click_grades == "log2":
            yield from self._clicked()
            return
        for place, row, query in self._query_rows():
            grade = 1
            if settings.grade:
                cells.column(row, settings.grade, (), "grades", place)
                grade = cells.as_grade(row[settings.grade], place)
            for passage in self._passages(row, settings.positives, place):
                yield place, query, passage, grade
            for passage in self._passages(row, settings.negatives, place):
                yield place, query, passage, 0

    def _clicked(self) -> Iterator[tuple[str, str, str, int]]:
        """As `_graded`, of clicks that are summed over all rows."""
        settings, places = self.of_queries, dict[tuple[str, str], str]()
        clicks: defaultdict[tuple[str, str], int] = defaultdict(int)
        for place, row, query in self._query_rows():
            count = 1
            if settings.clicks:
                cells.column(row, settings.clicks, (), "numbers of clicks", place)
                count = cells.as_grade(row[settings.clicks], place)
            if count < 0:
                raise InputError(f"{place}: {count} clicks: the number cannot be negative")
            for passage in self._passages(row, settings.positives, place):
                places.setdefault((query, passage), place)
                clicks[query, passage] += count
        for (query, passage), count in clicks.items():
            grade = count.bit_length() if settings.click_grades == "log2" else min(count, 1)
            yield places[query, passage], query, passage, grade

    def _passages(self, row: Row, column: str | None, place: str) -> Iterator[str]:
        if column:
            cells.column(row, column, (), "judged passages", place)
            yield from passage_ids(row[column], column, place, self.of_queries.separator)


def _check_positives(queries: QueriesTable) -> None:
    """Refuse keys of `positives` without it, and clicks beside judgements."""
    for name in ("separator", "grade", "clicks"):
        if getattr(queries, name) and not queries.positives:
            raise InputError(f"corpus.queries.{name} needs corpus.queries.positives beside it")
    clicks = queries.clicks or queries.click_grades == "log2"
    judged = "grade" if queries.grade else "negatives" if queries.negatives else ""
    if clicks and judged:
        other = "clicks" if queries.clicks else "click_grades"
        raise InputError(
            f"corpus.queries.{judged} and corpus.queries.{other} are both given: choose one"
        )


def passage_ids(cell: Any, name: str, place: str, separator: str | None = None) -> Iterator[str]:
    """Ids in a cell: one, several between separators, a list of ids, or of rows with an id."""
    entries = cells.as_rows(cell) if isinstance(cell, dict) else _listed(cell, separator)
    for entry in entries:
        if isinstance(entry, dict):
            entry = entry[cells.column(entry, None, cells.IDS, f"passages of {name!r}", place)]
        yield cells.as_id(entry, name, place)


def _listed(cell: Any, separator: str | None) -> list[Any]:
    if cell is None or isinstance(cell, list):
        return cell or []
    if not isinstance(cell, str):
        return [] if cell != cell else [cell]  # NaN is an empty cell of a data frame
    if cell.strip().startswith("["):
        # As JSON has a list, or as a data frame's CSV does: of lists, or of numpy's arrays.
        for parse in (_of_array, json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                if isinstance(value := parse(cell.strip()), list):
                    str(value)  # Python writes no integer of thousands of digits
                    return value
    if separator:
        parts = cell.split(separator.strip() or None)
        return [part.strip() for part in parts if part.strip()]
    return [cell] if cell.strip() else []


def _of_array(cell: str) -> list[Any] | None:
    """The texts that numpy wrote, without commas; Python would read them as one text."""
    texts = _TEXT.findall(cell) if _ARRAY.fullmatch(cell) else []
    return [ast.literal_eval(text) for text in texts] or None


def files_of(path: str, key: str) -> list[Path]:
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
    if place.is_dir() or is_hub_name(path):
        return []
    raise InputError(f"{path}: no such file or folder ({key})")
