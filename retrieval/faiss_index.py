"""Approximate search with faiss: any index of its `index_factory`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from tercet.core.borders import reason
from tercet.core.disk import SCRATCH, code_of, reserve, scratch_folder, writing
from tercet.core.extras import missing
from tercet.core.mapped import BLOCK, Vectors
from tercet.core.schema import InputError, Ranking, Size, UnsupportedVectors
from tercet.core.text import one_line
from tercet.retrieval.faiss_factory import check_factory, mended
from tercet.retrieval.validation import (
    canonical,
    check_finds,
    check_k,
    check_queries,
    check_vectors,
    in_order,
)

try:
    import faiss
except ImportError:
    raise missing("faiss", "faiss") from None

#: Inverted lists that a query reads by default, if there are so many.
NPROBE = 32

_swig: Any = faiss  # faiss's type stubs lack some names
_REFINE_FACTOR = 10  # an index with "Refine(…)" rescores this many times k by its finer code
_POINTS_AT_MOST = 256  # vectors per list that k-means samples at most
_LEARNT_FROM = 65_536  # vectors that codes are trained on, if there are so many
_POINTS_PER_LIST = 39  # vectors per list that faiss's k-means asks for
_WORTH_THREADS = 20_000  # vectors: k-means over fewer is slower with two threads than with one
_USUAL = 768  # dimensions: a kind that takes these is known
_ID, _GROWTH = 8, 4  # bytes of an id in a list; room for all sizes that a list grows through
_OPQ_STEPS = 1  # k-means steps per round of OPQ: faiss's 4 take twice as long and gain no recall


class FaissIndex:
    """An `Index` of faiss by inner product; `factory` is a string of `faiss.index_factory`.

    "Flat" is exact, "HNSW32" a graph, "IVF{lists},PQ96x4fs,Refine(SQ8)" compressed inverted lists,
    where {lists} becomes the square root of the number of vectors. `nprobe` is the number of lists
    that a query reads (None: 32), `ef_search` the size of a graph's search queue (None: faiss's
    default). Equal vectors and settings build the same index in any order of the passages; graphs
    are built by one thread for that. Scores of codes are approximate. `on_disk` keeps the inverted
    lists in a file, for more vectors than fit into memory.
    """

    def __init__(
        self,
        factory: str = "Flat",
        nprobe: int | None = None,
        ef_search: int | None = None,
        *,
        on_disk: bool = False,
    ) -> None:
        self._factory = mended(factory)
        self._on_disk = on_disk
        self._nprobe, self._ef_search = nprobe, ef_search
        self._ids: list[str] = []
        self._index: Any = None
        self._lists: Any = None

    def try_out(self, dimension: int) -> None:
        """Make the empty index, for vectors of `dimension` (0: not known yet).

        Raises InputError for a kind that faiss does not know or that does not take the dimension.
        """
        check_factory(self._factory, dimension or _USUAL)
        factory = self._factory.replace("{lists}", "1")
        try:
            what = f"faiss cannot build {self._factory!r} for {dimension} dimensions"
            with _faults(what, "HNSW32 or Flat"):
                index = faiss.index_factory(
                    dimension or _USUAL, factory, faiss.METRIC_INNER_PRODUCT
                )
            inverted = faiss.try_extract_index_ivf(index)
            if self._on_disk:
                self._check_on_disk(index, inverted)
            self._set_search(index, inverted)
        except UnsupportedVectors as error:
            if dimension:
                raise InputError(str(error)) from error

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """As `Index.build`; the index is trained on these vectors if its kind is trained.

        Raises UnsupportedVectors if they are too few to train on, if this kind does not take their
        dimension, or if it does not find a sample of them again; InputError for an unknown kind,
        one that faiss cannot rank by inner product, or a setting that the kind does not have.
        """
        rows = check_vectors(ids, vectors)
        order = canonical(ids)
        check_factory(self._factory, rows.shape[1])
        factory = self._factory.replace("{lists}", str(lists_for(len(ids))))
        with _faults(f"faiss cannot build {factory!r} for {len(ids)} vectors", "HNSW32 or Flat"):
            index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            inverted = faiss.try_extract_index_ivf(index)
            self._learn(index, rows, order, lists=inverted.nlist if inverted else 0)
            file = self._move_to_disk(index, inverted, len(order)) if self._on_disk else None
            # Threads would build the graph in a random order.
            with _threads(1 if "HNSW" in factory else faiss.omp_get_max_threads()):
                step = BLOCK if inverted else len(order)
                for start in range(0, len(order), step):
                    index.add(rows[order[start : start + step]])
            if file:
                file.unlink()  # it stays mapped, and a killed process leaves none
        self._set_search(index, inverted)
        self._index, self._ids = index, [ids[position] for position in order]
        with _faults(f"faiss cannot search {factory!r}", "HNSW32 or Flat"):
            check_finds(self, f"faiss {factory}", ids, rows)

    def _set_search(self, index: Any, inverted: Any) -> None:
        """Set how far a search looks."""
        if isinstance(index, faiss.IndexRefine):
            index.k_factor = _REFINE_FACTOR
        if inverted is not None:
            inverted.nprobe = min(NPROBE, inverted.nlist)
        for name, value in (("nprobe", self._nprobe), ("efSearch", self._ef_search)):
            if value is not None:
                with _faults(f"faiss cannot set {name}={value} for {self._factory!r}"):
                    faiss.ParameterSpace().set_index_parameter(index, name, value)

    def _learn(self, index: Any, rows: Vectors, order: np.ndarray, lists: int) -> None:
        """Train on an even sample, of as many vectors as k-means uses."""
        if index.is_trained:
            return
        most = max(_POINTS_AT_MOST * lists, _LEARNT_FROM)
        sample = rows[order[:: 1 + (len(order) - 1) // most]]
        with _training(index, sample):
            index.train(sample)

    def _move_to_disk(self, index: Any, inverted: Any, count: int) -> Path:
        """Keep the inverted lists, of `count` vectors, in a scratch file, which has its room."""
        self._check_on_disk(index, inverted)
        with tempfile.NamedTemporaryFile(
            dir=scratch_folder(), prefix=SCRATCH, delete=False
        ) as made:
            file = Path(made.name)
        lists = faiss.OnDiskInvertedLists(inverted.nlist, inverted.code_size, str(file))
        try:
            with writing(file), file.open("r+b") as opened:
                # A list that grows moves to twice its room, so all of them take less than this.
                size = _GROWTH * count * (inverted.code_size + _ID)
                lists.update_totsize(size)
                reserve(opened, size)
        except BaseException:
            file.unlink()
            raise
        inverted.replace_invlists(lists)
        self._lists = lists  # faiss does not keep it alive
        return file

    def _check_on_disk(self, index: Any, inverted: Any) -> None:
        """Raise InputError for a kind whose vectors are not in inverted lists."""
        if inverted is None or isinstance(index, faiss.IndexRefine):
            raise InputError(
                f"index.on_disk: {self._factory!r} keeps its vectors in memory: choose "
                "IVF{lists},SQ8 or another IVF without Refine"
            )

    def size(self) -> Size:
        """As `Index.size`: the bytes of the index's file, which is also its size in memory."""
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
        self._index, self._ids, self._lists = None, [], None

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As `Index.search`; an approximate index may find fewer than k."""
        check_k(k)
        queries = check_queries(vectors, self._index.d if self._index is not None else 0)
        rankings: list[Ranking] = [()] * len(queries)
        pending = np.arange(len(queries))
        # One more than k shows whether equal scores straddle the cutoff. If they do, faiss chose
        # among them arbitrarily: search those queries again for twice as many.
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


def lists_for(count: int) -> int:
    """Number of inverted lists for `count` vectors: the root, but few enough for k-means."""
    return max(1, min(isqrt(count), count // _POINTS_PER_LIST))


@contextmanager
def _training(index: faiss.Index, rows: np.ndarray) -> Iterator[None]:
    """Settings of training: without slow steps that gain nothing, and without warnings."""
    rotations = []
    for part in _within(index):
        # Polysemous training permutes codes for a filter that is not used here, and takes ten times
        # as long as the rest.
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
                rotations.append((transform, codes))  # faiss does not own it: keep it alive
    with _threads(faiss.omp_get_max_threads() if len(rows) >= _WORTH_THREADS else 1):
        yield
    for transform, _ in rotations:
        transform.pq = None


def _within(index: faiss.Index) -> Iterator[Any]:
    """The index and the indexes inside it, each as its own class."""
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
    """Re-raise faiss's errors as InputError: the reason, without the C++ signature and file.

    With an alternative in `instead` it is UnsupportedVectors, unless faiss could not parse the
    string.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # of C++, and of the wrapper around it
        if code_of(error):  # of the disk
            raise
        said = one_line(str(error).rpartition(".cpp:")[2].partition(": ")[2])
        message = f"{what}: {said or reason(error)}"
        if not instead or "could not parse" in message:
            raise InputError(message) from error
        raise UnsupportedVectors(f"{message}: choose {instead}") from error
