"""Read all objects of a Weaviate collection, in the order of their UUIDs, tenant by tenant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from tercet.config.index import UUIDS
from tercet.core.console import console
from tercet.core.schema import InputError
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.collection import (
    DEFAULT_VECTOR,
    ID_PROPERTY,
    MOST,
    asked,
    object_id,
    one_of,
)
from tercet.retrieval.weaviate.failures import Missing, TooLarge, WeaviateError
from tercet.retrieval.weaviate.paging import in_halves, paged
from tercet.retrieval.weaviate.tenants import Parts, check_tenants
from tercet.retrieval.weaviate.values import PLAIN, value_at

#: The recipe key of the tenants beside that of the collection.
_TENANT = {"corpus.path": "corpus.tenant", "index.collection": "index.tenant"}
#: Types of ids that a filter finds.
_FILTERED = ("text", "int", "uuid")
_IDS = 500  # ids per request


class Page(list[Any]):
    """The client's objects; `prefix` begins their ids, of one of several tenants."""

    def __init__(self, objects: list[Any], prefix: str) -> None:
        super().__init__(objects)
        self.prefix = prefix

    def ids(self, id_property: str | None) -> list[str]:
        """The objects' ids."""
        return [self.prefix + object_id(stored, id_property) for stored in self]


class StoredObject(NamedTuple):
    """An object of the server; `vector` is float32 [dimension] if it was requested and is there.

    `properties` are by the names that were asked for, nested ones too. `prefix` begins its id.
    """

    uuid: str
    properties: dict[str, Any]
    vector: np.ndarray | None
    prefix: str = ""


