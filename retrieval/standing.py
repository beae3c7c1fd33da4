"""One index for vectors that do not change: filled once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tercet.core.mapped import Vectors
from tercet.core.schema import Index, Ranking, Size


class Standing:
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
