"""Exact search: every query against every passage, in numpy. What the other indexes answer to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from threadpoolctl import ThreadpoolController

from tercet.retrieval.checks import canonical, check_k, check_queries, check_vectors
from tercet.schema import Ranking, Size

_SCORES_AT_ONCE = 1 << 25  # float32 scores in memory: 128 MiB, and as much again to choose from
#: Multiplications from which several threads are worth while. numpy's go on spinning for some 25 ms
#: after a product, and an encoder that runs next on the same cores then takes twice its time.
_WORTH_THREADS = 1 << 25
_BLAS = ThreadpoolController().select(user_api="blas")


class ExactIndex:
    """An `Index` that misses nothing, for tests, training's evaluations and small corpora.

    A ranking depends on the query and the passages alone: not on the order in which they were
    added, nor on the other queries of a batch, nor on the number of threads.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._vectors = np.zeros((0, 0), np.float32)
        self._longest = 0.0

    def build(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """As `Index.build`; keeps a copy of the vectors."""
        rows = check_vectors(ids, vectors)
        order = canonical(ids)
        self._ids = [ids[position] for position in order]
        self._vectors = rows[order]
        self._longest = float(np.linalg.norm(rows, axis=1).max())

    def size(self) -> Size:
        """As `Index.size`: its vectors, which is also what they would take in a file."""
        return Size(memory=self._vectors.nbytes, disk=self._vectors.nbytes)

    def discard(self) -> None:
        """As `Index.discard`."""
        self._ids, self._vectors = [], np.zeros((0, 0), np.float32)

    def drop_leftovers(self) -> list[str]:
        """As Index.drop_leftovers: the process took all with it."""
        return []

    def publish(self, alias: str) -> None:
        """Nothing to do: an index in the process has no name that others could ask for."""

    def serves(self, alias: str) -> bool:
        """As `Index.serves`: nobody asks an index in the process by name."""
        return True

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`, all the passages if there are fewer than k."""
        check_k(k)
        queries = check_queries(vectors, self._vectors.shape[1])
        k = min(k, len(self._ids))
        step = max(1, _SCORES_AT_ONCE // len(self._ids))
        return [
            self._best(query, positions, k)
            for start in range(0, len(queries), step)
            for query, positions in self._candidates(queries[start : start + step], k)
        ]

    def _candidates(self, queries: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each query with the positions that hold its k best for certain, and few others."""
        alone = len(queries) * self._vectors.size < _WORTH_THREADS
        with _BLAS.limit(limits=1 if alone else None):
            scores = queries @ self._vectors.T
        cut = scores.shape[1] - k
        kth = np.partition(scores, cut, axis=1)[:, cut]
        # A float32 sum of d products errs by at most d/2 epsilons of both lengths' product, at the
        # k-th score and at a candidate's alike: d in all, and twice that leaves room to round.
        error = 2 * self._vectors.shape[1] * float(np.finfo(np.float32).eps) * self._longest
        floors = kth - error * np.linalg.norm(queries, axis=1)
        for query, row, floor in zip(queries, scores, floors, strict=True):
            yield query, np.flatnonzero(row >= floor)

    def _best(self, query: np.ndarray, positions: np.ndarray, k: int) -> Ranking:
        # A matrix product may sum the same numbers in another order at another place, so equal
        # vectors may score apart in the last bit. Summing in float64 makes them equal again.
        exact = np.einsum("nd,d->n", self._vectors[positions], query, dtype=np.float64)
        scores = exact.astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        return [
            (self._ids[position], score)
            for position, score in zip(positions[best], scores[best].tolist(), strict=True)
        ]
