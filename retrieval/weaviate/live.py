"""A collection that serves a search service as it stands: searched, compared, and never written.

Where training changes queries alone, the passages' vectors stay as they are, so every evaluation
can ask the very collection that the service asks, and others may go on writing it.
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

_BATCH = 250  # objects by their UUIDs in a request
_ADAPT = "adapt to the collection that is searched"


class LiveCollection:
    """An `Index` of a Weaviate collection that anyone wrote; nothing is ever written to it.

    `name` is the collection's own, also where an alias was given: pointing the alias elsewhere
    changes no evaluation. A score is the dot product or, with `metric` "cosine", the cosine.
    `count` is the number of objects when it was last looked at.
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
        )
        self.dimension = self._dimension()
        self.count = self._collection.total()

    @classmethod
    def connect(
        cls,
        collection: str,
        *,
        vector: str | None = None,
        id_property: str | None = None,
        threads: int = 8,
        server: WeaviateServer | None = None,
    ) -> LiveCollection:
        """Reaches a collection by its name or an alias; `threads` queries are asked at once.

        `vector` names the vector, where there are several; `id_property` what holds the passages'
        ids: without it `passage_id` if there is one, else the objects' UUIDs. Without `server`, the
        environment says where it is. Raises InputError for a server that does not answer, a
        collection, vector or property that is not there, vectors that are compared neither by dot
        product nor by cosine, and a collection without any.
        """
        used = server or WeaviateServer.connect()
        try:
            reader = WeaviateReader(collection, used, setting="")
            live = cls(reader, reader.vector_name(vector), reader.id_name(id_property), threads)
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
        """Whether a query must name the vector: older collections have one without a name."""
        return self._collection.named

    @property
    def most(self) -> int:
        """The most passages that one query returns."""
        return self._collection.most

    @property
    def numbered(self) -> bool:
        """Whether the passages' ids are numbers there."""
        return self.id_property is not None and self._reader.is_number(self.id_property)

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Writes nothing: makes sure that the collection holds these passages and vectors.

        Up to 64 of them, the same each time, are read and compared; objects of other ids are well.
        Raises InputError as Index does, and for a collection with fewer objects, without one of
        these passages, or with another vector for it.
        """
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

    def vectors_of(self, ids: Sequence[str]) -> np.ndarray:
        """The vectors that the collection holds for these passages, float32 [len(ids), dimension].

        Raises InputError naming a passage that is not there, or has no such vector.
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
        """As Index.search; several queries at once, each tried again while the server is busy."""
        check_k(k)
        most = self._collection.most
        if k > most:
            raise UnsupportedVectors(
                f"k is {k} and one query returns at most {most} passages: ask for fewer"
            )
        queries = check_queries(np.asarray(vectors), self.dimension)
        if len(queries) == 1:  # no threads to start, as in WeaviateIndex
            return [self._collection.nearest(queries[0], k)]
        with ThreadPoolExecutor(self._collection.settings.threads) as pool:
            return list(pool.map(lambda query: self._collection.nearest(query, k), queries))

    def size(self) -> Size:
        """As Index.size: not known, as it was laid out by someone else."""
        return Size(None, None, "a live collection that was not built here")

    def discard(self) -> None:
        """Lets the connection go, if `connect` opened it; the collection stays as it is."""
        if self._owns_server:
            self._reader.close()

    def drop_leftovers(self) -> list[str]:
        """As Index.drop_leftovers: nothing was written that could be left."""
        return []

    def publish(self, alias: str) -> None:
        """Nothing to do: the collection keeps its name, and whoever asks for it goes on to."""

    def serves(self, alias: str) -> bool:
        """As Index.serves: the collection is asked for by its own name."""
        return True

    def _dimension(self) -> int:
        for stored in next(self._reader.pages([], self.vector), []):
            if self.vector in stored.vector:
                return len(stored.vector[self.vector])
        raise InputError(
            f"collection {self.name} holds no vector {self.vector}: fill it, or name another"
        )


def _settings(layout: Any, what: str, threads: int) -> WeaviateSettings:
    """How a vector that others laid out is searched; `what` names it in messages."""
    metric = layout.distance_metric.value
    if metric not in get_args(Metric):
        raise InputError(
            f"{what} compares by {metric}: name a vector that compares by dot product or cosine"
        )
    if getattr(layout, "multi_vector", None) is not None:
        raise InputError(f"{what} is several vectors for each object: name one that is one vector")
    # Of the kinds, HFresh alone bounds what a query returns; any other is searched as any other.
    limit = getattr(getattr(layout, "quantizer", None), "rescore_limit", None)
    return WeaviateSettings(
        kind="hfresh" if layout.vector_index_type() == "hfresh" else "hnsw",
        metric=metric,
        rescore_limit=limit if limit and limit > 0 else None,
        threads=threads,
    )
