"""Vectors on a live Weaviate server.

Each `build` writes a new collection and keeps the older ones, so a running service is unaffected
until an alias is moved to the new one. Everything written is counted and sampled back.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self

import numpy as np

from tercet.config.index import WeaviateKind
from tercet.core.mapped import Vectors
from tercet.core.schema import InputError, Ranking, Size, UnsupportedVectors
from tercet.retrieval.validation import check_k, check_queries, check_vectors
from tercet.retrieval.weaviate.client import (
    WeaviateError,
    WeaviateServer,
    check_name,
    weaviate_name,
)
from tercet.retrieval.weaviate.collection import Collection
from tercet.retrieval.weaviate.settings import WeaviateSettings, check_fit
from tercet.retrieval.weaviate.size import size as index_size


class WeaviateIndex:
    """A `ServedIndex` on a Weaviate server. Use it as a context manager, or close it.

    Scores are dot products, or cosines with metric "cosine".
    """

    def __init__(self, server: WeaviateServer, settings: WeaviateSettings) -> None:
        self.server = server
        self.settings = settings
        self.collection: Collection | None = None

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
        """Connects to a server; `settings` are WeaviateSettings' fields.

        Arguments that are None come from the environment, as in `WeaviateServer.connect`. Raises
        InputError for a server that is unreachable, refuses the key or is too old.
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
        """The collection that is searched; None before `build`."""
        return None if self.collection is None else self.collection.name

    def close(self) -> None:
        """Closes the connection; the collections stay."""
        self.server.close()

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """As `Index.build`, into a new collection, which is searched from now on.

        Older collections stay until `drop`. On failure the new one is dropped and the index is
        unchanged. Raises RefusedPassages, WeaviateError, and as Index does.
        """
        vectors = check_vectors(ids, vectors)
        check_fit(self.settings, vectors)
        name = f"{weaviate_name(self.settings.collection)}_{uuid.uuid4().hex[:12]}"
        try:
            collection = Collection.create(self.server, name, self.settings)
            collection.fill(ids, vectors)
        except BaseException:
            with suppress(WeaviateError):
                self.drop(name)
            raise
        self.collection = collection

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`; `threads` queries in parallel, retried while the server is busy."""
        check_k(k)
        collection = self.collection
        if collection is None:
            raise InputError("the Weaviate index is empty: build it first")
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
        if len(vectors) == 1:  # starting a thread would add latency
            return [collection.nearest(vectors[0], k)]
        with ThreadPoolExecutor(self.settings.threads) as pool:
            return list(pool.map(lambda query: collection.nearest(query, k), vectors))

    def size(self) -> Size:
        """As Index.size: memory is estimated, disk measured if the server's folder is local."""
        if self.collection is None:
            return Size(0, 0)
        name, count = self.collection.name, self.collection.count
        return index_size(self.settings, name, count, self.collection.dimension)

    def drop(self, collection: str) -> None:
        """Deletes a collection if it exists. Raises InputError if an alias points at it."""
        self.server.drop(collection)
        if collection == self.collection_name:
            self.collection = None

    def discard(self) -> None:
        """Drops the collection that was built last and closes the connection."""
        if self.collection_name is not None:
            self.drop(self.collection_name)
        self.close()

    def drop_leftovers(self) -> list[str]:
        """Drops the collections left by a killed run of this owner, except those with an alias.

        Returns their names. The caller ensures that no other run of this owner is active.
        """
        prefix = f"{weaviate_name(self.settings.collection)}_"
        client = self.server.client
        found = self.server.ask("list collections", client.collections.list_all)
        aliases = self.server.ask("list aliases", client.alias.list_all)
        served = {alias.collection for alias in aliases.values()}
        left = [
            name
            for name, config in sorted(found.items())
            if name.startswith(prefix) and config.description == self.settings.owner
        ]
        left = [name for name in left if name not in served]
        for name in left:
            self.drop(name)
        return left

    def publish(self, alias: str) -> None:
        """Points `alias` at the collection and drops the Tercet collection it pointed at before.

        The connection is closed: later searches go through the alias.
        """
        if self.collection_name is None:
            raise InputError(f"there is no collection for alias {alias}: build the index first")
        before = self.resolve(alias)
        self.set_alias(alias, self.collection_name)
        prefix = f"{weaviate_name(self.settings.collection)}_"
        if before not in (None, self.collection_name) and before.startswith(prefix):
            with suppress(InputError):  # another alias points at it
                self.drop(before)
        self.close()

    def serves(self, alias: str) -> bool:
        """Whether `alias` points at a collection on the server."""
        return self.resolve(alias) is not None

    def set_alias(self, alias: str, collection: str) -> None:
        """Points `alias` at a collection in one step, creating the alias if needed."""
        self.server.need("aliases")
        check_name(alias)
        what, aliases = f"point alias {alias} at {collection}", self.server.client.alias
        if self.resolve(alias) is None:
            self.server.ask(
                what,
                lambda: aliases.create(alias_name=alias, target_collection=collection),
                again=False,
            )
        else:
            self.server.ask(
                what, lambda: aliases.update(alias_name=alias, new_target_collection=collection)
            )

    def resolve(self, alias: str) -> str | None:
        """The collection that an alias points at; None if there is no such alias."""
        self.server.need("aliases")
        found = self.server.ask(
            f"read alias {alias}", lambda: self.server.client.alias.get(alias_name=alias)
        )
        return None if found is None else str(found.collection)
