"""Give every object of a collection another model's vector, in place or in a copy.

Nothing is noted on the way: what is there already is seen on the server, so that a killed rollout
goes on where it was, and a second one writes nothing. Objects are read and written at consistency
level ALL: what is counted is on every replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tercet.core.extras import missing
from tercet.core.schema import InputError
from tercet.retrieval.vector_files import cosines
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.collection import SAMPLE, Collection
from tercet.retrieval.weaviate.failures import Lost, RefusedPassages, ServerFailed, WeaviateError
from tercet.retrieval.weaviate.layouts import layout_of
from tercet.retrieval.weaviate.paging import in_halves, paged
from tercet.retrieval.weaviate.reader import WeaviateReader
from tercet.retrieval.weaviate.settings import Metric, WeaviateSettings
from tercet.retrieval.weaviate.writing import DataObject, insert

try:
    from weaviate.classes.config import Configure, ConsistencyLevel
    from weaviate.classes.data import PhoneNumber
    from weaviate.classes.query import MetadataQuery, QueryNested
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

#: Objects of one request: 4 MB with texts and vectors of 10 kB each, of the 10 that gRPC allows.
PAGE = 200
#: Passes over the objects, until one finds all of them there; a service may write meanwhile.
_ROUNDS = 8
#: Share of the objects that may have changed during the last pass.
_CHANGING = 1e-3
#: Least cosine of a stored vector with the same text's, encoded in another batch.
_SAME = 0.98
_THREADS = 4

#: Texts of objects, in their order; an object whose text is empty gets no vector.
Texts = Callable[[Sequence[Any]], list[str]]


@dataclass
class Counts:
    """Objects of the last pass, how many of them have text, and what was written in all."""

    objects: int = 0
    with_text: int = 0
    written: int = 0


class Rollout:
    """Fills `vector` of the collection `target`, which is the source itself or a copy of it."""

    def __init__(
        self,
        source: WeaviateReader,
        target: str,
        vector: str,
        settings: WeaviateSettings,
        texts: Texts,
        encode: Callable[[list[str]], np.ndarray],
        carried: Sequence[str] = (),
    ) -> None:
        """`carried` are the source's vectors that a copy gets too."""
        self.source, self.target, self.vector = source, target, vector
        self.server: WeaviateServer = source.server
        self.settings, self.carried = settings, list(carried)
        self.copies = target != source.config.name
        self._texts, self._encode = texts, encode
        self._from = _everywhere(self.server, source.config.name)
        self._to = _everywhere(self.server, target)
        self._properties = [_wanted(prop) for prop in source.config.properties]
        self._sample: dict[str, str] = {}
        self._lost = self.server.lost

    def prepare(self) -> None:
        """Make the copy and the vector, where they are not there yet."""
        collections = self.server.client.collections
        there = f"look for {self.target}"
        if not self.server.ask(there, lambda: collections.exists(self.target)):
            layout = _copied(self.source, self.target, self.carried)
            self.server.create(
                f"create collection {self.target}",
                lambda: collections.exists(self.target),
                lambda: collections.create_from_dict(layout),
            )
        if self.vector not in self._vectors():
            self.server.create(
                f"add vector {self.vector} to {self.target}",
                lambda: self.vector in self._vectors(),
                lambda: self._to.config.add_vector(
                    vector_config=Configure.Vectors.self_provided(
                        name=self.vector, vector_index_config=layout_of(self.settings)
                    )
                ),
            )

    def _vectors(self) -> list[str]:
        return WeaviateReader(self.target, self.server, setting="").vectors

    def fill(self, advance: Callable[[int], None]) -> Counts:
        """Write what is missing until nothing is; `advance` is told of objects in the first pass.

        Raises InputError for objects that the server refuses, WeaviateError for a collection that
        changes faster than it can be read, and ServerFailed if the server went away meanwhile.
        """
        written, self._lost = 0, self.server.lost
        for number in range(_ROUNDS):
            try:
                counts = self._round(advance if number == 0 else lambda count: None)
            except Lost:
                raise self._damaged() from None
            written += counts.written
            if not counts.written:
                break
        else:
            if counts.written > _CHANGING * counts.objects:
                raise WeaviateError(
                    f"{self.source.name} changes faster than {self.target} can be filled "
                    f"({counts.written:,} objects in the last pass): deploy at a quieter time"
                )
        counts.written = written
        return counts

    def settle(self) -> None:
        """Wait until every vector is indexed on every node."""
        filled = Collection(self.server, self.target, self.settings, self.vector)
        self.server.wait(f"index {self.target}", filled.is_indexed, self.settings.patience)

    def verify(self) -> int:
        """Encode a seeded sample of objects again and compare; returns their number.

        Raises WeaviateError naming an object with another vector, and ServerFailed if the server
        went away since `fill` began.
        """
        if self.server.lost != self._lost:
            raise self._damaged()
        if not self._sample:
            return 0
        keys = list(self._sample)
        found = {
            str(stored.uuid): stored
            for stored in self._by_id(keys, [], [self.vector], f"read back {self.target}")
        }
        fresh = self._encode([self._sample[key] for key in keys])
        for key, vector in zip(keys, fresh, strict=True):
            stored = found.get(key)
            there = None if stored is None else stored.vector.get(self.vector)
            if there is None or len(there) != len(vector):
                raise WeaviateError(f"{self.target} lost the vector of object {key}")
            cosine = float(cosines(np.array([there], np.float32), vector[None])[0])
            if not cosine >= _SAME:
                raise WeaviateError(
                    f"{self.target} holds another vector {self.vector} for object {key} (cosine "
                    f"{cosine:.2f}): give another --vector-name"
                )
        return len(keys)

    def _damaged(self) -> ServerFailed:
        """The end of a rollout to a server that may lack what it had confirmed; drops a copy."""
        where = f"Weaviate at {self.server.url} went away while {self.target} was written"
        if self.copies:
            self.server.drop(self.target)
            return ServerFailed(f"{where}: that copy was dropped, run the same command again")
        return ServerFailed(
            f"{where}, and may lack some vectors {self.vector}: deploy again with another "
            "--vector-name"
        )

    def _round(self, advance: Callable[[int], None]) -> Counts:
        counts, random = Counts(), np.random.default_rng(0)
        self._sample = {}
        for page in self._pages():
            texts = dict(zip((str(o.uuid) for o in page), self._texts(page), strict=True))
            for key, text in texts.items():
                if text:
                    counts.with_text += 1
                    self._offer(key, text, counts.with_text, random)
            lacking = self._lacking(page, texts)
            self._write(lacking, texts)
            counts.objects += len(page)
            counts.written += len(lacking)
            advance(len(page))
        if self.copies:
            counts.written += self._remove_extra(counts.objects)
        return counts

    def _offer(self, key: str, text: str, seen: int, random: np.random.Generator) -> None:
        """A uniform sample of all objects with text (reservoir sampling)."""
        if len(self._sample) < SAMPLE:
            self._sample[key] = text
        elif (place := int(random.integers(seen))) < SAMPLE:
            del self._sample[list(self._sample)[place]]
            self._sample[key] = text

    def _pages(self) -> Iterator[list[Any]]:
        """The source's objects, whole, in the order of their UUIDs."""
        vectors: Any = self.carried if self.copies else [self.vector]
        if self.copies and self.source.unnamed:
            vectors = True

        def page(after: Any, limit: int) -> list[Any]:
            return list(
                self.server.ask(
                    f"read {self.source.name}",
                    lambda: (
                        self._from.query.fetch_objects(
                            limit=limit,
                            after=after,
                            return_properties=self._properties,
                            include_vector=vectors,
                            return_metadata=MetadataQuery(is_consistent=True),
                        ).objects
                    ),
                )
            )

        return paged(page, f"collection {self.source.name}", lambda key: f"after {key}", PAGE)

    def _lacking(self, page: Sequence[Any], texts: dict[str, str]) -> list[Any]:
        """The objects that the target lacks, holds with other properties or without the vector."""
        there = {str(stored.uuid): stored for stored in page}
        if self.copies:
            read = self._by_id(list(there), self._properties, [self.vector], f"read {self.target}")
            there = {str(stored.uuid): stored for stored in read}

        def is_there(wanted: Any) -> bool:
            stored = there.get(str(wanted.uuid))
            return (
                stored is not None
                and stored.metadata.is_consistent is not False
                and (not self.copies or stored.properties == wanted.properties)
                and (not texts[str(wanted.uuid)] or self.vector in stored.vector)
            )

        return [stored for stored in page if not is_there(stored)]

    def _write(self, objects: Sequence[Any], texts: dict[str, str]) -> None:
        keys = [str(stored.uuid) for stored in objects if texts[str(stored.uuid)]]
        vectors = self._encode([texts[key] for key in keys]) if keys else ()
        made = dict(zip(keys, vectors, strict=True))
        if self.copies:
            self._copy(objects, made)
        else:
            self._patch(made)

    def _patch(self, made: dict[str, np.ndarray]) -> None:
        """Add the vector to objects; a patch keeps what a service writes at the same time."""

        def patch(key: str) -> None:
            vector = {self.vector: made[key].tolist()}
            self.server.ask(
                f"write a vector to {self.target}", lambda: self._to.data.update(key, vector=vector)
            )

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(patch, made))

    def _copy(self, objects: Sequence[Any], made: dict[str, np.ndarray]) -> None:
        def copies() -> Iterator[DataObject]:
            for stored in objects:
                key = str(stored.uuid)
                vectors = {n: stored.vector[n] for n in self.carried if n in stored.vector}
                yield DataObject(
                    properties={
                        n: _input(v) for n, v in stored.properties.items() if v is not None
                    },
                    uuid=key,
                    vector=vectors | ({self.vector: made[key]} if key in made else {}),
                )

        if refused := insert(self.server, self._to, copies(), PAGE):
            raise RefusedPassages(self.target, refused)

    def _remove_extra(self, objects: int) -> int:
        """Delete from the copy what was deleted from the source meanwhile; returns the number."""
        copy = WeaviateReader(self.target, self.server, setting="")
        if len(copy) <= objects:
            return 0
        removed = 0
        for page in copy.pages([], None):
            keys = [str(stored.uuid) for stored in page]
            what = f"read {self.source.name}"
            read = self.server.ask(
                what,
                lambda keys=keys: (  # type: ignore[misc]
                    self._from.query.fetch_objects_by_ids(
                        keys, limit=len(keys), return_properties=[]
                    ).objects
                ),
            )
            held = {str(stored.uuid) for stored in read}
            for key in keys:
                if key not in held:
                    self.server.ask(
                        f"delete from {self.target}",
                        lambda key=key: self._to.data.delete_by_id(key),  # type: ignore[misc]
                    )
                    removed += 1
        return removed

    def _by_id(
        self, keys: list[str], properties: list[Any], vectors: list[str], what: str
    ) -> list[Any]:
        def read(some: Sequence[str]) -> list[Any]:
            return list(
                self.server.ask(
                    what,
                    lambda: (
                        self._to.query.fetch_objects_by_ids(
                            some,
                            limit=len(some),
                            return_properties=properties,
                            include_vector=vectors,
                            return_metadata=MetadataQuery(is_consistent=True),
                        ).objects
                    ),
                )
            )

        return in_halves(read, keys) if keys else []


