"""The index that a recipe names."""

from __future__ import annotations

from tercet.recipe import IndexSection
from tercet.retrieval.exact import ExactIndex
from tercet.schema import Index


def make_index(section: IndexSection, collection: str) -> Index:
    """A fresh, empty index; `collection` begins its name where indexes have names.

    Raises InputError if its library is not installed or its server does not answer.
    """
    # Each of these libraries is an extra, and not needed for the others.
    if section.backend == "faiss":
        from tercet.retrieval.faiss_index import FaissIndex

        return FaissIndex(section.factory)
    if section.backend == "weaviate":
        from tercet.retrieval.weaviate_index import WeaviateIndex

        index = WeaviateIndex.connect(
            kind=section.kind, metric=section.metric, collection=collection
        )
        index.need("aliases")  # to publish the best model's collection when all is done
        return index
    return ExactIndex()
