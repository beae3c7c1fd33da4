"""Which passages hold a term, and how much it says of each: in files, for corpora of any size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_AT_ONCE = 1 << 18  # postings that are put in order at a time


class Postings:
    """The terms of passages, weighted as Lucene's BM25 weights them; passages are numbers.

    Its files have no names and go with it. In memory are the terms, and a few bytes a passage.
    """

    def __init__(self, blocks: Iterable[Sequence[Sequence[str]]], k1: float, b: float) -> None:
        """`blocks` are passages in their order, each a list of terms."""
        self._numbers: dict[str, int] = {}
        lengths: list[np.ndarray] = []
        found = tempfile.TemporaryFile()
        documents = 0
        for block in blocks:
            lengths.append(np.array([len(terms) for terms in block], np.float32))
            found.write(self._of(block, documents).tobytes())
            documents += len(block)
        self.passages = documents
        self._length = np.concatenate([*lengths, np.zeros(0, np.float32)])
        rows = found.tell() // 12
        self._ends = np.zeros(len(self._numbers), np.int64)
        # An empty file cannot be mapped.
        if rows:
            postings = np.memmap(found, np.int32, "r", shape=(rows, 3))
            self._arrange(postings, k1, b)

    def _of(self, block: Sequence[Sequence[str]], first: int) -> np.ndarray:
        """int32 [postings, 3] of a block: term, passage, how often."""
        numbers = self._numbers
        terms = np.array([numbers.setdefault(t, len(numbers)) for doc in block for t in doc], int)
        passages = np.repeat(np.arange(len(block)), [len(doc) for doc in block])
        size = max(1, len(numbers))
        keys, counts = np.unique(passages * size + terms, return_counts=True)
        return np.stack([keys % size, first + keys // size, counts], axis=1).astype(np.int32)

    def _arrange(self, postings: np.ndarray, k1: float, b: float) -> None:
        """By term instead of by passage, each with its weight."""
        blocks = [postings[i : i + _AT_ONCE] for i in range(0, len(postings), _AT_ONCE)]
        frequency = np.zeros(len(self._numbers), np.int64)
        for block in blocks:
            frequency += np.bincount(block[:, 0], minlength=len(frequency))
        self._ends = np.cumsum(frequency)
        rarity = np.log(1 + (self.passages - frequency + 0.5) / (frequency + 0.5))
        share = self._length / self._length.mean(dtype=np.float64)
        self._held = _scratch(np.int32, len(postings))
        self._weights = _scratch(np.float32, len(postings))
        free = self._ends - frequency
        for block in blocks:
            block = block[np.argsort(block[:, 0], kind="stable")]
            term, passage, count = block.T
            firsts = np.flatnonzero(np.diff(term, prepend=-1))
            sizes = np.diff(firsts, append=len(term))
            places = free[term] + np.arange(len(term)) - np.repeat(firsts, sizes)
            self._held[places] = passage
            saturated = count / (count + k1 * (1 - b + b * share[passage].astype(np.float64)))
            self._weights[places] = rarity[term] * saturated
            free[term[firsts]] += sizes

    def scores(self, terms: Iterable[str]) -> np.ndarray:
        """float32 [passages]: the terms' weights in each, added up; one said twice counts twice."""
        scores = np.zeros(self.passages, np.float32)
        for term in terms:
            number = self._numbers.get(term)
            if number is not None:
                here = slice(self._ends[number - 1] if number else 0, self._ends[number])
                scores[self._held[here]] += self._weights[here]
        return scores


def _scratch(dtype: Any, size: int) -> np.memmap:
    file = tempfile.TemporaryFile()
    file.truncate(size * np.dtype(dtype).itemsize)
    return np.memmap(file, dtype, "r+", shape=(size,))
