"""An index of vectors on a Weaviate server.

Each `build` writes a new collection and keeps the older ones: a search service stays unchanged
until its alias is pointed at the new collection. All writes are counted, and a sample is read back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

import numpy as np

from tercet.config.index import WeaviateKind
from tercet.core.extras import missing
from tercet.core.mapped import Vectors
from tercet.core.schema import InputError, ModelStamp, Ranking, Size, UnsupportedVectors
from tercet.retrieval.validation import check_k, check_queries, check_vectors
from tercet.retrieval.vector_files import cosines
from tercet.retrieval.weaviate.alias import collection_behind
from tercet.retrieval.weaviate.client import WeaviateServer, weaviate_name
from tercet.retrieval.weaviate.collection import DEFAULT_VECTOR, ID_PROPERTY, Collection
from tercet.retrieval.weaviate.deployments import Deployment, Records, now, publish
from tercet.retrieval.weaviate.failures import Lost, ServerFailed, WeaviateError
from tercet.retrieval.weaviate.settings import WeaviateSettings, check_fit
from tercet.retrieval.weaviate.size import size as index_size

try:
    from weaviate.util import generate_uuid5
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

#: Imports and searches that a server may interrupt by going away.
_TRIES = 5
#: Least cosine of a stored vector with the same text's, encoded in another batch.
_SAME = 0.98


class WeaviateIndex:
    """A `ServedIndex` on a Weaviate server. Use it as a context manager, or close it.

    Scores are dot products, or cosines with metric "cosine".
    """

    def __init__(self, server: WeaviateServer, settings: WeaviateSettings) -> None:
        self.server = server
        self.settings = settings
        self.collection: Collection | None = None
        self._built_from: tuple[Sequence[str], Vectors] | None = None

    @classmethod
    def connect(
        cls,
        kind: WeaviateKind = "hnsw",
        *,
        url: str | None = None,
        grpc_url: str | None = None,
        api_key: str | None = None,
        **settings: Any,
    ) -> WeaviateIndex:
        """Connect as `WeaviateServer.connect`; `settings` are fields of WeaviateSettings.

        Raises InputError for a server that is unreachable, refuses the key or is too old.
        """
        chosen = WeaviateSettings(kind=kind, **settings)
        index = cls(WeaviateServer.connect(url, grpc_url, api_key), chosen)
        try:
            index.server.need(kind)
        except BaseException:
            index.close()
            raise
        return index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kind, metric = self.settings.kind, self.settings.metric
        return f"WeaviateIndex({self.server.url!r}, {kind=}, {metric=}, {self.collection_name!r})"

    @property
    def collection_name(self) -> str | None:
        """Name of the collection that is searched; None before `build`."""
        return None if self.collection is None else self.collection.name

    def close(self) -> None:
        """Close the connection; the collections stay."""
        self.server.close()

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """As `Index.build`, into a new collection, which is searched from now on.

        Older collections stay until they are dropped. After an error the new collection is dropped
        and the index is unchanged. Also raises RefusedPassages and WeaviateError.
        """
        checked = check_vectors(ids, vectors)
        check_fit(self.settings, checked)
        self.collection = self._filled(ids, checked)
        self._built_from = ids, vectors

    def _filled(self, ids: Sequence[str], vectors: Vectors) -> Collection:
        """A new collection of the passages; begun anew if the server goes away meanwhile."""
        for _ in range(_TRIES):
            name = f"{weaviate_name(self.settings.collection)}_{uuid.uuid4().hex[:12]}"
            lost = self.server.lost
            try:
                collection = Collection.create(self.server, name, self.settings)
                with suppress(Lost):
                    collection.fill(ids, vectors)
                if self.server.lost == lost:
                    return collection
                self.server.tell(f"  Weaviate went away: {name} is written anew")
                self.drop(name)
            except BaseException:
                with suppress(WeaviateError):
                    self.drop(name)
                raise
        raise ServerFailed(
            f"Weaviate at {self.server.url} went away during each of {_TRIES} imports: see its log"
        )

    def try_out(self, dimension: int) -> None:
        """Create an empty collection and drop it. Raises InputError if the key may not write."""
        self.server.check_writes("the index is written to a collection of its own")

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`; `threads` queries in parallel, retried while the server is busy.

        If the server goes away meanwhile, the index is built anew and searched from the start.
        """
        check_k(k)
        for _ in range(_TRIES):
            lost = self.server.lost
            rankings = self._search(vectors, k)
            if self.server.lost == lost or not self._built_from:
                return rankings
            damaged = self.collection_name
            self.server.tell(f"  Weaviate went away: {damaged} may lack passages, built anew")
            self.build(*self._built_from)
            if damaged:
                self.server.drop(damaged)
        raise ServerFailed(
            f"Weaviate at {self.server.url} went away during each of {_TRIES} searches: see its log"
        )

    def _search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        collection = self.collection
        if collection is None:
            raise InputError("the Weaviate index is empty: build it before searching")
        if k > collection.most:
            raise UnsupportedVectors(
                f"k is {k} and one query returns at most {collection.most} passages: ask for fewer"
                + (
                    ", or build with a larger rescore_limit"
                    if self.settings.kind == "hfresh"
                    else ""
                )
            )
        vectors = check_queries(vectors, collection.dimension)
        if len(vectors) == 1:  # starting threads would add to its latency
            return [collection.nearest(vectors[0], k)]
        with ThreadPoolExecutor(self.settings.threads) as pool:
            return list(pool.map(lambda query: collection.nearest(query, k), vectors))

    def size(self) -> Size:
        """As `Index.size`: memory is estimated, disk measured if the server's folder is local."""
        if self.collection is None:
            return Size(0, 0)
        name, count = self.collection.name, self.collection.count
        return index_size(self.settings, name, count, self.collection.dimension)

    def drop(self, collection: str) -> None:
        """Delete a collection if it exists. Raises InputError if an alias points at it."""
        self.server.drop(collection)
        if collection == self.collection_name:
            self.collection = None

    def discard(self) -> None:
        """Drop the collection that was built last, and close the connection."""
        if self.collection_name is not None:
            self.drop(self.collection_name)
        self._built_from = None
        self.close()

    def drop_leftovers(self) -> list[str]:
        """Drop and name the collections of this owner that no alias or record names.

        The caller makes sure that no other run of the owner is active.
        """
        prefix = f"{weaviate_name(self.settings.collection)}_"
        client = self.server.client
        found = self.server.ask("list collections", client.collections.list_all)
        aliases = self.server.ask("list aliases", client.alias.list_all)
        served = {alias.collection for alias in aliases.values()}
        served |= {entry.collection for record in Records(self.server) for entry in record.entries}
        left = [
            name
            for name, config in sorted(found.items())
            if name.startswith(prefix) and config.description == self.settings.owner
        ]
        left = [name for name in left if name not in served]
        for name in left:
            self.drop(name)
        return left

    def publish(self, alias: str, model: ModelStamp) -> None:
        """Point `alias` at the collection, record its model, and close.

        The collections that it served before stay, as `deployments.serve` keeps them.
        """
        if self.collection_name is None:
            raise InputError(f"alias {alias} needs a collection: build the index first")
        entry = Deployment(
            **asdict(model),
            collection=self.collection_name,
            vector_name=DEFAULT_VECTOR,
            distance=self.settings.metric,
            id_property=ID_PROPERTY,
            made="collection",
            time=now(),
        )
        prefix = f"{weaviate_name(self.settings.collection)}_"
        publish(self.server, alias, entry, made_by=prefix)
        self.close()

    def serves(
        self, alias: str, count: int, sample: Callable[[], tuple[Sequence[str], np.ndarray]]
    ) -> bool:
        """As `ServedIndex.serves`: objects may be deleted or changed behind an alias."""
        name = collection_behind(self.server, alias)
        if name is None or not name.startswith(f"{weaviate_name(self.settings.collection)}_"):
            return name is not None
        collection = Collection(self.server, name, self.settings)
        if collection.total() != count:
            return False
        ids, vectors = sample()
        keys = [generate_uuid5(id) for id in ids]
        found = collection.fetch(keys)
        held = [found[key].vector.get(DEFAULT_VECTOR) for key in keys if key in found]
        if len(held) < len(keys) or any(len(each or ()) != vectors.shape[1] for each in held):
            return False
        return bool((cosines(np.array(held, np.float32), vectors) >= _SAME).all())
