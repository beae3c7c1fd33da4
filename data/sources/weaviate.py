"""Passages of an existing Weaviate collection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tercet.config.corpus import PassagesTable
from tercet.config.index import UUIDS
from tercet.core.console import console, progress
from tercet.core.schema import Passage
from tercet.data.sources import cells
from tercet.retrieval.weaviate.values import text_of

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.reader import WeaviateReader


class WeaviateCollection:
    """Objects as passages; an object's id is its UUID unless the recipe names a property.

    Dates, numbers, UUIDs and booleans are read as their text, lists joined by blank lines.
    """

    def __init__(self, reader: WeaviateReader, columns: PassagesTable) -> None:
        self.reader = reader
        there = dict.fromkeys(reader.properties)
        place = f"collection {reader.name}"
        # As in `index.id`: the objects' UUIDs, unless a property is called so.
        by_uuid = columns.id == UUIDS and UUIDS not in there
        self.id = None if by_uuid else columns.id
        self.id = self.id and cells.column(there, self.id, (), "passages' ids", place)
        self.text = cells.column(there, columns.text, cells.TEXTS, "passages' texts", place)
        titled = columns.title or any(name in there for name in cells.TITLES)
        self.title = titled and cells.column(
            there, columns.title, cells.TITLES, "passages' titles", place
        )
        if self.id:
            reader.check_kind(self.id, lists=False)
        for name in [self.title, self.text] if self.title else [self.text]:
            reader.check_kind(name, lists=True)
            if reader.kinds[name].endswith("[]"):
                console.print(f"{place}: the lists of {name} are joined by blank lines")

    def identity(self) -> str:
        """Digest of all current objects: a database does not record when it changed."""
        whole = hashlib.sha256()
        title = f"reading {self.reader.name}, has it changed?"
        with progress(title, len(self.reader), "objects") as advance:
            for _, passage in self.passages():
                whole.update(json.dumps([passage.id, passage.title, passage.text]).encode())
                advance(1)
        return whole.hexdigest()

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """The objects in the order of their UUIDs."""
        names = [name for name in (self.id, self.title, self.text) if name]
        for stored in self.reader.read(names):
            place = f"{self.reader.name} {stored.uuid}"
            row = {name: text_of(value) for name, value in stored.properties.items()}
            id = cells.as_id(row[self.id], self.id, place) if self.id else stored.uuid
            yield (
                place,
                Passage(
                    stored.prefix + id,
                    cells.as_text(row[self.title], self.title, place) if self.title else "",
                    cells.as_text(row[self.text], self.text, place),
                ),
            )
