"""Stream precomputed vectors into a Weaviate collection, under a vector name of their own.

A passage's UUID is derived from its id, so writing a passage again replaces it: an interrupted
ingest can simply repeat its last block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import numpy as np

from tercet.core.schema import InputError, Passage
from tercet.retrieval.weaviate.client import WeaviateServer, check_name
from tercet.retrieval.weaviate.collection import SAMPLE, Collection
from tercet.retrieval.weaviate.failures import Lost, RefusedPassages, ServerFailed, WeaviateError
from tercet.retrieval.weaviate.settings import WeaviateSettings

BLOCK = 8_192  # passages between two checkpoints: 25 MB of vectors of 768 dimensions
_TEXTS = ("title", "text")
_TRIES = 5  # imports that a server may interrupt by going away


class Row(NamedTuple):
    """A passage with its vector, float32 [dimension]."""

    passage: Passage
    vector: np.ndarray


class Ingest:
    """Fills a collection; `vector` is the name of its vector."""

    def __init__(
        self, collection: str, vector: str, settings: WeaviateSettings, *, fresh: bool
    ) -> None:
        """`fresh`: nothing was written yet, so the collection must not exist.

        Raises InputError for a server that does not answer, an invalid name, and a collection that
        another owner wrote.
        """
        check_name(collection)
        self.server = WeaviateServer.connect()
        self.name, self.vector, self.settings = collection, vector, settings
        self.server.need(settings.kind)
        self.server.check_writes("an ingest writes a collection")
        if fresh and self._holds():
            raise self._taken()

    def count(self) -> int | None:
        """Number of passages in the collection; None if it does not exist."""
        exists = self.server.client.collections.exists
        if not self.server.ask(f"look for {self.name}", lambda: exists(self.name)):
            return None
        return Collection(self.server, self.name, self.settings, self.vector).total()

    def _holds(self) -> bool:
        """Whether the collection holds passages of this owner; one without any is dropped.

        Raises InputError for a collection of somebody else.
        """
        held = self.count()
        if held is None:
            return False
        if not self._is_ours():
            raise self._taken()
        if not held:  # of a run that failed before it wrote
            self.server.drop(self.name)
        return bool(held)

    def _taken(self) -> InputError:
        return InputError(
            f"{self.server.url} has a collection {self.name} already: choose another "
            "ingest.collection, or delete that one"
        )

    def _is_ours(self) -> bool:
        get = self.server.client.collections.use(self.name).config.get
        description = self.server.ask(f"read collection {self.name}", get).description
        return bool(description == self.settings.owner)

    def fill(
        self,
        rows: Callable[[], Iterator[Row]],
        start: int,
        reached: Callable[[int], None],
    ) -> int:
        """Write all rows from number `start` on and return the number of all rows.

        `reached` is called with the number of rows written so far: 0 when the server goes away,
        which may then lack rows that it had confirmed; they are written to a new collection. Raises
        RefusedPassages with the passages that the server refused, after all others were written;
        and InputError for vectors of different lengths, ids that occur twice, and a server that
        does not hold the rows that were sent.
        """
        self.server.when_lost = lambda: reached(0)
        for _ in range(_TRIES):
            lost = self.server.lost
            if not start and self._holds():
                self.server.drop(self.name)
            with suppress(Lost):
                seen = self._filled(rows, start, reached)
            if self.server.lost == lost:
                return seen
            self.server.tell(f"  Weaviate went away: {self.name} is written anew")
            start = 0
        raise ServerFailed(
            f"Weaviate at {self.server.url} went away during each of {_TRIES} imports: see its log"
        )

    def _filled(
        self, rows: Callable[[], Iterator[Row]], start: int, reached: Callable[[int], None]
    ) -> int:
        collection = self._opened()
        sample, seen, width = _Sample(), 0, 0
        refused: dict[str, str] = {}
        stream = rows()
        while block := list(islice(stream, BLOCK)):
            for row in block:
                width = width or len(row.vector)
                if len(row.vector) != width:
                    raise InputError(
                        f"passage {row.passage.id!r} has a vector of {len(row.vector)} numbers, "
                        f"those before it of {width}"
                    )
                sample.offer(row)
            before, seen = seen, seen + len(block)
            if seen > start:
                refused |= self._write(collection, block[max(0, start - before) :])
                if not refused:  # otherwise the next run begins at the first refused passage
                    reached(seen)
        if refused:
            raise RefusedPassages(self.name, refused)
        if collection.total() != seen:
            self._explain(collection.total(), seen, rows)
        collection.settle(seen)
        ids, vectors = sample.rows()
        collection.compare(ids, vectors)
        collection.check_finds(vectors)
        return seen

    def _opened(self) -> Collection:
        if self.count() is None:
            return Collection.create(
                self.server, self.name, self.settings, vector=self.vector, texts=_TEXTS
            )
        return Collection(self.server, self.name, self.settings, self.vector)

    def _write(self, collection: Collection, block: list[Row]) -> dict[str, str]:
        """Write a block; return the reasons of the refused passages by id."""
        try:
            collection.write(
                [row.passage.id for row in block],
                [row.vector for row in block],
                [{"title": row.passage.title, "text": row.passage.text} for row in block],
            )
        except RefusedPassages as refused:
            return refused.failures
        return {}

    def _explain(self, held: int, sent: int, rows: Callable[[], Iterator[Row]]) -> None:
        """Raise InputError for a wrong count, naming duplicate ids if there are any."""
        keys = np.sort(np.fromiter((_key(row.passage.id) for row in rows()), np.uint64))
        twice = set(keys[1:][keys[1:] == keys[:-1]].tolist())
        if not twice:
            raise WeaviateError(f"{self.name} holds {held:,} passages of the {sent:,} sent")
        named = (row.passage.id for row in rows() if _key(row.passage.id) in twice)
        shown = ", ".join(map(repr, islice(dict.fromkeys(named), 3)))
        raise InputError(
            f"{len(twice):,} ids of passages occur more than once, such as {shown}, so that "
            f"{self.name} holds {held:,} of {sent:,}: give each its own"
        )


class _Sample:
    """A uniform random sample of a stream (reservoir sampling)."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._kept: dict[int, Row] = {}
        self._offered = 0

    def offer(self, row: Row) -> None:
        """Add a row of the stream."""
        self._offered += 1
        place = len(self._kept)
        if place == SAMPLE:
            place = int(self._random.integers(self._offered))
        if place < SAMPLE:
            # A copy: the vector is a view that would keep its file's whole batch in memory.
            self._kept[place] = row._replace(vector=row.vector.copy())

    def rows(self) -> tuple[list[str], np.ndarray]:
        """Ids, and vectors as float32 [rows, dimension]."""
        kept = list(self._kept.values())
        return [row.passage.id for row in kept], np.array([row.vector for row in kept])


def _key(id: str) -> int:
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest())
