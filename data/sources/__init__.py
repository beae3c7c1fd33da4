"""Where passages, queries and judgements come from: one file a source.

A source has `identity()`, a digest of what it reads, and yields `passages()`, `queries()` and
`judgements()`; it refuses malformed input by file and line. Some hold passages alone: tables of
judgements may stand beside those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from tercet.config.corpus import CorpusSection
from tercet.core.files import digest
from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources.beir import BeirFolder
from tercet.data.sources.bookmarks import Bookmarks
from tercet.data.sources.climate_fever import ClimateFever
from tercet.data.sources.documents import Documents
from tercet.data.sources.tables import JudgementTables, PassageTable, Vectors
from tercet.data.sources.weaviate import Reader, WeaviateCollection


class PassageSource(Protocol):
    """Anything that passages can be read from."""

    def identity(self) -> str:
        """Digest of everything that is read: the same digest means the same passages."""
        ...

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """Each passage with its place (file and line), for messages."""
        ...


class Source(PassageSource, Protocol):
    """Anything that a corpus can be read from."""

    def queries(self) -> Iterator[tuple[str, Query]]:
        """Each judged query with its place; none where there are no judgements."""
        ...

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """(place, split, query id, passage id, grade)."""
        ...


class PassagesWithQrels:
    """Passages of one source, judged queries of tables."""

    def __init__(self, source: PassageSource, tables: JudgementTables) -> None:
        self.source, self.tables = source, tables
        self.passages = source.passages
        self.queries, self.judgements = tables.queries, tables.judgements

    def embedded(self) -> Iterator[tuple[str, Passage, np.ndarray]]:
        """Passages with the vectors that they carry. Raises InputError where they carry none."""
        if not isinstance(self.source, PassageTable):
            raise InputError("only tables hold vectors of passages (corpus.source)")
        return self.source.embedded()

    def passage_vectors(self) -> Vectors:
        """Their ids and vectors."""
        for place, passage, vector in self.embedded():
            yield place, passage.id, vector

    def query_vectors(self) -> Vectors:
        """Ids and vectors of judged queries. Raises InputError where the tables have none."""
        return self.tables.vectors()

    def identity(self) -> str:
        """Digest of both."""
        return digest([self.source.identity(), self.tables.identity()])


def open_source(section: CorpusSection, reader: Callable[[str], Reader]) -> Source:
    """The source of a recipe's `corpus` section; `reader` reads a Weaviate collection by its name.

    Raises InputError where it is not there.
    """
    match section.source:
        case "beir":
            return BeirFolder(section.path)
        case "bookmarks":
            return Bookmarks(section.path)
        case "climate_fever":
            return ClimateFever(section.path, unit=section.unit, revision=section.revision)
    tables = JudgementTables(section.queries, section.qrels, section.test_split)
    if section.source == "tables":
        return PassagesWithQrels(PassageTable(section.passages), tables)
    if section.source == "documents":
        return PassagesWithQrels(
            Documents(section.path, characters=section.passage_characters), tables
        )
    return PassagesWithQrels(WeaviateCollection(reader(section.path), section.passages), tables)
