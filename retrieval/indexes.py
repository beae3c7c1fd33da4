"""Make the index of a recipe, share it, and publish it under an alias."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from tercet.config.index import IndexSettings
from tercet.core import plugins
from tercet.core.console import console
from tercet.core.mapped import Vectors
from tercet.core.schema import Index, InputError, ModelStamp, Ranking, ServedIndex, Size
from tercet.retrieval.exact_index import ExactIndex

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.deployments import Deployment
    from tercet.retrieval.weaviate.live import LiveCollection
    from tercet.retrieval.weaviate.reader import WeaviateReader

#: Default search queue of FAISS's graphs: so large that misses are the encoder's.
_EF = 512


def make_index(section: IndexSettings, collection: str, owner: str = "") -> Index:
    """A new, empty index. On a server its name begins with `collection` and `owner` is stored.

    Raises InputError if its library is not installed, its server does not answer, or it does not
    have a given setting.
    """
    _check(section)
    # Each of these libraries is an extra.
    if section.backend == "faiss":
        from tercet.retrieval.faiss_index import FaissIndex

        ef = section.ef or (_EF if "HNSW" in section.factory else None)
        return FaissIndex(
            section.factory, nprobe=section.nprobe, ef_search=ef, on_disk=section.on_disk
        )
    if section.backend == "weaviate" and section.collection:
        return open_live(section)
    if section.backend == "weaviate":
        from tercet.retrieval.weaviate.index import WeaviateIndex

        given: dict[str, Any] = {} if section.ef is None else {"ef": section.ef}
        index = WeaviateIndex.connect(
            kind=section.kind,
            metric=section.metric,
            collection=collection,
            owner=owner,
            **given,
        )
        try:
            index.server.need("aliases")  # to publish the adapted model's collection
        except InputError:
            index.close()
            raise
        return index
    if section.backend == "exact":
        return ExactIndex()
    return plugins.make("indexes", section.backend, section.options)


def try_out(index: Index, dimension: int) -> None:
    """Refuse, before any work, what an index would fail at when it is built; then discard it.

    `dimension` is that of the vectors, 0 where it is not known. Raises InputError.
    """
    try:
        attempt = getattr(index, "try_out", None)
        if attempt is not None:
            attempt(dimension)
    finally:
        index.discard()


def open_live(section: IndexSettings) -> LiveCollection:
    """The existing collection of a recipe. Raises InputError as `make_index` does."""
    from tercet.retrieval.weaviate.live import LiveCollection

    return LiveCollection.connect(
        section.collection or "",
        vector=section.vector,
        id_property=section.id,
        tenants=section.tenant,
    )


def deployed(collection: str, vector: str | None, model: str, model_name: str) -> Deployment | None:
    """What a name serves to a model of this weights' digest; None if nothing is recorded of it.

    Raises InputError if it serves another model, and as `make_index` does.
    """
    from tercet.retrieval.weaviate.client import WeaviateServer
    from tercet.retrieval.weaviate.deployments import served_place

    server = WeaviateServer.connect()
    try:
        return served_place(server, collection, vector, model, model_name)
    finally:
        server.close()


def read_collection(
    name: str, tenants: Sequence[str] = (), setting: str = "corpus.path"
) -> WeaviateReader:
    """A reader of a Weaviate collection and its tenants, if it has any; `setting` names it.

    Raises InputError as `make_index` does.
    """
    from tercet.retrieval.weaviate.reader import WeaviateReader

    return WeaviateReader(name, tenants=tenants, setting=setting)


def drop_leftovers(index: Index) -> None:
    """Delete the collections that killed runs of this owner left; then discard the index."""
    if isinstance(index, ServedIndex) and (dropped := index.drop_leftovers()):
        names = ", ".join(dropped)
        console.print(Text("dropped", "yellow"), f"{names}: left by a run that was killed")
    index.discard()


def publish(index: Index, alias: str, model: Callable[[], ModelStamp]) -> None:
    """Point `alias` at an index on a server, stamped `model`; discard an index that has no name."""
    inner = index.inner if isinstance(index, SharedIndex) else index
    if isinstance(inner, ServedIndex):
        inner.publish(alias, model())
    else:
        index.discard()


def is_published(
    index: Index, alias: str, count: int, sample: Callable[[], tuple[Sequence[str], np.ndarray]]
) -> bool:
    """As `ServedIndex.serves`; true for an index that has no name."""
    return not isinstance(index, ServedIndex) or index.serves(alias, count, sample)


def describe_faiss(section: IndexSettings) -> str:
    """FAISS's factory string with the search settings, defaults included."""
    from tercet.retrieval.faiss_index import NPROBE

    parts = [section.factory]
    if "HNSW" in section.factory:
        parts.append(f"ef {section.ef or _EF}")
    if "IVF" in section.factory:
        parts.append(f"nprobe {section.nprobe or NPROBE}")
    return ", ".join(parts)


def _check(section: IndexSettings) -> None:
    """Refuse settings without effect: results would be attributed to them."""
    graph = {
        "faiss": "HNSW" in section.factory,
        "weaviate": section.kind.startswith("hnsw"),
    }.get(section.backend, False)
    lists = section.backend == "faiss" and "IVF" in section.factory
    has_none = (None, False)
    for name, has in (("ef", graph), ("nprobe", lists), ("on_disk", lists)):
        if getattr(section, name) not in has_none and not has:
            kinds = {"faiss": section.factory, "weaviate": section.kind}
            what = f"{section.backend} {kinds.get(section.backend, 'search')}"
            raise InputError(f"index: {what} has no {name}: leave it out")


class SharedIndex:
    """An `Index` of frozen vectors that is built once and searched by all steps of a run.

    `discard` does nothing; a collection that a run did not publish is dropped by the next run.
    """

    def __init__(self, index: Index) -> None:
        self.inner = index
        self._filled = False

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """As `Index.build` on the first call; nothing on later calls."""
        if not self._filled:
            self.inner.build(ids, vectors)
            self._filled = True

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`."""
        return self.inner.search(vectors, k)

    def size(self) -> Size:
        """As `Index.size`."""
        return self.inner.size()

    def discard(self) -> None:
        """Nothing: the vectors will be searched again."""
