"""Approximate search in memory, with any index that faiss can describe in a string."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from tercet.retrieval.checks import canonical, check_k, check_queries, check_vectors, in_order
from tercet.schema import InputError, Ranking

try:
    import faiss
except ImportError:
    raise InputError("faiss is not installed: pip install 'tercet[faiss]'") from None

#: An index that ends in "Refine(…)" scores this many times k again, by its finer code.
REFINE_FACTOR = 10


class FaissIndex:
    """An `Index` of faiss, by inner product, named as for `faiss.index_factory`.

    "Flat" is exact, "HNSW32" a graph, "IVF316,PQ96x4fs,Refine(SQ8)" compressed inverted lists.
    `nprobe` is how many inverted lists a query reads, `ef_search` how far it looks in a graph; None
    leaves faiss's own value. Equal vectors and settings build the same index, whatever order they
    come in; for that, a graph is built by one thread. Codes are approximate, so their scores are.
    """

    def __init__(
        self, factory: str = "Flat", nprobe: int | None = None, ef_search: int | None = None
    ) -> None:
        self._factory = factory
        self._settings = {
            name: value
            for name, value in (("nprobe", nprobe), ("efSearch", ef_search))
            if value is not None
        }
        self._ids: list[str] = []
        self._index: faiss.Index | None = None

    def build(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """As `Index.build`, training the index on these vectors if it is of a kind that learns.

        Raises InputError too if faiss cannot build this kind of index, or not from so few vectors,
        and if it has no such setting as was given.
        """
        rows = check_vectors(ids, vectors)
        order = canonical(ids)
        rows = rows[order]
        with _faults(f"faiss cannot build {self._factory!r} for {len(ids)} vectors"):
            index = faiss.index_factory(rows.shape[1], self._factory, faiss.METRIC_INNER_PRODUCT)
            # The graph that threads build together depends on which of them came first.
            with _threads(1 if "HNSW" in self._factory else faiss.omp_get_max_threads()):
                index.train(rows)
                index.add(rows)
        if isinstance(index, faiss.IndexRefine):
            index.k_factor = REFINE_FACTOR
        for name, value in self._settings.items():
            with _faults(f"faiss cannot set {name}={value} for {self._factory!r}"):
                faiss.ParameterSpace().set_index_parameter(index, name, value)
        self._index, self._ids = index, [ids[position] for position in order]

    def discard(self) -> None:
        """As `Index.discard`."""
        self._index, self._ids = None, []

    def publish(self, alias: str) -> None:
        """Nothing to do: an index in the process has no name that others could ask for."""

    def serves(self, alias: str) -> bool:
        """As `Index.serves`: nobody asks an index in the process by name."""
        return True

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`; an approximate index may find fewer than k."""
        check_k(k)
        queries = check_queries(vectors, self._index.d if self._index is not None else 0)
        rankings: list[Ranking] = [()] * len(queries)
        pending = np.arange(len(queries))
        # One more than asked for shows whether equal scores straddle the cut-off. Where they do,
        # faiss chose among them as it came: ask those queries again, for more.
        fetch = k + 1
        while pending.size and self._index is not None:
            fetch = min(fetch, len(self._ids))
            scores, positions = self._index.search(queries[pending], fetch)
            for query, row, found in zip(pending, scores.tolist(), positions.tolist(), strict=True):
                pairs = [(self._ids[at], s) for at, s in zip(found, row, strict=True) if at >= 0]
                rankings[query] = in_order(pairs, k)
            if fetch == len(self._ids):
                break
            pending = pending[(scores[:, -1] == scores[:, k - 1]) & (positions[:, -1] >= 0)]
            fetch *= 2
        return rankings


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """Turns what faiss raises into one line: its reason, without its C++ signature and file."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).rpartition(".cpp:")[2].partition(": ")[2].split())
        raise InputError(f"{what}: {reason or error}") from error
