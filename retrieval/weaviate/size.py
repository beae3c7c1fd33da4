"""Memory and disk use of a Weaviate collection: disk is measured, memory estimated.

The server does not report a collection's memory. The estimate adds up what version 1.38 keeps for
each vector, and was checked against the live heap of a server with 50,000 vectors of 384
dimensions. The process uses more: Go's collector may let the heap grow to twice its live size, an
import leaves buffers behind, and files that were read stay in the page cache.

This module does not import the Weaviate client.
"""

from __future__ import annotations

import os
from pathlib import Path

from tercet.core.schema import Size
from tercet.retrieval.weaviate.settings import WeaviateSettings

_NOTE = "memory is an estimate from Weaviate's layout: the live heap, without garbage"

_COLLECTION = 1_500_000  # an empty collection: buffers and page tables of its stores
_SLICE = 24  # Go's header of a vector or code
_NODE = 120  # a node's pointer, lock, level and the headers of its links
_FRESH = 50  # HFresh, per vector: its id in four postings, a version, a share of the centroids


def size(settings: WeaviateSettings, name: str, count: int, dimension: int) -> Size:
    """Size in bytes of collection `name` with `count` vectors.

    Disk is measured, in allocated blocks of objects, vectors, index and logs, if
    WEAVIATE_DATA_PATH names the server's data folder on this machine and the collection is in it.
    """
    return Size(memory=memory(settings, count, dimension), disk=_disk(name), note=_NOTE)


def memory(settings: WeaviateSettings, count: int, dimension: int) -> int:
    """Bytes that the server keeps in memory, without what it reads from disk on demand.

    A graph keeps its nodes and, for each, a vector or the code searched in its place; a flat index
    only its codes; HFresh the structures that lead to its postings. Product quantization adds a
    table of distances between centroids.
    """
    each = _FRESH
    if settings.structure != "hfresh":
        held = settings.codes or ("vectors" if settings.structure == "hnsw" else "")
        each = _SLICE + _held(settings, dimension)[held] if held else 0
        each += _linked(settings, count) if settings.structure == "hnsw" else 0
    tables = 4 * 256**2 * _held(settings, dimension)["pq"] if settings.codes == "pq" else 0
    return _COLLECTION + tables + count * each


def _held(settings: WeaviateSettings, dimension: int) -> dict[str, int]:
    """Bytes of a vector and of each kind of code."""
    blocks = -(-dimension // 64)
    return {
        "vectors": 4 * dimension,
        "pq": settings.segments or _segments(dimension),
        "rq": 64 * blocks + 16,
        "sq": dimension + 8,
        "bq": 8 * blocks,
    }


def _linked(settings: WeaviateSettings, count: int) -> int:
    """Bytes of a graph node: about half of its possible links are in use, max_connections."""
    link = 2 if count <= 1 << 16 else 3 if count <= 1 << 24 else 4
    return _NODE + link * settings.max_connections


def _segments(dimension: int) -> int:
    """The server's default number of product quantization segments."""
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
