"""An existing collection of a search service: searched and compared, never written.

Query-side training keeps the passage vectors frozen, so evaluation can search the collection that
the service searches, while others write to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np

from tercet.core.mapped import Vectors
from tercet.core.schema import InputError, Ranking, Size, UnsupportedVectors
from tercet.retrieval.validation import check_k, check_queries, check_vectors
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.collection import SAMPLE, Collection
from tercet.retrieval.weaviate.reader import WeaviateReader
from tercet.retrieval.weaviate.settings import Metric, WeaviateSettings

_BATCH = 250  # UUIDs per request
_ADAPT = "adapt to the collection that is searched"


class LiveCollection:
    """A read-only `Index` of a Weaviate collection that anyone wrote.

    `name` is the collection's own name, also if it was opened by an alias: moving the alias changes
    no evaluation. Scores are dot products, or cosines with `metric` "cosine". `count` is the number
    of objects when it was last counted.
    """

    def __init__(
        self, reader: WeaviateReader, vector: str, id_property: str | None, threads: int
    ) -> None:
        """Use `connect`."""
        self._reader, self._owns_server = reader, False
        self.name, self.vector, self.id_property = str(reader.config.name), vector, id_property
        settings = _settings(reader.layouts[vector], f"vector {vector} of {self.name}", threads)
        self.metric: Metric = settings.metric
        self._collection = Collection(
            reader.server,
            self.name,
            settings,
            vector,
            named=vector != reader.unnamed,
            id_property=id_property,
            tenants=reader.tenants,
        )
        self.dimension = self._dimension()
        self.count = self._collection.total()
        self._sample = np.empty((0, self.dimension), np.float32)

    @classmethod
    def connect(
        cls,
        collection: str,
        *,
        vector: str | None = None,
        id_property: str | None = None,
        tenants: Sequence[str] = (),
        threads: int = 8,
        server: WeaviateServer | None = None,
    ) -> LiveCollection:
        """Open a collection by its name or an alias; searches run in `threads` threads.

        `vector` is the name of the vector, if there are several; `id_property` the property with
        the passage ids (None: `passage_id` if it exists, else the UUIDs); `tenants` are those that
        are searched, of a collection that has any, whose names begin the ids if they are several.
        Without `server`, the environment's server is used. Raises InputError for a server that does
        not answer, a missing collection, vector or property, another distance than dot product or
        cosine, and a collection without vectors.
        """
        used = server or WeaviateServer.connect()
        try:
            reader = WeaviateReader(collection, used, tenants=tenants, setting="")
            live = cls(reader, reader.vector_name(vector), reader.id_name(id_property), threads)
            live._collection.wait_until_indexed()
        except BaseException:
            if server is None:
                used.close()
            raise
        live._owns_server = server is None
        return live

    def __repr__(self) -> str:
        return f"LiveCollection({self.name!r}, vector={self.vector!r}, metric={self.metric!r})"

    @property
    def named(self) -> bool:
        """Whether the vector has a name; older collections may have one without a name."""
        return self._collection.named

    @property
    def most(self) -> int:
        """Largest number of results of one query."""
        return self._collection.most

    @property
    def tenants(self) -> list[str]:
        """The tenants that are searched; none of a collection without."""
        return self._reader.tenants

    @property
    def numbered(self) -> bool:
        """Whether the collection stores the ids as numbers."""
        return self.id_property is not None and self._reader.is_number(self.id_property)

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Check that the collection holds these passages and vectors; nothing is written.

        A fixed sample of up to 64 passages is compared, and searched with its own vectors once the
        server has indexed all of its objects; other objects are allowed. Raises InputError as
        `Index.build`, and for a collection with fewer objects, without one of these passages, with
        another vector for it, or whose index does not find them.
        """
        self._collection.wait_until_indexed()
        self.count = self._collection.total()
        if len(ids) != len(vectors) or vectors.shape[1] != self.dimension:
            raise UnsupportedVectors(
                f"vector {self.vector} of collection {self.name} has {self.dimension} dimensions, "
                f"the passages' vectors have {vectors.shape[1]}: {_ADAPT}"
            )
        if self.count < len(ids):
            raise UnsupportedVectors(
                f"collection {self.name} holds {self.count:,} objects and the corpus "
                f"{len(ids):,} passages: {_ADAPT}"
            )
        sample = np.random.default_rng(0).choice(len(ids), min(SAMPLE, len(ids)), replace=False)
        chosen = [ids[row] for row in sample]
        given = check_vectors(chosen, vectors[sample])
        for id, stored, vector in zip(chosen, self.vectors_of(chosen), given, strict=True):
            if not self._collection.same(stored, vector):
                raise UnsupportedVectors(
                    f"collection {self.name} holds another vector {self.vector} for passage "
                    f"{id!r}: {_ADAPT}"
                )
        self._sample = np.asarray(given)
        self._collection.check_finds(self._sample)

    def vectors_of(self, ids: Sequence[str]) -> np.ndarray:
        """The collection's vectors of these passages, float32 [len(ids), dimension].

        Raises InputError naming a passage that is missing or has no such vector.
        """
        keys = self._reader.find(ids, self.id_property)
        vectors = np.empty((len(ids), self.dimension), np.float32)
        for start in range(0, len(ids), _BATCH):
            block = ids[start : start + _BATCH]
            found = self._collection.fetch([keys[id] for id in block if id in keys])
            for row, id in enumerate(block, start):
                stored = found.get(keys.get(id, ""))
                if stored is None:
                    raise InputError(f"collection {self.name} has no passage {id!r}: {_ADAPT}")
                if self.vector not in stored.vector:
                    raise InputError(
                        f"collection {self.name} has no vector {self.vector} for passage {id!r}: "
                        "fill it, or name another"
                    )
                vectors[row] = stored.vector[self.vector]
        return vectors

    def search(self, vectors: Vectors, k: int) -> list[Ranking]:
        """As `Index.search`; queries run in parallel and are retried while the server is busy."""
        check_k(k)
        most = self._collection.most
        if k > most:
            raise UnsupportedVectors(
                f"k is {k} and one query returns at most {most} passages: ask for fewer"
            )
        queries = check_queries(np.asarray(vectors), self.dimension)
        server = self._reader.server
        if len(queries) > 1:  # an evaluation; others may write meanwhile
            self._collection.wait_until_indexed()
        while True:
            lost = server.lost
            rankings = self._search(queries, k)
            if server.lost == lost:
                return rankings
            server.tell(f"  Weaviate went away: {self.name} is awaited and searched again")
            self._collection.wait_until_indexed()
            self._collection.check_finds(self._sample)

    def _search(self, queries: np.ndarray, k: int) -> list[Ranking]:
        if len(queries) == 1:  # as in WeaviateIndex
            return [self._collection.nearest(queries[0], k)]
        with ThreadPoolExecutor(self._collection.settings.threads) as pool:
            return list(pool.map(lambda query: self._collection.nearest(query, k), queries))

    def size(self) -> Size:
        """As `Index.size`: unknown, because Tercet did not build it."""
        return Size(None, None, "a live collection that was not built here")

    def discard(self) -> None:
        """Close the connection if `connect` opened it; the collection stays."""
        if self._owns_server:
            self._reader.close()

    def _dimension(self) -> int:
        for page in self._reader.pages([], self.vector):
            for stored in page:
                if self.vector in stored.vector:
                    return len(stored.vector[self.vector])
        raise InputError(
            f"collection {self.name} holds no vector {self.vector}: fill it, or name another"
        )


def _settings(layout: Any, what: str, threads: int) -> WeaviateSettings:
    """Search settings of a foreign vector's layout; `what` names the vector in messages."""
    metric = layout.distance_metric.value
    if metric not in get_args(Metric):
        raise InputError(
            f"{what} compares by {metric}: name a vector that compares by dot product or cosine"
        )
    if getattr(layout, "multi_vector", None) is not None:
        raise InputError(f"{what} is several vectors for each object: name one that is one vector")
    # HFresh alone limits the results of a query; all other kinds are searched alike.
    limit = getattr(getattr(layout, "quantizer", None), "rescore_limit", None)
    return WeaviateSettings(
        kind="hfresh" if layout.vector_index_type() == "hfresh" else "hnsw",
        metric=metric,
        rescore_limit=limit if limit and limit > 0 else None,
        threads=threads,
    )