class WeaviateReader:
    """Reads a collection by its name or an alias; it need not be Tercet's."""

    def __init__(
        self,
        collection: str,
        server: WeaviateServer | None = None,
        *,
        tenants: Sequence[str] = (),
        setting: str = "corpus.path",
    ) -> None:
        """`tenants` are read one after another, of a collection that has any.

        `setting` is the recipe key with the name, for the message if there is none.
        """
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
        self._parts = Parts(
            collections.use(config.name),
            check_tenants(self.server, config, tenants, _TENANT.get(setting, "tenant")),
        )
        self.tenants = self._parts.tenants
        #: Types of properties by name; nested ones are named by dots, as `meta.source`.
        self.kinds = dict(_kinds(config.properties))
        self.properties = [name for name, kind in self.kinds.items() if not kind.startswith("obj")]
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
        return sum(
            self.server.ask(
                f"count {self.name}",
                lambda handle=handle: int(  # type: ignore[misc]
                    handle.aggregate.over_all(total_count=True).total_count or 0
                ),
            )
            for _, handle in self._parts
        )

    def read(self, properties: Sequence[str], vector: str | None = None) -> Iterator[StoredObject]:
        """All objects, with these properties and the vector of this name.

        The cursor goes by UUID, so concurrent writes shift no page: an object that existed at the
        start is read once. Raises InputError for a missing vector.
        """
        if vector is not None:
            vector = self.vector_name(vector)
        for page in self.pages(properties, vector):
            for stored in page:
                held = stored.vector.get(vector) if vector is not None else None
                yield StoredObject(
                    str(stored.uuid),
                    {name: value_at(stored.properties, name) for name in properties},
                    None if held is None else np.asarray(held, np.float32),
                    page.prefix,
                )

    def read_vectors(
        self, vector: str | None = None, id_property: str | None = None
    ) -> Iterator[tuple[str, list[str], np.ndarray]]:
        """All ids and vectors, page by page: place, ids, float32 [ids, dimension].

        Objects without that vector are left out, and counted at the end. `vector_name` and
        `id_name` resolve the names; the order is that of `read`. Raises InputError as they do, and
        for vectors of several lengths.
        """
        name, key = self.vector_name(vector), self.id_name(id_property)
        without = 0
        for page in self.pages([key] if key else [], name):
            place = f"collection {self.name} from {page[0].uuid} on"
            held = [row for row, stored in enumerate(page) if name in stored.vector]
            without += len(page) - len(held)
            ids = page.ids(key)
            vectors = [np.asarray(page[row].vector[name], np.float32) for row in held]
            if len({vector.shape for vector in vectors}) > 1:
                raise InputError(f"{place}: vectors {name} have several lengths")
            if held:
                yield place, [ids[row] for row in held], np.stack(vectors)
        if without:
            console.warn(f"{without:,} objects of {self.name} have no vector {name}: left out")

    def pages(self, properties: Sequence[str], vector: str | None) -> Iterator[Page]:
        """The client's objects, page by page, in the order of their UUIDs, tenant by tenant."""
        wanted: Any = [vector]
        if vector in (None, self.unnamed):
            wanted = vector is not None
        for prefix, handle in self._parts:
            fetch = partial(self._page, handle, asked(properties), wanted)
            first = partial(self._first_after, handle)
            for page in paged(fetch, f"collection {self.name}", first):
                yield Page(page, prefix)

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
        the existing properties, and for a property whose values have no text, as lists.
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
        self.check_kind(id_property, lists=False)
        return id_property

    def check_kind(self, name: str, *, lists: bool) -> None:
        """Raise InputError for a property whose values are no text, nor have one."""
        kind = self.kinds[name]
        if kind.removesuffix("[]" if lists else "") in PLAIN:
            return
        need = "text, numbers, dates, UUIDs" + (" or lists of them" if lists else "")
        raise InputError(
            f"collection {self.name}: property {name} holds {kind}: name one of {need}"
        )

    def find(self, ids: Sequence[str], id_property: str | None) -> dict[str, str]:
        """Keys of the objects with these ids, by id; missing objects are left out.

        A key is the UUID, after the prefix of one of several tenants. Raises InputError for an id
        that several objects have.
        """
        if id_property is None:
            found = self._parts.split(ids)
            return {p + id: p + id for p, _, names in found for id in names if _is_uuid(id)}
        found_: dict[str, str] = {}
        wanted = set(ids)

        def keep(page: Page) -> None:
            for id, stored in zip(page.ids(id_property), page, strict=True):
                key = f"{page.prefix}{stored.uuid}"
                if id in wanted and found_.setdefault(id, key) != key:
                    raise InputError(
                        f"collection {self.name}: several objects have the {id_property} {id!r}: "
                        "name a property that tells them apart"
                    )

        # Tokenised properties match without case and ignore stop words, nested ones and others may
        # have no filter index: ids that a filter does not find are searched in all pages.
        complete = self._is_found_whole(id_property)
        try:
            for prefix, handle, names in self._parts.split(ids):
                for start in range(0, len(names), _IDS):
                    look = partial(self._having, handle, id_property)
                    keep(Page(in_halves(look, names[start : start + _IDS]), prefix))
        except WeaviateError:
            complete = False
        if len(found_) < len(wanted) and not complete:
            for page in self.pages([id_property], None):
                keep(page)
        return found_

    def _page(
        self, handle: Any, properties: list[Any], vector: Any, after: Any, limit: int
    ) -> list[Any]:
        return self.server.ask(
            f"read {self.name}",
            lambda: (
                handle.query.fetch_objects(
                    limit=limit,
                    after=after,
                    return_properties=properties,
                    include_vector=vector,
                ).objects
            ),
        )

    def _first_after(self, handle: Any, after: Any) -> str:
        """UUID of the first object after another."""
        return str(self._page(handle, [], False, after, 1)[0].uuid)

    def _having(self, handle: Any, id_property: str, ids: Sequence[str]) -> list[Any]:
        values: list[Any] = list(ids)
        if self.is_number(id_property):
            values = [int(id) for id in ids if id.removeprefix("-").isdecimal()]
        if self.kinds[id_property] == "uuid":
            values = [id for id in ids if _is_uuid(id)]
        if not values or "." in id_property or self.kinds[id_property] not in _FILTERED:
            return []
        what = f"look passages up in {self.name}"

        def look(limit: int) -> list[Any]:
            return list(
                handle.query.fetch_objects(
                    filters=one_of(id_property, values),
                    limit=limit,
                    return_properties=[id_property],
                ).objects
            )

        try:
            return self.server.ask(what, lambda: look(MOST))
        except TooLarge as error:
            # Fewer results than ids would leave some out.
            if not error.most or error.most < 2 * len(values):
                raise
            most = error.most
        return self.server.ask(what, lambda: look(most))

    def _is_found_whole(self, id_property: str) -> bool:
        """Whether a filter finds all objects with an id, and no others."""
        if "." in id_property or self.kinds[id_property] not in _FILTERED:
            return False
        tokenization = next(
            prop.tokenization for prop in self.config.properties if prop.name == id_property
        )
        return tokenization is None or bool(tokenization.value == "field")

    def is_number(self, name: str) -> bool:
        """Whether a property has the type int."""
        return self.kinds[name] == "int"

    def close(self) -> None:
        """Close the connection."""
        self.server.close()


def _kinds(properties: Sequence[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and types, those within an object after it."""
    for prop in properties:
        yield prefix + prop.name, str(prop.data_type.value)
        yield from _kinds(prop.nested_properties or (), f"{prefix}{prop.name}.")


def _is_uuid(id: str) -> bool:
    try:
        return str(UUID(id)) == id
    except ValueError:
        return False
