"""The configuration of a collection's vector index on the server."""

from __future__ import annotations

from typing import Any

from tercet.core.extras import missing
from tercet.retrieval.weaviate.settings import WeaviateSettings

try:
    from weaviate.classes.config import Configure, Reconfigure, VectorDistances
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error


def layout_of(settings: WeaviateSettings) -> Any:
    """The configuration of an empty vector index."""
    index, limit = Configure.VectorIndex, settings.rescored
    distance = VectorDistances.DOT if settings.by_dot else VectorDistances.COSINE
    quantizers = {
        "rq": lambda: index.Quantizer.rq(bits=8, rescore_limit=limit),
        # Without the cache each query would read all codes from disk.
        "bq": lambda: index.Quantizer.bq(
            cache=True if settings.structure == "flat" else None, rescore_limit=limit
        ),
    }
    # "none" is explicit because a server may compress by default. PQ and SQ are switched on after
    # the import, when they can be trained.
    quantizer = quantizers.get(settings.codes, index.Quantizer.none)()
    if settings.structure == "flat":
        return index.flat(distance_metric=distance, quantizer=quantizer)
    if settings.structure == "hfresh":
        return index.hfresh(
            distance_metric=distance,
            search_probe=settings.search_probe,
            quantizer=index.Quantizer.rq(bits=1, rescore_limit=limit),
        )
    return index.hnsw(
        distance_metric=distance,
        ef=settings.ef,
        ef_construction=settings.ef_construction,
        max_connections=settings.max_connections,
        quantizer=quantizer,
    )


def training_of(settings: WeaviateSettings, count: int) -> Any:
    """The quantizer to train on `count` vectors."""
    quantizer = Reconfigure.VectorIndex.Quantizer
    # The server trains once it holds more vectors than the limit, hence count - 1.
    limit = min(settings.training_limit, count - 1)
    if settings.codes == "sq":
        return quantizer.sq(rescore_limit=settings.rescored, training_limit=limit)
    return quantizer.pq(
        centroids=min(256, count - 1), segments=settings.segments, training_limit=limit
    )
