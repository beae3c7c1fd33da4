"""Sources of passages, queries and relevance judgements, one module each.

A source has `identity()`, a digest of its input, and yields `passages()`, `queries()` and
`judgements()`; it refuses malformed input with the file and line. Some sources have passages alone
and are combined with tables of judgements.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tercet.config.corpus import CorpusSection
from tercet.core import plugins
from tercet.core.files import digest
from tercet.core.schema import InputError, Passage, PassageSource, Source
from tercet.data.sources.beir import BeirFolder
from tercet.data.sources.bookmarks import Bookmarks
from tercet.data.sources.climate_fever import ClimateFever
from tercet.data.sources.documents import Documents
from tercet.data.sources.tables import JudgementTables, PassageTable, Vectors
from tercet.data.sources.weaviate import WeaviateCollection
from tercet.retrieval.indexes import read_collection


class PassagesWithQrels:
    """Passages of one source with judged queries of tables."""

    def __init__(self, source: PassageSource, tables: JudgementTables) -> None:
        self.source, self.tables = source, tables
        self.passages = source.passages
        self.queries = tables.queries

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Those of the tables; one of a whole document is one of each of its passages."""
        for place, split, query, passage, grade in self.tables.judgements():
            for id in self._parts(passage):
                yield place, split, query, id, grade

    def _parts(self, passage: str) -> list[str]:
        """The ids of a document's passages, or the id of a passage."""
        parts = self.source.parts.get(passage) if isinstance(self.source, Documents) else None
        return [f"{passage}#{number}" for number in range(1, parts + 1)] if parts else [passage]

    def embedded(self) -> Iterator[tuple[str, Passage, np.ndarray]]:
        """Passages with their precomputed vectors. Raises InputError if there are none."""
        if not isinstance(self.source, PassageTable):
            raise InputError("only tables hold vectors of passages (corpus.source)")
        return self.source.embedded()

    def passage_vectors(self) -> Vectors:
        """Places, ids and vectors of the passages."""
        for place, passage, vector in self.embedded():
            yield place, passage.id, vector

    def query_vectors(self) -> Vectors:
        """Places, ids and vectors of judged queries. Raises InputError if there are none."""
        return self.tables.vectors()

    def identity(self) -> str:
        """Digest of the source and the tables."""
        return digest([self.source.identity(), self.tables.identity()])


def open_source(section: CorpusSection) -> Source:
    """The source of a `corpus` section. Raises InputError if it does not exist."""
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
    if section.source == "weaviate":
        collection = WeaviateCollection(read_collection(section.path), section.passages)
        return PassagesWithQrels(collection, tables)
    source = plugins.make("sources", section.source, section.options)
    return source if isinstance(source, Source) else PassagesWithQrels(source, tables)
