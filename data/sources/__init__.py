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
from tercet.data.sources.chunks import Chunked, named_documents, parts_of, refuse_vectors
from tercet.data.sources.climate_fever import ClimateFever
from tercet.data.sources.documents import Documents
from tercet.data.sources.tables import JudgementTables, PassageTable, Vectors
from tercet.data.sources.weaviate import WeaviateCollection
from tercet.retrieval.indexes import read_collection


class PassagesWithQrels:
    """Passages of one source with judged queries of tables, or of another source.

    Where passages are parts of documents, judgements may name either. With `documents` they are of
    documents; else one of a whole document is one of each of its passages.
    """

    def __init__(
        self,
        source: PassageSource,
        tables: JudgementTables | BeirFolder,
        *,
        documents: bool = False,
    ) -> None:
        self.source, self.tables, self.documents = source, tables, documents
        self.passages = source.passages
        self.queries = tables.queries

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Those of the tables, of passages or of documents."""
        if self.documents:
            yield from self._of_documents()
            return
        names = set[str]()
        if isinstance(self.source, Documents | Chunked):
            names = {passage for *_, passage, _ in self.tables.judgements()}
        parts = parts_of(self.source, names)
        for place, split, query, passage, grade in self.tables.judgements():
            numbers = range(1, parts[passage] + 1)
            for id in [f"{passage}#{number}" for number in numbers] or [passage]:
                yield place, split, query, id, grade

    def _of_documents(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Of several judgements of a document and its passages the best one."""
        rows = list(self.tables.judgements())
        of = named_documents(self.source, {passage for *_, passage, _ in rows})
        best: dict[tuple[str, str, str], tuple[str, int]] = {}
        for place, split, query, passage, grade in rows:
            key = split, query, of[passage]
            if key not in best or best[key][1] < grade:
                best[key] = place, grade
        for (split, query, document), (place, grade) in best.items():
            yield place, split, query, document, grade

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
        if isinstance(self.tables, BeirFolder):
            raise InputError("only tables hold vectors of queries (corpus.source)")
        return self.tables.vectors()

    def identity(self) -> str:
        """Digest of the source and the tables."""
        documents = ["documents"] if self.documents else []
        return digest([self.source.identity(), self.tables.identity(), *documents])


def open_source(section: CorpusSection) -> Source:
    """The source of a `corpus` section. Raises InputError if it does not exist."""
    chunk, documents = section.passages.chunk, section.aggregate == "max"
    match section.source:
        case "beir":
            folder = BeirFolder(section.path)
            if not chunk and not documents:
                return folder
            return PassagesWithQrels(
                Chunked(folder, chunk) if chunk else folder, folder, documents=documents
            )
        case "bookmarks":
            return Bookmarks(section.path)
        case "climate_fever":
            return ClimateFever(section.path, unit=section.unit, revision=section.revision)
    tables = JudgementTables(section.queries, section.qrels, section.test_split)
    if section.source == "tables":
        table = PassageTable(section.passages)
        if not chunk:
            return PassagesWithQrels(table, tables, documents=documents)
        refuse_vectors(section.passages.vector)
        return PassagesWithQrels(Chunked(table, chunk), tables, documents=documents)
    if section.source == "documents":
        files = Documents(section.path, characters=section.passage_characters)
        return PassagesWithQrels(files, tables, documents=documents)
    if section.source == "weaviate":
        collection = WeaviateCollection(
            read_collection(section.path, section.tenant), section.passages
        )
        return PassagesWithQrels(collection, tables, documents=documents)
    source = plugins.make("sources", section.source, section.options)
    return source if isinstance(source, Source) else PassagesWithQrels(source, tables)
