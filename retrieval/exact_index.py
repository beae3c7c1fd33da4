"""Exact search in numpy: the reference for the approximate indexes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from threadpoolctl import ThreadpoolController

from tercet.core.mapped import BLOCK, Vectors, in_blocks, is_mapped
from tercet.core.schema import Ranking, Size
from tercet.retrieval.validation import check_k, check_queries, check_vectors, in_order

_SCORES_AT_ONCE = 1 << 23  # float32 scores in memory: 32 MiB, and as much again for the partition
# Multiplications from which several threads pay off. numpy's threads spin for about 25 ms after a
# product, and an encoder that runs next on the same cores then takes twice its time.
_WORTH_THREADS = 1 << 25
_BLAS = ThreadpoolController().select(user_api="blas")


class ExactIndex:
    """An exact `Index`, for mining, the evaluations of training, and tests.

    A ranking depends on the query and the passages alone: not on the order of the passages, the
    other queries of the batch, or the number of threads. Mapped vectors are searched in their
    files, block by block.
    """

    def __init__(self) -> None:
        self._ids: Sequence[str] = []
        self._vectors: Vectors = np.zeros((0, 0), np.float32)
        self._longest = 0.0

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """As `Index.build`; vectors in memory are copied, mapped ones are not."""
        rows = check_vectors(ids, vectors)
        self._ids = ids if is_mapped(rows) else list(ids)
        self._vectors = rows if is_mapped(rows) else np.array(rows)
        blocks = (block for _, block in in_blocks(rows))
        self._longest = max(float(np.linalg.norm(block, axis=1).max()) for block in blocks)

    def size(self) -> Size:
        """As `Index.size`: the bytes of the vectors, in memory and in a file alike."""
        size = 4 * self._vectors.shape[0] * self._vectors.shape[1]
        return Size(memory=size, disk=size)

    def discard(self) -> None:
        """As `Index.discard`."""
        self._ids, self._vectors = [], np.zeros((0, 0), np.float32)

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`; all passages if there are fewer than k."""
        check_k(k)
        queries = check_queries(vectors, self._vectors.shape[1])
        k = min(k, len(self._ids))
        step = max(1, _SCORES_AT_ONCE // min(BLOCK, len(self._ids)))
        return [
            self._best(query, positions, k)
            for start in range(0, len(queries), step)
            for query, positions in self._candidates(queries[start : start + step], k)
        ]

    def _candidates(self, queries: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each query with positions that are certain to include its k best, and few others."""
        # A float32 sum of d products errs by at most d/2 epsilons of the product of both norms, at
        # the k-th score and at a candidate's alike: d in all, doubled to allow for rounding.
        error = 2 * self._vectors.shape[1] * float(np.finfo(np.float32).eps) * self._longest
        error = error * np.linalg.norm(queries, axis=1)
        best = np.full((len(queries), 0), -np.inf, np.float32)  # the k best scores so far
        found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in queries]
        for rows, block in in_blocks(self._vectors):
            alone = len(queries) * block.size < _WORTH_THREADS
            with _BLAS.limit(limits=1 if alone else None):
                scores = queries @ block.T
            best = np.concatenate([best, _largest(scores, k)], axis=1)
            best = _largest(best, k)
            # Until k scores were seen, any passage may be among the best.
            floors = best.min(axis=1) - error if best.shape[1] == k else np.full(len(best), -np.inf)
            for kept, row, floor in zip(found, scores, floors, strict=True):
                here = np.flatnonzero(row >= floor)
                kept.append((rows[here], row[here]))
        for query, kept, floor in zip(queries, found, floors, strict=True):
            positions, scores = map(np.concatenate, zip(*kept, strict=True))
            yield query, positions[scores >= floor]

    def _best(self, query: np.ndarray, positions: np.ndarray, k: int) -> Ranking:
        # A matrix product may sum in another order at another position, so the scores of equal
        # vectors may differ in the last bit. Sums in float64 are equal again.
        exact = np.einsum("nd,d->n", self._vectors[positions], query, dtype=np.float64)
        ids = [self._ids[position] for position in positions.tolist()]
        return in_order(list(zip(ids, exact.astype(np.float32).tolist(), strict=True)), k)


def _largest(scores: np.ndarray, k: int) -> np.ndarray:
    """The k largest values of each row, unordered; all values of a shorter row."""
    cut = scores.shape[1] - k
    return scores if cut <= 0 else np.partition(scores, cut, axis=1)[:, cut:]
