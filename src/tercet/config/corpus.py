"""The `corpus` section: sources of passages, judged queries and relevance judgements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tercet.config.parsing import key, plugin_options, section


@dataclass(frozen=True)
class TableSettings:
    """A table in files, or a dataset."""

    path: str = key(
        "",
        "file or glob pattern (CSV, TSV, JSON, JSONL, Parquet, XLSX, TREC; text with .gz too), or "
        "a dataset's folder or Hub name",
    )
    config: str | None = key(None, "configuration of the dataset")
    split: str | None = key(None, "split of the dataset")
    revision: str | None = key(None, "Hub revision of the dataset")
    encoding: str | None = key(None, "of text files, such as cp1252; unset: UTF-8")
    delimiter: str | None = key(
        None, "between the cells of text files, one character or tab; unset: found in the file"
    )
    quotes: Literal["csv", "text"] | None = key(
        None, "csv: cells between tabs may be quoted; text: quotes are part of them; unset: found"
    )
    columns: list[str] = key(
        list, "names of the columns of a text file or sheet without a header, in order"
    )
    sheet: str | None = key(None, "sheet of an Excel file; unset: the only one")


@dataclass(frozen=True)
class PassagesTable(TableSettings):
    """The passages and their columns."""

    id: str | None = key(None, "column; unset: _id, id, docid, doc_id, passage_id or pid")
    ids: Literal["column", "made"] = key(
        "column",
        "made: a digest of title and text is the id, for a table without a column of ids: other "
        "rows may come and go; equal rows are numbered",
    )
    title: str | None = key(None, "column; unset: title, if it exists")
    text: str | None = key(None, "column; unset: text, contents, passage or body")
    vector: str | None = key(None, "column of precomputed vectors; unset: none")
    chunk: int | None = key(
        None,
        "most characters of a passage (beir, tables): a text ID is split, at sentences where "
        "possible, into ID#1, ID#2; unset: texts are whole",
        low=100,
    )


@dataclass(frozen=True)
class QueriesTable(TableSettings):
    """Judged queries, optionally with relevant passages in each row: then rows may share a query.

    Rows without an id of their query belong together if they have the same text, but for case and
    blanks; its id is made from that.
    """

    id: str | None = key(
        None, "column; unset: _id, query_id, query-id, qid or id; text: made from the query's text"
    )
    text: str | None = key(None, "column; unset: text, query, question or title")
    vector: str | None = key(None, "column of vectors by the passages' model; unset: none")
    positives: str | None = key(
        None,
        "column of relevant passages, instead of `qrels`: an id, several with a `separator`, or a "
        "list of ids or of rows with an id",
    )
    negatives: str | None = key(None, "column of passages judged not relevant, written alike")
    separator: str | None = key(
        None, "between several ids in a cell, such as ; or a blank; unset: one id, or a JSON list"
    )
    grade: str | None = key(None, "column with the grade of a row's `positives`; unset: 1")
    clicks: str | None = key(
        None, "column with the number of clicks on a row's `positives`; unset: a row is one click"
    )
    click_grades: Literal["any", "log2"] = key(
        "any", "grade of a passage with n clicks, summed over rows; any: 1; log2: 1 + floor(log2 n)"
    )


@dataclass(frozen=True)
class QrelsTable(TableSettings):
    """Relevance judgements; each of several files is a split of its name."""

    query: str | None = key(None, "column; unset: query_id, query-id, qid or similar")
    passage: str | None = key(None, "column; unset: passage_id, corpus-id, docid or similar")
    grade: str | None = key(None, "column; unset: grade, score, relevance, rel or label")


@dataclass(frozen=True)
class CorpusSection:
    """The passages to adapt to, and judged queries if there are any."""

    source: (
        Literal["beir", "tables", "documents", "weaviate", "climate_fever", "bookmarks"] | str
    ) = key(
        "beir",
        "beir: a BEIR folder; tables: files or datasets with columns; documents: a folder of txt, "
        "md, html, pdf; weaviate: a collection; climate_fever, bookmarks: those datasets; or a "
        "plug-in, package.module:Name",
        plugin="sources",
    )
    options: dict[str, Any] = plugin_options()
    path: str = key(
        "",
        "folder (beir, documents), collection or alias (weaviate), dataset folder or Hub name "
        "(climate_fever), archive (bookmarks)",
    )
    tenant: list[str] = key(
        list,
        "tenant of the collection, or several that are read one after another (weaviate): then "
        "their names begin the passages' ids, as TENANT/ID",
        one=True,
    )
    passages: PassagesTable = section(PassagesTable)
    queries: QueriesTable = section(QueriesTable)
    qrels: QrelsTable = section(QrelsTable)
    revision: str | None = key(None, "Hub revision (climate_fever)")
    unit: Literal["sentence", "article"] = key("sentence", "unit of a passage (climate_fever)")
    passage_characters: int = key(1_200, "maximum characters of a passage (documents)", low=100)
    aggregate: Literal["none", "max"] = key(
        "none",
        "max: judgements name documents, which are ranked by their best passage: ID#2 is one of "
        "ID; none: a judged document is all its passages",
    )
    dev_split: str = key("dev", "judgements on which the teacher is audited, if present")
    test_split: str = key("test", "judgements for evaluation alone, if present")

    @property
    def label(self) -> str:
        """Name in reports."""
        return self.path or self.passages.path or self.source

    @property
    def read(self) -> set[str]:
        """The keys that this source reads."""
        return _ALWAYS_READ | _READ_BY.get(self.source, _READ_BY_A_PLUGIN)

    def unread(self) -> str | None:
        """The first key that is set but not read by this source, or None."""
        read, plain = self.read, CorpusSection()
        for name in vars(self):
            value, default = getattr(self, name), getattr(plain, name)
            if name in read or value == default:
                continue
            if not isinstance(value, TableSettings):
                return name
            for column in vars(value):
                changed = getattr(value, column) != getattr(default, column)
                if changed and f"{name}.{column}" not in read:
                    return f"{name}.{column}"
        return None


_ALWAYS_READ = {"source", "dev_split", "test_split"}
_READ_BY_A_PLUGIN = {"options", "queries", "qrels"}
#: Further keys that each source reads.
_READ_BY = {
    "beir": {"path", "passages.chunk", "aggregate"},
    "bookmarks": {"path"},
    "climate_fever": {"path", "revision", "unit"},
    "tables": {"passages", "queries", "qrels", "aggregate"},
    "documents": {"path", "passage_characters", "queries", "qrels", "aggregate"},
    "weaviate": {
        *("path", "tenant", "queries", "qrels", "aggregate"),
        *("passages.id", "passages.title", "passages.text"),
    },
}
