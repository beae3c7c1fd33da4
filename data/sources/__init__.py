"""Where passages, queries and judgements come from: one file a source.

A source has `identity()`, a digest of what it reads, and yields `passages()`, `queries()` and
`judgements()`; it refuses malformed input by file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tercet.data.sources.beir import BeirFolder
from tercet.data.sources.bookmarks import Bookmarks
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


def open_source(kind: str, path: str) -> Source:
    """The source of a recipe's `corpus` section."""
    return BeirFolder(path) if kind == "beir" else Bookmarks(path)
