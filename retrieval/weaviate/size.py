"""Memory and disk use of a Weaviate collection, without a Weaviate client.

The server does not report the memory of a collection. It is estimated from the structures that the
source of version 1.38 keeps per vector, checked against the live heap of a server with 50,000
vectors of 384 dimensions. The process takes more: the garbage collector may let the heap grow to
twice its live size, imports leave buffers, and files stay in the page cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from tercet.core.schema import Size
from tercet.retrieval.weaviate.settings import WeaviateSettings

_NOTE = "memory is an estimate from Weaviate's layout: the live heap, without garbage"

_COLLECTION = 1_500_000  # an empty collection: buffers and page tables of its stores
_SLICE = 24  # Go's header of a vector or code
_NODE = 120  # a graph node's pointer, lock, level and the headers of its links
_FRESH = 50  # HFresh, per vector: its id in four postings, a version, its part of the graph


def size(settings: WeaviateSettings, name: str, count: int, dimension: int) -> Size:
    """Size of the collection `name` with `count` vectors.

    Disk (allocated blocks of objects, vectors, index and logs) is measured if WEAVIATE_DATA_PATH is
    the server's data folder on this machine and has the collection.
    """
    return Size(memory=memory(settings, count, dimension), disk=_disk(name), note=_NOTE)


def memory(settings: WeaviateSettings, count: int, dimension: int) -> int:
    """Estimated bytes in the server's memory, without what it reads from disk on demand.

    A graph keeps its nodes and a vector or code for each; a flat index its codes alone; HFresh the
    graph over its postings. Product quantization adds a table of distances between centroids.
    """
    each = _FRESH
    if settings.structure != "hfresh":
        held = settings.codes or ("vectors" if settings.structure == "hnsw" else "")
        each = _SLICE + _held(settings, dimension)[held] if held else 0
        each += _linked(settings, count) if settings.structure == "hnsw" else 0
    tables = 4 * 256**2 * _held(settings, dimension)["pq"] if settings.codes == "pq" else 0
    return _COLLECTION + tables + count * each


def _held(settings: WeaviateSettings, dimension: int) -> dict[str, int]:
    """Bytes of a vector and of its codes by each compression."""
    blocks = -(-dimension // 64)
    return {
        "vectors": 4 * dimension,
        "pq": settings.segments or _segments(dimension),
        "rq": 64 * blocks + 16,
        "sq": dimension + 8,
        "bq": 8 * blocks,
    }


def _linked(settings: WeaviateSettings, count: int) -> int:
    """Bytes of a graph node, which uses about half of its 2 x max_connections links."""
    link = 2 if count <= 1 << 16 else 3 if count <= 1 << 24 else 4
    return _NODE + link * settings.max_connections


def _segments(dimension: int) -> int:
    """The server's default number of segments for product quantization."""
    for least, part in ((2048, 8), (768, 6), (256, 4), (0, 2)):
        if dimension >= least and dimension % part == 0:
            return dimension // part
    return dimension


def _disk(name: str) -> int | None:
    root = os.environ.get("WEAVIATE_DATA_PATH")
    folder = Path(root or "") / name.lower()
    if not root or not folder.is_dir():
        return None
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += 512 * os.stat(os.path.join(parent, file)).st_blocks
            except FileNotFoundError:  # the server merges files at any time
                continue
    return total