def like(layout: Any, metric: Metric) -> WeaviateSettings:
    """The settings of a new vector beside one of this layout (None: the server's defaults).

    Product and scalar codes, which are trained on vectors, give way to rotated ones.
    """
    given: dict[str, Any] = {"ef": -1, "ef_construction": 128, "max_connections": 32}
    kind = "hnsw"
    if layout is not None:
        structure = layout.vector_index_type()
        code = type(getattr(layout, "quantizer", None)).__name__.strip("_")[:2].lower()
        if structure == "hnsw":
            given = {name: getattr(layout, name) for name in given}
            kind = {"rq": "hnsw+rq", "pq": "hnsw+rq", "sq": "hnsw+rq", "bq": "hnsw+bq"}.get(
                code, kind
            )
        elif structure == "flat":
            kind = "flat+bq" if code == "bq" else "flat"
        elif structure == "hfresh" and metric == "cosine":
            kind = "hfresh"
    return WeaviateSettings(kind=kind, metric=metric, **given)  # type: ignore[arg-type]


def check_rollout(reader: WeaviateReader, *, copies: bool) -> None:
    """Raise InputError for a collection that cannot be deployed to."""
    if reader.config.multi_tenancy_config.enabled:
        raise InputError(
            f"collection {reader.name} has tenants, and a model is deployed to all objects at "
            "once: deploy to a collection without tenants"
        )
    if copies and reader.config.references:
        names = ", ".join(each.name for each in reader.config.references)
        raise InputError(
            f"collection {reader.name} has references ({names}), which are not copied: give "
            "--as vector"
        )


