"""The sections that name an index."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tercet.config.parsing import key

#: Weaviate's index kinds that passages can be streamed into.
IngestKind = Literal["hnsw", "hnsw+pq", "hnsw+rq", "hnsw+sq", "hnsw+bq", "flat", "flat+bq"]
#: All of Weaviate's index kinds; `tercet.retrieval.weaviate.settings.KINDS` describes each.
WeaviateKind = Literal[IngestKind, "hfresh"]

#: The value of `id` that selects the objects' UUIDs.
UUIDS = "uuid"

#: Keys of an index that already holds the passages' vectors.
_LIVE = ("collection", "vector", "id")


@dataclass(frozen=True)
class IndexSettings:
    """A kind of index, and how it is searched."""

    backend: Literal["exact", "faiss", "weaviate"] = key("exact", "exact runs in the process")
    kind: WeaviateKind = key("hnsw", "Weaviate's index, and its compression")
    metric: Literal["dot", "cosine"] = key("dot", "Weaviate's distance")
    factory: str = key(
        "HNSW32", "FAISS's index_factory string; {lists} in it becomes the root of the passages"
    )
    ef: int | None = key(None, "how far HNSW looks, FAISS's or Weaviate's; unset: far", low=1)
    nprobe: int | None = key(None, "inverted lists that FAISS reads a query; unset: 32", low=1)
    on_disk: bool = key(
        False, "FAISS's inverted lists in a file, for more vectors than memory holds (IVF…)"
    )
    collection: str | None = key(
        None,
        "Weaviate collection or alias that holds the passages' vectors already and is searched as "
        "it stands (model.train query_encoder or query_adapter)",
    )
    vector: str | None = key(None, "its named vector; unset: the only one")
    id: str | None = key(
        None, "its property with the passages' ids, or uuid; unset: passage_id, else the UUID"
    )

    def settings(self) -> dict[str, Any]:
        """The settings that results depend on; a collection's keys only where they are set."""
        found = {k: v for k, v in asdict(self).items() if k != "alias"}
        return {k: v for k, v in found.items() if k not in _LIVE or v is not None}


@dataclass(frozen=True)
class IndexSection(IndexSettings):
    """Where evaluation searches."""

    alias: str | None = key(None, "Weaviate alias of the best model; unset: from the run's name")


@dataclass(frozen=True)
class ComparedIndex(IndexSettings):
    """One index of eval.py's table."""

    name: str = key("", "its name in the table; unset: made from its settings")

    @property
    def label(self) -> str:
        """Its name in the table."""
        kinds = {"exact": "exact", "faiss": f"faiss {self.factory}"}
        weaviate = f"weaviate {self.collection or self.kind}"
        return self.name or kinds.get(self.backend, weaviate)
