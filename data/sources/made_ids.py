"""Ids for passages and queries that have none, from their texts.

A digest stays when rows are added, moved or removed, which a row's number does not.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np


class MadeIds:
    """Ids of passages by their texts; the second of equal passages ends in -2, and so on.

    Holds eight bytes a passage, and more of those that occur again alone.
    """

    def __init__(self, recent: int = 1 << 16) -> None:
        """`recent` digests are held as Python's numbers before they are packed."""
        self._recent_most, self._recent = recent, set[int]()
        self._packed: list[np.ndarray] = []  # sorted, each at most half as long as the one before
        self._repeated: Counter[str] = Counter()

    def of(self, title: str, text: str) -> str:
        """The id of the next passage."""
        id = _digest(f"{title}\0{text}")
        number = int(id, 16)
        if number not in self._recent and not any(_holds(held, number) for held in self._packed):
            self._recent.add(number)
            if len(self._recent) == self._recent_most:
                self._pack()
            return id
        self._repeated[id] += 1
        return f"{id}-{self._repeated[id] + 1}"

    def _pack(self) -> None:
        new = np.sort(np.fromiter(self._recent, np.uint64, len(self._recent)))
        while self._packed and len(self._packed[-1]) < 2 * len(new):
            new = np.sort(np.concatenate([self._packed.pop(), new]))
        self._packed.append(new)
        self._recent.clear()


def query_id(text: str) -> str:
    """The id of a query's text: the same whatever its case and blanks."""
    return "q" + _digest(" ".join(text.casefold().split()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _holds(numbers: np.ndarray, number: int) -> bool:
    place = int(np.searchsorted(numbers, np.uint64(number)))
    return place < len(numbers) and int(numbers[place]) == number
