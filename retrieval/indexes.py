"""The index that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tercet.config.index import IndexSettings
from tercet.core.console import console
from tercet.core.mapped import Vectors
from tercet.core.schema import Index, InputError, Ranking, Size
from tercet.retrieval.exact_index import ExactIndex

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.live import LiveCollection
    from tercet.retrieval.weaviate.reader import WeaviateReader

#: How far FAISS's graphs look where the recipe does not say: what they miss is the encoder's.
FAR = 512


def make_index(section: IndexSettings, collection: str, owner: str = "") -> Index:
    """A fresh, empty index; `collection` begins its name, and `owner` marks it, on a server.

    Raises InputError if its library is not installed or its server does not answer, and for a
    setting that it does not have.
    """
    _check(section)
    # Each of these libraries is an extra, and not needed for the others.
    if section.backend == "faiss":
        from tercet.retrieval.faiss_index import FaissIndex

        ef = section.ef or (FAR if "HNSW" in section.factory else None)
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
            index.server.need("aliases")  # to publish the best model's collection when all is done
        except InputError:
            index.close()
            raise
        return index
    return ExactIndex()


def open_live(section: IndexSettings) -> LiveCollection:
    """The collection that a recipe names, as it stands. Raises InputError as `make_index` does."""
    from tercet.retrieval.weaviate.live import LiveCollection

    return LiveCollection.connect(
        section.collection or "", vector=section.vector, id_property=section.id
    )


def read_collection(name: str) -> WeaviateReader:
    """A reader of a Weaviate collection. Raises InputError as `make_index` does."""
    from tercet.retrieval.weaviate.reader import WeaviateReader

    return WeaviateReader(name)


def drop_leftovers(index: Index) -> None:
    """Drop what a killed run of this index's owner left on a server, and let the index go."""
    if dropped := index.drop_leftovers():
        console.print(f"[yellow]dropped[/] {', '.join(dropped)}: left by a run that was killed")
    index.discard()


def describe_faiss(section: IndexSettings) -> str:
    """FAISS's string, and how far it looks, whether the recipe says so or not."""
    from tercet.retrieval.faiss_index import NPROBE

    parts = [section.factory]
    if "HNSW" in section.factory:
        parts.append(f"ef {section.ef or FAR}")
    if "IVF" in section.factory:
        parts.append(f"nprobe {section.nprobe or NPROBE}")
    return ", ".join(parts)


def _check(section: IndexSettings) -> None:
    """What is set, and would change nothing, is refused: figures would seem to be of it."""
    graph = {
        "faiss": "HNSW" in section.factory,
        "weaviate": section.kind.startswith("hnsw"),
        "exact": False,
    }
    lists = section.backend == "faiss" and "IVF" in section.factory
    has_none = (None, False)
    for name, has in (("ef", graph[section.backend]), ("nprobe", lists), ("on_disk", lists)):
        if getattr(section, name) not in has_none and not has:
            kinds = {"faiss": section.factory, "weaviate": section.kind, "exact": "search"}
            what = f"{section.backend} {kinds[section.backend]}"
            raise InputError(f"index: {what} has no {name}: leave it out")


class SharedIndex:
    """An `Index` around another: whoever is done with it leaves it to the next.

    `discard` is for those who think that it is theirs, and does nothing: what a run leaves on a
    server without having published it, the next one drops.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._filled = False

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """As `Index.build`, the first time."""
        if not self._filled:
            self._index.build(ids, vectors)
            self._filled = True

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`."""
        return self._index.search(vectors, k)

    def size(self) -> Size:
        """As `Index.size`."""
        return self._index.size()

    def discard(self) -> None:
        """Nothing: the vectors will be searched again."""

    def drop_leftovers(self) -> list[str]:
        """As `Index.drop_leftovers`."""
        return self._index.drop_leftovers()

    def publish(self, alias: str) -> None:
        """As `Index.publish`."""
        self._index.publish(alias)

    def serves(self, alias: str) -> bool:
        """As `Index.serves`."""
        return self._index.serves(alias)
