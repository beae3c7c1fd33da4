"""Where passages, queries and judgements come from: one file a source.

A source has `identity()`, a digest of what it reads, and yields `passages()`, `queries()` and
`judgements()`; it refuses malformed input by file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tercet.corpus_settings import CorpusSection
from tercet.data.sources.beir import BeirFolder
from tercet.data.sources.bookmarks import Bookmarks
from tercet.data.sources.climate_fever import ClimateFever
from tercet.data.sources.documents import Documents
from tercet.data.sources.tables import Tables
from tercet.schema import Passage, Query


class Source(Protocol):
    """Anything that a corpus can be read from."""

    def identity(self) -> str:
        """Digest of everything that is read: the same digest means the same corpus."""
        ...

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """Each passage with its place (file and line), for messages."""
        ...

    def queries(self) -> Iterator[tuple[str, Query]]:
        """Each judged query with its place; none where there are no judgements."""
        ...

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """(place, split, query id, passage id, grade)."""
        ...


def open_source(section: CorpusSection) -> Source:
    """The source of a recipe's `corpus` section. Raises InputError where it is not there."""
    match section.source:
        case "tables":
            return Tables(section)
        case "documents":
            return Documents(section.path, characters=section.passage_characters)
        case "climate_fever":
            return ClimateFever(section.path, unit=section.unit, revision=section.revision)
        case "bookmarks":
            return Bookmarks(section.path)
    return BeirFolder(section.path)
