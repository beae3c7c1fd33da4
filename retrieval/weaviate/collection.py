"""A collection on a Weaviate server: created, filled, compressed, verified and searched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tercet.core.console import console, progress
from tercet.core.extras import missing
from tercet.core.mapped import Vectors
from tercet.core.schema import Ranking, UnsupportedVectors
from tercet.retrieval.validation import in_order
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.failures import NotAllowed, RefusedPassages, TooLarge, WeaviateError
from tercet.retrieval.weaviate.layouts import layout_of, training_of
from tercet.retrieval.weaviate.paging import in_halves
from tercet.retrieval.weaviate.settings import WeaviateSettings
from tercet.retrieval.weaviate.tenants import Parts
from tercet.retrieval.weaviate.values import text_of, value_at
from tercet.retrieval.weaviate.writing import DataObject, insert

try:
    from weaviate.classes.config import (
        Configure,
        DataType,
        Property,
        Reconfigure,
        Tokenization,
    )
    from weaviate.classes.query import Filter, MetadataQuery, QueryNested
    from weaviate.util import generate_uuid5
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

#: Weaviate's name of a collection's only, unnamed vector.
DEFAULT_VECTOR = "default"
#: The property with the passage id in collections that Tercet writes.
ID_PROPERTY = "passage_id"
#: Number of passages that are read back after writing.
SAMPLE = 64
#: A stored vector is found if the first score is less than its own by no more than this part; and
#: the part of a sample that may be missed.
_LESS, _MISSED = 0.05, 0.1
#: Results of one query at most: the server's default of QUERY_MAXIMUM_RESULTS.
MOST = 10_000

_TIES = 16  # results beyond k, so that ties at the cutoff are broken by id


class Collection:
    """A collection that exists; `create` makes a new one."""

    def __init__(
        self,
        server: WeaviateServer,
        name: str,
        settings: WeaviateSettings,
        vector: str = DEFAULT_VECTOR,
        *,
        named: bool = True,
        id_property: str | None = ID_PROPERTY,
        tenants: Sequence[str] = (),
    ) -> None:
        """`named` is false for the unnamed vector of an older collection.

        An object's id is the value of `id_property`; its UUID if that is None. `tenants` are
        searched as one.
        """
        self.server = server
        self.name = name
        self.settings = settings
        self.vector = vector
        self.named = named
        self.id_property = id_property
        self.count = 0
        self.dimension = 0
        self._handle = server.client.collections.use(name)
        self._parts = Parts(self._handle, tenants)
        self._asked = asked([id_property] if id_property else [])
        self._limit = MOST

    @classmethod
    def create(
        cls,
        server: WeaviateServer,
        name: str,
        settings: WeaviateSettings,
        *,
        vector: str = DEFAULT_VECTOR,
        texts: Sequence[str] = (),
    ) -> Collection:
        """Create an empty collection with a named vector and text properties."""
        passage_id = Property(
            name=ID_PROPERTY,
            data_type=DataType.TEXT,
            tokenization=Tokenization.FIELD,
            index_filterable=True,
            index_searchable=False,
        )
        server.create(
            f"create collection {name}",
            lambda: server.client.collections.exists(name),
            lambda: server.client.collections.create(
                name,
                description=settings.owner or None,
                properties=[
                    passage_id,
                    *(Property(name=text, data_type=DataType.TEXT) for text in texts),
                ],
                vector_config=Configure.Vectors.self_provided(
                    name=vector, vector_index_config=layout_of(settings)
                ),
            ),
        )
        return cls(server, name, settings, vector)

    @property
    def most(self) -> int:
        """Largest number of results of one query."""
        if self.settings.kind == "hfresh":
            return min(self.settings.rescored, self._limit)
        return self._limit

    def fill(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Write all passages, wait until they are indexed and compressed, and verify a sample."""
        self.write(ids, vectors)
        self.settle(len(ids))
        self.verify(ids, vectors)
        self.count, self.dimension = vectors.shape

    def write(
        self,
        ids: Sequence[str],
        vectors: Sequence[np.ndarray] | Vectors,
        texts: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        """Import in batches; `texts` maps text properties to values for each passage.

        Writing a passage again replaces it. Raises RefusedPassages with all passages that the
        server refused, and as `insert`.
        """

        def objects() -> Iterator[DataObject]:
            for row, (id, vector) in enumerate(zip(ids, vectors, strict=True)):
                yield DataObject(
                    properties={ID_PROPERTY: id, **(texts[row] if texts else {})},
                    uuid=generate_uuid5(id),
                    vector={self.vector: vector},
                )

        refused = insert(self.server, self._handle, objects(), self.settings.batch_size)
        if refused:
            of = {generate_uuid5(id): id for id in ids}
            raise RefusedPassages(self.name, {of[key]: why for key, why in refused.items()})

    def verify(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Check the count, and a sample of up to 64 vectors against those that were sent."""
        total = self.total()
        if total != len(ids):
            raise WeaviateError(f"{self.name} holds {total} passages of the {len(ids)} sent")
        sample = np.random.default_rng(0).choice(len(ids), min(SAMPLE, len(ids)), replace=False)
        self.compare([ids[row] for row in sample], vectors[sample])
        self.check_finds(vectors[sample])

    def compare(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Read these passages back. Raises WeaviateError naming a passage with another vector."""
        keys = [generate_uuid5(id) for id in ids]
        found = self.fetch(keys)
        for id, key, vector in zip(ids, keys, vectors, strict=True):
            stored = found.get(key)
            if stored is None or object_id(stored, ID_PROPERTY) != id:
                raise WeaviateError(f"{self.name} lost passage {id!r}")
            if not self.same(np.asarray(stored.vector[self.vector], np.float32), vector):
                raise WeaviateError(f"{self.name} holds another vector for {id!r}")

    def check_finds(self, vectors: np.ndarray) -> None:
        """Search with vectors that are stored, float32 [n, dimension].

        Raises WeaviateError if more than a tenth find nothing as near as themselves: the index does
        not hold what the collection holds.
        """
        missed = 0
        for vector in vectors:
            own = float(vector @ vector) if self.settings.by_dot else 1.0
            found = self.nearest(vector, 1)
            missed += not found or found[0][1] < own - _LESS * own
        if missed > _MISSED * len(vectors):
            raise WeaviateError(
                f"{self.name} does not find {missed} of {len(vectors)} passages by their own "
                f"vectors {self.vector}, as its index is not finished or damaged: see the "
                "server's log"
            )

    def fetch(self, keys: Sequence[str]) -> dict[str, Any]:
        """Existing objects by key, each with its id and its vector.

        A key is the UUID, after the prefix of one of several tenants.
        """
        found: dict[str, Any] = {}
        for prefix, handle, uuids in self._parts.split(keys):
            objects = in_halves(partial(self._by_id, handle), uuids)
            found |= {f"{prefix}{stored.uuid}": stored for stored in objects}
        return found

    def _by_id(self, handle: Any, uuids: Sequence[str]) -> list[Any]:
        return list(
            self.server.ask(
                f"read back {self.name}",
                lambda: (
                    handle.query.fetch_objects_by_ids(
                        uuids,
                        limit=len(uuids),
                        include_vector=[self.vector] if self.named else True,
                        return_properties=self._asked,
                    ).objects
                ),
            )
        )

    def total(self) -> int:
        """Number of passages, counted by the server."""
        return sum(
            self.server.ask(
                f"read back {self.name}",
                lambda handle=handle: int(  # type: ignore[misc]
                    handle.aggregate.over_all(total_count=True).total_count or 0
                ),
            )
            for _, handle in self._parts
        )

    def nearest(self, query: np.ndarray, k: int) -> Ranking:
        """The k best passages of one query, float32 [dimension].

        Raises UnsupportedVectors for a k above the server's QUERY_MAXIMUM_RESULTS.
        """
        found: list[tuple[str, float]] = []
        for prefix, handle in self._parts:
            hits = self._hits(handle, query, k)
            distances = np.array([hit.metadata.distance for hit in hits], np.float32)
            if self.settings.by_dot:
                scores = -distances
            else:
                length = np.linalg.norm(query) if self.settings.metric == "dot" else np.float32(1)
                scores = (1 - distances) * length
            ids = [prefix + object_id(hit, self.id_property) for hit in hits]
            found += zip(ids, scores.tolist(), strict=True)
        return in_order(found, k)

    def _hits(self, handle: Any, query: np.ndarray, k: int) -> list[Any]:
        """The client's objects nearest to a query, some more than k."""

        def search() -> list[Any]:
            return list(
                handle.query.near_vector(
                    query,
                    limit=min(k + _TIES, self.most),
                    target_vector=self.vector if self.named else None,
                    return_properties=self._asked,
                    return_metadata=MetadataQuery(distance=True),
                ).objects
            )

        what = f"search {self.name}"
        try:
            return self.server.ask(what, search)
        except TooLarge as error:
            if not error.most:
                raise
            self._limit = error.most
        if k > self._limit:
            raise UnsupportedVectors(
                f"k is {k} and the server's QUERY_MAXIMUM_RESULTS is {self._limit}: ask for fewer, "
                "or raise it"
            )
        return self.server.ask(what, search)

    def is_compressed(self) -> bool:
        """Whether the server searches compressed codes."""
        nodes = self.server.ask(
            f"read the state of {self.name}",
            lambda: self.server.client.cluster.nodes(collection=self.name, output="verbose"),
        )
        return all(shard.compressed for node in nodes for shard in node.shards)

    def queued(self) -> int:
        """Number of vectors that wait for the index, on all nodes; at least 1 until ready."""
        nodes = self.server.client.cluster.nodes(collection=self.name, output="verbose")
        ours = set(self._parts.tenants)  # each has a shard
        shards = [
            shard for shard in self._handle.config.get_shards() if not ours or shard.name in ours
        ]
        waiting = sum(
            shard.vector_queue_length or 0
            for node in nodes
            for shard in node.shards
            if not ours or shard.name in ours
        )
        waiting += sum(shard.vector_queue_size or 0 for shard in shards)
        return waiting + any(shard.status == "INDEXING" for shard in shards)

    def is_indexed(self) -> bool:
        """Whether no vector is queued for indexing, on any node."""
        return not self.queued()

    def wait_until_indexed(self) -> None:
        """Wait, with a bar, until no vector is queued. Raises ServerFailed after `patience`."""
        what = f"index {self.name}"
        try:
            left = self.server.ask(what, self.queued)
        except NotAllowed:  # the key may search, and not see the nodes
            console.warn(f"the key may not see whether {self.name} is indexed: it is taken as such")
            return
        if not left:
            return

        def ready() -> bool:
            nonlocal left
            now = self.queued()
            advance(max(0, left - now))
            left = now
            return not now

        with progress(f"waiting for Weaviate to {what}", left, "vectors") as advance:
            self.server.wait(what, ready, self.settings.patience)

    def settle(self, count: int) -> None:
        """Wait until every vector is indexed and, with compression, every code."""
        patience = self.settings.patience
        self.server.wait(f"index {self.name}", self.is_indexed, patience)
        if self.settings.codes in ("pq", "sq"):  # these are trained on the imported vectors
            config = Reconfigure.VectorIndex.hnsw(quantizer=training_of(self.settings, count))
            self.server.ask(
                f"quantize {self.name}",
                lambda: self._handle.config.update(
                    vector_config=Reconfigure.Vectors.update(
                        name=self.vector, vector_index_config=config
                    )
                ),
            )
        if self.settings.codes:
            self.server.wait(
                f"quantize {self.name}",
                lambda: self.is_indexed() and self.is_compressed(),
                patience,
            )

    def same(self, stored: np.ndarray, sent: np.ndarray) -> bool:
        """Whether two vectors, float32 [dimension], are equal under the collection's distance."""
        if stored.shape == sent.shape and not self.settings.by_dot:
            # Servers may normalise vectors that they compare by cosine.
            stored, sent = (v / max(np.linalg.norm(v), 1e-30) for v in (stored, sent))
        return stored.shape == sent.shape and np.allclose(stored, sent, rtol=1e-4, atol=1e-6)


def asked(properties: Sequence[str]) -> list[Any]:
    """Properties as the client is asked for them; `meta.source` is a nested one."""
    tree: dict[str, list[str]] = {}
    for name in properties:
        head, _, rest = name.partition(".")
        tree.setdefault(head, []).extend([rest] if rest else [])
    return [
        QueryNested(name=head, properties=asked(rest)) if rest else head
        for head, rest in tree.items()
    ]


def object_id(stored: Any, id_property: str | None) -> str:
    """The value of the id property; the UUID if that is empty or None."""
    value = text_of(value_at(stored.properties, id_property)) if id_property else None
    return str(stored.uuid) if value in (None, "") else str(value)


def one_of(name: str, values: Sequence[Any]) -> Any:
    """A filter for objects whose property has one of the values."""
    return Filter.by_property(name).contains_any(list(values))
