"""Approximate search in memory, with any index that faiss can describe in a string."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from tercet.core.mapped import BLOCK, Vectors
from tercet.core.schema import InputError, Ranking, Size, UnsupportedVectors
from tercet.retrieval.validation import canonical, check_k, check_queries, check_vectors, in_order

try:
    import faiss
except ImportError:
    raise InputError("faiss is not installed: pip install 'tercet[faiss]'") from None

#: An index that ends in "Refine(…)" scores this many times k again, by its finer code.
REFINE_FACTOR = 10
#: Inverted lists that a query reads unless told otherwise: of all, where there are fewer.
NPROBE = 32

_swig: Any = faiss  # its stubs leave names out
_POINTS_AT_MOST = 256  # vectors a list: k-means samples more than that down to it
_LEARNT_FROM = 65_536  # vectors that codes are learnt from, at least, where there are so many
_POINTS_PER_LIST = 39  # what faiss's k-means asks for
_WORTH_THREADS = 20_000  # vectors: k-means over fewer is slower by two threads than by one
_OPQ_STEPS = 1  # of k-means in each of OPQ's rounds: faiss's 4 take twice as long for no recall


class FaissIndex:
    """An `Index` of faiss, by inner product, named as for `faiss.index_factory`.

    "Flat" is exact, "HNSW32" a graph, "IVF{lists},PQ96x4fs,Refine(SQ8)" compressed inverted lists,
    {lists} of them: the root of the vectors' number. `nprobe` is how many inverted lists a query
    reads (None: 32), `ef_search` how far it looks in a graph (None: faiss's own value). Equal
    vectors and settings build the same index, whatever order they come in; for that, a graph is
    built by one thread. Codes are approximate, so their scores are. `on_disk` keeps the inverted
    lists in a file, for more vectors than memory holds.
    """

    def __init__(
        self,
        factory: str = "Flat",
        nprobe: int | None = None,
        ef_search: int | None = None,
        *,
        on_disk: bool = False,
    ) -> None:
        self._factory = factory
        self._on_disk = on_disk
        self._nprobe, self._ef_search = nprobe, ef_search
        self._ids: list[str] = []
        self._index: Any = None
        self._lists: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """As `Index.build`, training the index on these vectors if it is of a kind that learns.

        Raises Unfit if there are too few of them to learn from, or this kind takes no such
        dimension; InputError if faiss knows no such kind, or no such setting of it as was given.
        """
        rows = check_vectors(ids, vectors)
        order = canonical(ids)
        factory = self._factory.replace("{lists}", str(lists_for(len(ids))))
        with _faults(f"faiss cannot build {factory!r} for {len(ids)} vectors", "HNSW32 or Flat"):
            index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            inverted = faiss.try_extract_index_ivf(index)
            self._learn(index, rows, order, lists=inverted.nlist if inverted else 0)
            if self._on_disk:
                self._move_to_disk(index, inverted)
            # The graph that threads build together depends on which of them came first.
            with _threads(1 if "HNSW" in factory else faiss.omp_get_max_threads()):
                step = BLOCK if inverted else len(order)
                for start in range(0, len(order), step):
                    index.add(rows[order[start : start + step]])
        if isinstance(index, faiss.IndexRefine):
            index.k_factor = REFINE_FACTOR
        if inverted is not None:
            inverted.nprobe = min(NPROBE, inverted.nlist)
        self._set(index, self._nprobe, self._ef_search)
        self._index, self._ids = index, [ids[position] for position in order]

    def _learn(self, index: Any, rows: Vectors, order: np.ndarray, lists: int) -> None:
        """Train on as many vectors as k-means reads: of more, on an even sample."""
        if index.is_trained:
            return
        most = max(_POINTS_AT_MOST * lists, _LEARNT_FROM)
        sample = rows[order[:: 1 + (len(order) - 1) // most]]
        with _training(index, sample):
            index.train(sample)

    def _move_to_disk(self, index: Any, inverted: Any) -> None:
        """Let the lists be kept in a file, which goes with this index."""
        if inverted is None or isinstance(index, faiss.IndexRefine):
            raise InputError(
                f"index.on_disk: {self._factory!r} keeps its vectors in memory: choose "
                "IVF{lists},SQ8 or another IVF without Refine"
            )
        self._folder = tempfile.TemporaryDirectory(prefix="tercet-faiss-")
        file = str(Path(self._folder.name) / "lists")
        lists = faiss.OnDiskInvertedLists(inverted.nlist, inverted.code_size, file)
        inverted.replace_invlists(lists)
        self._lists = lists  # faiss does not keep it alive

    def tune(self, nprobe: int | None = None, ef_search: int | None = None) -> None:
        """How far the built index looks from now on; None leaves a setting as it is.

        Raises InputError if this kind of index has no such setting, or nothing was built.
        """
        if self._index is None:
            raise InputError("the index holds nothing: build it before tuning")
        self._set(self._index, nprobe, ef_search)

    def size(self) -> Size:
        """As `Index.size`: what faiss would write to a file, which is what it holds in memory."""
        total = 0

        def count(block: bytes) -> int:
            nonlocal total
            total += len(block)
            return len(block)

        if self._index is not None:
            faiss.write_index(self._index, _swig.PyCallbackIOWriter(count))
        return Size(memory=total, disk=total)

    def discard(self) -> None:
        """As `Index.discard`."""
        self._index, self._ids, self._lists, self._folder = None, [], None, None

    def drop_leftovers(self) -> list[str]:
        """As Index.drop_leftovers: the process took all with it."""
        return []

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

    def _set(self, index: Any, nprobe: int | None, ef_search: int | None) -> None:
        for name, value in (("nprobe", nprobe), ("efSearch", ef_search)):
            if value is not None:
                with _faults(f"faiss cannot set {name}={value} for {self._factory!r}"):
                    faiss.ParameterSpace().set_index_parameter(index, name, value)


def lists_for(count: int) -> int:
    """Inverted lists for so many vectors: their root, and few enough for k-means to learn each."""
    return max(1, min(isqrt(count), count // _POINTS_PER_LIST))


@contextmanager
def _training(index: faiss.Index, rows: np.ndarray) -> Iterator[None]:
    """Training without what costs minutes, or a line of warning for each segment, for nothing."""
    rotations = []
    for part in _within(index):
        # It permutes codes for a filter that is not in use here, and takes ten times the training.
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False
        if hasattr(part, "pq"):
            part.pq.cp.min_points_per_centroid = 1
        for transform in _transforms(part):
            if isinstance(transform, faiss.OPQMatrix):
                if len(rows) < transform.d_in:  # faiss would write beyond its memory
                    raise UnsupportedVectors(
                        f"faiss cannot learn OPQ's rotation of {transform.d_in} dimensions from "
                        f"{len(rows)} vectors: choose HNSW32 or Flat"
                    )
                codes = faiss.ProductQuantizer(transform.d_out, transform.M, 8)
                codes.cp.min_points_per_centroid = 1
                transform.niter_pq, transform.pq = _OPQ_STEPS, codes
                rotations.append((transform, codes))  # faiss does not own it: keep it till the end
    with _threads(faiss.omp_get_max_threads() if len(rows) >= _WORTH_THREADS else 1):
        yield
    for transform, _ in rotations:
        transform.pq = None


def _within(index: faiss.Index) -> Iterator[Any]:
    """The index and those that it is made of, each as its own class."""
    index = faiss.downcast_index(index)
    yield index
    for name in ("index", "base_index", "refine_index", "quantizer"):
        inner = getattr(index, name, None)
        if inner is not None:
            yield from _within(inner)


def _transforms(index: Any) -> Iterator[Any]:
    chain: Any = index.chain if isinstance(index, faiss.IndexPreTransform) else None
    for position in range(0 if chain is None else chain.size()):
        yield faiss.downcast_VectorTransform(chain.at(position))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@contextmanager
def _faults(what: str, instead: str = "") -> Iterator[None]:
    """Turns what faiss raises into one line: its reason, without its C++ signature and file.

    Where something else would do instead, it is the vectors that do not fit, unless faiss could
    not read the string.
    """
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).rpartition(".cpp:")[2].partition(": ")[2].split())
        message = f"{what}: {reason or error}"
        if not instead or "could not parse" in message:
            raise InputError(message) from error
        raise UnsupportedVectors(f"{message}: choose {instead}") from error