def _everywhere(server: WeaviateServer, name: str) -> Any:
    return server.client.collections.use(name).with_consistency_level(ConsistencyLevel.ALL)


def _copied(source: WeaviateReader, name: str, carried: Sequence[str]) -> dict[str, Any]:
    """The schema of a copy: everything but the vectors that are not carried.

    An unnamed vector becomes a named one: only so can the copy get a second.
    """
    layout = dict(source.config.to_dict())
    vectors = layout.pop("vectorConfig", {})
    for unnamed in ("vectorizer", "vectorIndexType", "vectorIndexConfig"):
        layout.pop(unnamed, None)
    if source.unnamed:
        index = source.config.vector_index_config
        vectors[source.unnamed] = {
            "vectorizer": {"none": {}},
            "vectorIndexType": index.vector_index_type(),
            "vectorIndexConfig": index.to_dict(),
        }
    layout["vectorConfig"] = {vector: each for vector, each in vectors.items() if vector in carried}
    layout["class"] = name
    for counted in ("actualCount", "actualVirtualCount"):
        (layout.get("shardingConfig") or {}).pop(counted, None)
    return layout


def _wanted(prop: Any) -> Any:
    """How a property is asked for; nested ones by each of their parts."""
    nested = getattr(prop, "nested_properties", None)
    if nested:
        return QueryNested(name=prop.name, properties=[_wanted(each) for each in nested])
    return prop.name


def _input(value: Any) -> Any:
    """A property's value as the client takes it."""
    if type(value).__name__ == "_PhoneNumber":
        country = value.default_country or None
        return PhoneNumber(number=value.number, default_country=country)
    return value
