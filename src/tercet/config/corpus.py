"""What a recipe may say of its corpus: where passages, queries and judgements come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tercet.config.parsing import key, section


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
    vector: str | None = key(None, "column of vectors that another model made, if there is one")


@dataclass(frozen=True)
class QueriesTable(TableSettings):
    """Judged queries, and where a row holds them, the passages that answer it."""

    id: str | None = key(None, "column; unset: _id, query_id, query-id, qid or id")
    text: str | None = key(None, "column; unset: text, query, question or title")
    vector: str | None = key(None, "column of their vectors by the same model, if there is one")
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

    source: Literal["beir", "tables", "documents", "weaviate", "climate_fever", "bookmarks"] = key(
        "beir",
        "beir: a folder in BEIR's layout; tables: files or datasets, by their columns; documents: "
        "a folder of txt, md, html and pdf; weaviate: a collection; the others: as published",
    )
    path: str = key(
        "",
        "a folder (beir, documents), a collection or alias (weaviate), a dataset's folder or Hub "
        "name (climate_fever), the archive (bookmarks)",
    )
    passages: PassagesTable = section(PassagesTable)
    queries: QueriesTable = section(QueriesTable)
    qrels: QrelsTable = section(QrelsTable)
    revision: str | None = key(None, "of `path` on the Hub (climate_fever)")
    unit: Literal["sentence", "article"] = key("sentence", "what is a passage (climate_fever)")
    passage_characters: int = key(1_200, "longest passage (documents)", low=100)
    dev_split: str = key("dev", "judgements that the audit asks the teacher about, if present")
    test_split: str = key("test", "judgements that are measured and choose nothing, if present")

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.path or self.passages.path

    def unread(self) -> str | None:
        """The first key that is set, and that this source does not read."""
        read = ALWAYS | READ.get(self.source, set())
        plain = CorpusSection()
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


ALWAYS = {"source", "dev_split", "test_split"}
#: What each source reads beside that.
READ = {
    "beir": {"path"},
    "bookmarks": {"path"},
    "climate_fever": {"path", "revision", "unit"},
    "tables": {"passages", "queries", "qrels"},
    "documents": {"path", "passage_characters", "queries", "qrels"},
    "weaviate": {
        *("path", "queries", "qrels"),
        *("passages.id", "passages.title", "passages.text"),
    },
}
