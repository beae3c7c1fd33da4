"""Any Weaviate collection, read whole: each object once, in the order of their UUIDs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tercet.retrieval.weaviate_client import Missing, WeaviateServer
from tercet.schema import InputError

_PAGE = 500  # objects a request: with vectors of 1,536 dimensions 3 MB, of the 10 that gRPC allows


class StoredObject(NamedTuple):
    """An object as the server holds it; `vector` is float32 [dimension] if it was asked for."""

    uuid: str
    properties: dict[str, Any]
    vector: np.ndarray | None


class WeaviateReader:
    """Reads a collection that anyone wrote, by its name or an alias."""

    def __init__(self, collection: str, server: WeaviateServer | None = None) -> None:
        self.server = server or WeaviateServer.connect()
        self.name = collection
        self._handle = self.server.client.collections.use(collection)
        try:
            config = self.server.ask(f"read collection {collection}", self._handle.config.get)
        except Missing:
            raise InputError(
                f"{self.server.url} has no collection or alias {collection!r} (corpus.path)"
            ) from None
        self.properties = [prop.name for prop in config.properties]
        self.vectors = list(config.vector_config or {})

    def __len__(self) -> int:
        """Objects that it holds now."""
        reply = self.server.ask(
            f"count {self.name}", lambda: self._handle.aggregate.over_all(total_count=True)
        )
        return int(reply.total_count or 0)

    def read(self, properties: Sequence[str], vector: str | None = None) -> Iterator[StoredObject]:
        """Every object with these properties and the vector of this name.

        The cursor goes by UUID, so what others write meanwhile moves nothing: an object that was
        there at the start comes once. Raises InputError for a vector that is not there.
        """
        if vector is not None and vector not in self.vectors:
            raise InputError(
                f"collection {self.name} has no vector {vector!r}; "
                f"there are: {', '.join(self.vectors) or 'none'}"
            )
        wanted: Any = [vector] if vector is not None else False
        after = None
        while page := self._page(after, properties, wanted):
            for stored in page:
                yield StoredObject(
                    str(stored.uuid),
                    dict(stored.properties),
                    None if vector is None else _as_vector(stored, vector, self.name),
                )
            after = page[-1].uuid

    def _page(self, after: Any, properties: Sequence[str], vector: Any) -> list[Any]:
        return self.server.ask(
            f"read {self.name}",
            lambda: (
                self._handle.query.fetch_objects(
                    limit=_PAGE,
                    after=after,
                    return_properties=list(properties),
                    include_vector=vector,
                ).objects
            ),
        )

    def close(self) -> None:
        """Lets the connection go."""
        self.server.close()


def _as_vector(stored: Any, name: str, collection: str) -> np.ndarray:
    if name not in stored.vector:
        raise InputError(f"{collection}: object {stored.uuid} has no vector {name!r}")
    return np.asarray(stored.vector[name], np.float32)
