"""What a Weaviate collection takes: disk as it lies, memory by its layout.

The server counts no collection's memory, so it is added up from what its source (version 1.38)
keeps for each vector, and held against the live heap of a server with 50,000 vectors of 384
dimensions. The process takes more: its collector may let the heap grow to twice what is live, an
import leaves buffers behind, and files that were read stay in the page cache.

No Weaviate client is needed here.
"""

from __future__ import annotations

import os
from pathlib import Path

from tercet.core.schema import Size
from tercet.retrieval.weaviate.settings import WeaviateSettings

NOTE = "memory is an estimate from Weaviate's layout: what is live, without the collector's room"

_COLLECTION = 1_500_000  # without a vector: its stores' buffers and page tables
_SLICE = 24  # Go's header of a vector or code
_NODE = 120  # a node's pointer, lock, level and the headers of its links
_FRESH = (
    50  # HFresh, a vector: its id in four postings, a version, its part of the centroids' graph
)


def size(settings: WeaviateSettings, name: str, count: int, dimension: int) -> Size:
    """Of `count` vectors in a collection of that name.

    Disk is measured if WEAVIATE_DATA_PATH names the server's data folder on this machine and the
    collection is in it: objects, vectors, index and logs, allocated blocks.
    """
    return Size(memory=memory(settings, count, dimension), disk=_disk(name), note=NOTE)


def memory(settings: WeaviateSettings, count: int, dimension: int) -> int:
    """Bytes that the server keeps in memory; what it reads from disk as it needs it is not in it.

    A graph keeps its nodes and, for each, a vector or the code that is searched in its place; a
    flat index its codes alone; HFresh what leads to its postings. Product quantization has its
    table of distances between centroids besides.
    """
    each = _FRESH
    if settings.structure != "hfresh":
        held = settings.codes or ("vectors" if settings.structure == "hnsw" else "")
        each = _SLICE + _held(settings, dimension)[held] if held else 0
        each += _linked(settings, count) if settings.structure == "hnsw" else 0
    tables = 4 * 256**2 * _held(settings, dimension)["pq"] if settings.codes == "pq" else 0
    return _COLLECTION + tables + count * each


def _held(settings: WeaviateSettings, dimension: int) -> dict[str, int]:
    """Bytes of a vector, and of the codes that stand for it."""
    blocks = -(-dimension // 64)
    return {
        "vectors": 4 * dimension,
        "pq": settings.segments or _segments(dimension),
        "rq": 64 * blocks + 16,
        "sq": dimension + 8,
        "bq": 8 * blocks,
    }


def _linked(settings: WeaviateSettings, count: int) -> int:
    """A node of the graph. Of the links that it may have it keeps about half: max_connections."""
    link = 2 if count <= 1 << 16 else 3 if count <= 1 << 24 else 4
    return _NODE + link * settings.max_connections


def _segments(dimension: int) -> int:
    """The server's own choice of product quantization's segments."""
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
            except FileNotFoundError:  # the server merges its files as it likes
                continue
    return total
