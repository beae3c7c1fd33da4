"""Settings of indexes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tercet.config.parsing import key, plugin_options

#: Weaviate's index kinds that passages can be streamed into.
IngestKind = Literal["hnsw", "hnsw+pq", "hnsw+rq", "hnsw+sq", "hnsw+bq", "flat", "flat+bq"]
#: All of Weaviate's index kinds; `tercet.retrieval.weaviate.settings.KINDS` describes each.
WeaviateKind = Literal[IngestKind, "hfresh"]

#: Value of `id` for the UUIDs of the objects.
UUIDS = "uuid"

# Keys of an existing collection, and of a plug-in.
_IF_SET = ("collection", "vector", "id", "tenant", "options")


@dataclass(frozen=True)
class IndexSettings:
    """An index and its search settings."""

    backend: Literal["exact", "faiss", "weaviate"] | str = key(
        "exact",
        "exact: brute force, in process; or a plug-in, package.module:Name",
        plugin="indexes",
    )
    options: dict[str, Any] = plugin_options()
    kind: WeaviateKind = key("hnsw", "Weaviate's index type and compression")
    metric: Literal["dot", "cosine"] = key("dot", "distance in Weaviate")
    factory: str = key(
        "HNSW32", "FAISS's index_factory string; {lists} becomes the root of the passage count"
    )
    ef: int | None = key(None, "HNSW's search queue (FAISS, Weaviate); unset: large", low=1)
    nprobe: int | None = key(None, "inverted lists per query (FAISS); unset: 32", low=1)
    on_disk: bool = key(
        False, "keep inverted lists in a file, for more vectors than memory holds (FAISS IVF…)"
    )
    collection: str | None = key(
        None,
        "existing Weaviate collection or alias with the passage vectors, never written "
        "(model.train query_encoder or query_adapter)",
    )
    vector: str | None = key(None, "named vector of `collection`; unset: the only one")
    id: str | None = key(
        None, "property of `collection` with the ids, or uuid; unset: passage_id, else the UUID"
    )

    tenant: list[str] = key(
        list, "tenant of `collection`, or several that are searched as one", one=True
    )

    def settings(self) -> dict[str, Any]:
        """The keys that results depend on; some only if set."""
        found = {k: v for k, v in asdict(self).items() if k != "alias"}
        return {k: v for k, v in found.items() if k not in _IF_SET or v not in (None, {}, [])}


@dataclass(frozen=True)
class IndexSection(IndexSettings):
    """The index that evaluation searches."""

    alias: str | None = key(
        None, "Weaviate alias of the adapted model's collection; unset: from the run's name"
    )


@dataclass(frozen=True)
class ComparedIndex(IndexSettings):
    """One index of `tercet eval`'s table."""

    name: str = key("", "name in the table; unset: from its settings")

    @property
    def label(self) -> str:
        """Name in the table."""
        kinds = {"exact": "exact", "faiss": f"faiss {self.factory}"}
        kinds["weaviate"] = f"weaviate {self.collection or self.kind}"
        return self.name or kinds.get(self.backend, self.backend.rpartition(":")[2])
