"""What a recipe may say of its corpus: where passages, queries and judgements come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tercet.settings import key, section


@dataclass(frozen=True)
class TableSettings:
    """A table: files, or a dataset."""

    path: str = key(
        "",
        "a file or a pattern of files (JSONL, CSV, TSV, TREC, Parquet; with .gz too), a dataset's "
        "folder or its Hub name",
    )
    config: str | None = key(None, "the dataset's configuration")
    split: str | None = key(None, "the dataset's split")
    revision: str | None = key(None, "the dataset's revision on the Hub")


@dataclass(frozen=True)
class PassagesTable(TableSettings):
    """The passages, and the columns that hold them."""

    id: str | None = key(None, "column; unset: _id, id, docid, doc_id, passage_id or pid")
    title: str | None = key(None, "column; unset: title, if there is one")
    text: str | None = key(None, "column; unset: text, contents, passage or body")


@dataclass(frozen=True)
class QueriesTable(TableSettings):
    """Judged queries, and where a row holds them, the passages that answer it."""

    id: str | None = key(None, "column; unset: _id, query_id, query-id, qid or id")
    text: str | None = key(None, "column; unset: text, query, question or title")
    positives: str | None = key(
        None, "column of relevant passages, by ids or as rows with an id, in place of `qrels`"
    )
    negatives: str | None = key(None, "column of passages judged not to be relevant")


@dataclass(frozen=True)
class QrelsTable(TableSettings):
    """Judgements; of several files each is a split, by its name."""

    query: str | None = key(None, "column; unset: query_id, query-id, qid and the like")
    passage: str | None = key(None, "column; unset: passage_id, corpus-id, docid and the like")
    grade: str | None = key(None, "column; unset: grade, score, relevance, rel or label")


@dataclass(frozen=True)
class CorpusSection:
    """The passages to adapt to, and judged queries where there are any."""

    source: Literal["beir", "tables", "documents", "climate_fever", "bookmarks"] = key(
        "beir",
        "beir: a folder in BEIR's layout; tables: files or datasets, by their columns; documents: "
        "a folder of txt, md, html and pdf; the others: as they are published",
    )
    path: str = key(
        "",
        "beir, documents: a folder; climate_fever: a dataset's folder or Hub name; bookmarks: the "
        "archive",
    )
    passages: PassagesTable = section(PassagesTable)
    queries: QueriesTable = section(QueriesTable)
    qrels: QrelsTable = section(QrelsTable)
    revision: str | None = key(None, "of `path` on the Hub (climate_fever)")
    unit: Literal["sentence", "article"] = key("sentence", "what is a passage (climate_fever)")
    passage_characters: int = key(1_200, "longest passage (documents)", low=100)
    dev_split: str = key("dev", "judgements that the audit asks the teacher about, if present")
    test_split: str = key("test", "judgements that are measured and choose nothing, if present")
