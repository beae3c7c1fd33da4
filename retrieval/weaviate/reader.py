"""Read all objects of a Weaviate collection, in the order of their UUIDs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from tercet.config.index import UUIDS
from tercet.core.schema import InputError
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.collection import (
    DEFAULT_VECTOR,
    ID_PROPERTY,
    MOST,
    object_id,
    one_of,
)
from tercet.retrieval.weaviate.failures import Missing, WeaviateError

_PAGE = 500  # objects per request: 3 MB with 1,536 dimensions, of the 10 that gRPC allows


class StoredObject(NamedTuple):
    """An object of the server; `vector` is float32 [dimension] if it was requested."""

    uuid: str
    properties: dict[str, Any]
    vector: np.ndarray | None


class WeaviateReader:
    """Reads a collection by its name or an alias; it need not be Tercet's."""

    def __init__(
        self,
        collection: str,
        server: WeaviateServer | None = None,
        *,
        setting: str = "corpus.path",
    ) -> None:
        """`setting` is the recipe key with the name, for the message if there is none."""
        self.server = server or WeaviateServer.connect()
        self.name = collection
        collections = self.server.client.collections
        try:
            config = self.server.ask(
                f"read collection {collection}", collections.use(collection).config.get
            )
        except Missing:
            raise InputError(
                f"{self.server.url} has no collection or alias {collection!r}"
                + (f" ({setting})" if setting else "")
            ) from None
        self.config = config
        # By its own name: an alias may move during the read.
        self._handle = collections.use(config.name)
        self.properties = [prop.name for prop in config.properties]
        #: Index configuration of each vector by name.
        self.layouts = {
            name: vector.vector_index_config
            for name, vector in (config.vector_config or {}).items()
        }
        # The one vector of older collections has no name, and requests must not name it.
        self.unnamed = None if config.vector_index_config is None else DEFAULT_VECTOR
        if self.unnamed:
            self.layouts = {self.unnamed: config.vector_index_config, **self.layouts}

    @property
    def vectors(self) -> list[str]:
        """Names of the collection's vectors."""
        return list(self.layouts)

    def __len__(self) -> int:
        """Current number of objects."""
        reply = self.server.ask(
            f"count {self.name}", lambda: self._handle.aggregate.over_all(total_count=True)
        )
        return int(reply.total_count or 0)

    def read(self, properties: Sequence[str], vector: str | None = None) -> Iterator[StoredObject]:
        """All objects, with these properties and the vector of this name.

        The cursor goes by UUID, so concurrent writes shift no page: an object that existed at the
        start is read once. Raises InputError for a missing vector.
        """
        if vector is not None:
            vector = self.vector_name(vector)
        for page in self.pages(properties, vector):
            for stored in page:
                yield StoredObject(
                    str(stored.uuid),
                    dict(stored.properties),
                    None if vector is None else _as_vector(stored, vector, self.name),
                )

    def read_vectors(
        self, vector: str | None = None, id_property: str | None = None
    ) -> Iterator[tuple[str, list[str], np.ndarray]]:
        """All ids and vectors, page by page: place, ids, float32 [ids, dimension].

        `vector_name` and `id_name` resolve the names; the order is that of `read`. Raises
        InputError as they do, and for an object without that vector.
        """
        name, key = self.vector_name(vector), self.id_name(id_property)
        for page in self.pages([key] if key else [], name):
            yield (
                f"collection {self.name} from {page[0].uuid} on",
                [object_id(stored, key) for stored in page],
                np.stack([_as_vector(stored, name, self.name) for stored in page]),
            )

    def pages(self, properties: Sequence[str], vector: str | None) -> Iterator[list[Any]]:
        """The client's objects, page by page, in the order of their UUIDs."""
        wanted: Any = [vector]
        if vector in (None, self.unnamed):
            wanted = vector is not None
        after = None
        while page := self._page(after, properties, wanted):
            yield page
            after = page[-1].uuid

    def vector_name(self, vector: str | None) -> str:
        """Check the name of a vector; None becomes the name of the only vector.

        Raises InputError with the existing names.
        """
        if vector is None and len(self.vectors) == 1:
            return self.vectors[0]
        if vector is not None and vector in self.vectors:
            return vector
        there = ", ".join(self.vectors) or "none"
        if vector is None and self.vectors:
            raise InputError(
                f"collection {self.name} has several vectors: name one of them: {there}"
            )
        which = "" if vector is None else f" {vector!r}"
        raise InputError(f"collection {self.name} has no vector{which}; there are: {there}")

    def id_name(self, id_property: str | None) -> str | None:
        """The property with the ids; None if ids are UUIDs.

        Without a name it is `passage_id` if that exists; "uuid" gives None. Raises InputError with
        the existing properties, and for a property of another type than text and int.
        """
        if id_property is None:
            return ID_PROPERTY if ID_PROPERTY in self.properties else None
        if id_property == UUIDS and UUIDS not in self.properties:
            return None
        if id_property not in self.properties:
            raise InputError(
                f"collection {self.name} has no property {id_property!r} for the passages' ids; "
                f"there are: {', '.join(self.properties) or 'none'}"
            )
        if (kind := self._property(id_property).data_type.value) not in ("text", "int"):
            raise InputError(
                f"collection {self.name}: property {id_property} holds {kind}: "
                "ids are text or whole numbers"
            )
        return id_property

    def find(self, ids: Sequence[str], id_property: str | None) -> dict[str, str]:
        """UUIDs of the objects with these ids, by id; missing objects are left out.

        Raises InputError for an id that several objects have.
        """
        if id_property is None:
            return {id: id for id in ids if _is_uuid(id)}
        found: dict[str, str] = {}
        wanted = set(ids)

        def keep(objects: Sequence[Any]) -> None:
            for stored in objects:
                id, key = object_id(stored, id_property), str(stored.uuid)
                if id in wanted and found.setdefault(id, key) != key:
                    raise InputError(
                        f"collection {self.name}: several objects have the {id_property} {id!r}: "
                        "name a property that tells them apart"
                    )

        # Tokenised properties match without case and ignore stop words, and others may have no
        # filter index: ids that a filter does not find are searched in all pages.
        kept_whole = self._property(id_property).tokenization
        complete = kept_whole is None or kept_whole.value == "field"
        try:
            for start in range(0, len(ids), _PAGE):
                keep(self._having(id_property, ids[start : start + _PAGE]))
        except WeaviateError:
            complete = False
        if len(found) < len(wanted) and not complete:
            for page in self.pages([id_property], None):
                keep(page)
        return found

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

    def _having(self, id_property: str, ids: Sequence[str]) -> list[Any]:
        values: list[Any] = list(ids)
        if self.is_number(id_property):
            values = [int(id) for id in ids if id.removeprefix("-").isdecimal()]
        if not values:
            return []
        return self.server.ask(
            f"look passages up in {self.name}",
            lambda: (
                self._handle.query.fetch_objects(
                    filters=one_of(id_property, values),
                    limit=MOST,
                    return_properties=[id_property],
                ).objects
            ),
        )

    def is_number(self, name: str) -> bool:
        """Whether a property has the type int."""
        return bool(self._property(name).data_type.value == "int")

    def _property(self, name: str) -> Any:
        return next(prop for prop in self.config.properties if prop.name == name)

    def close(self) -> None:
        """Close the connection."""
        self.server.close()


def _is_uuid(id: str) -> bool:
    try:
        return str(UUID(id)) == id
    except ValueError:
        return False


def _as_vector(stored: Any, name: str, collection: str) -> np.ndarray:
    if name not in stored.vector:
        raise InputError(f"{collection}: object {stored.uuid} has no vector {name!r}")
    return np.asarray(stored.vector[name], np.float32)
