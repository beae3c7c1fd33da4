"""Checks of ids and vectors, and the order of rankings, shared by all indexes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tercet.core.mapped import Vectors, by_id, in_blocks, is_mapped
from tercet.core.schema import Index, InputError, Ranking, UnsupportedVectors

#: Vectors that an index is searched with, and the least part of exact search's gain that it has.
_SAMPLE, _LEAST_FOUND = 64, 0.25
#: Vectors whose scores differ by less than this part are the same to an index.
_SAME = 1e-4


def check_ids(ids: Sequence[str]) -> None:
    """Raise InputError for an empty list and for an id that occurs twice."""
    if not len(ids):
        raise InputError("there are no passages to index: give at least one")
    # Hashes instead of the strings, of which there may be millions.
    hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
    values, counts = np.unique(hashes, return_counts=True)
    suspects = set(values[counts > 1].tolist())
    seen: set[str] = set()
    for id in ids if suspects else ():
        if id in seen:
            raise InputError(f"passage {id!r} occurs twice: give every passage its own id")
        if hash(id) in suspects:
            seen.add(id)


def check_vectors(ids: Sequence[str], vectors: Vectors) -> Vectors:
    """The vectors as contiguous float32 [len(ids), dimension], copied only if necessary.

    Mapped vectors stay mapped. Raises InputError, naming the passage, for an id that occurs twice
    and for a vector that is zero or not finite; and for a shape without one row per id.
    """
    check_ids(ids)
    mapped = is_mapped(vectors) and vectors.dtype == np.float32 and vectors.ndim == 2
    rows = vectors if mapped else _as_rows(np.asarray(vectors), "passage vectors")
    if len(rows) != len(ids):
        raise InputError(
            f"{len(ids)} passage ids came with {len(rows)} vectors: give one vector for each"
        )
    for numbers, block in in_blocks(rows):
        fault = _first_fault(block)
        if fault is not None:
            row, what = fault
            raise InputError(
                f"the vector of passage {ids[int(numbers[row])]!r} {what}: encode it again"
            )
    return rows


def check_queries(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """Query vectors as contiguous float32 [queries, dimension], copied only if necessary.

    An empty array is accepted. Raises InputError for another dimension than the index's (0: the
    index was never built) and, naming the row, for a vector that is zero or not finite.
    """
    if dimension == 0:
        raise InputError("the index holds nothing: build it before searching")
    rows = _as_rows(vectors, "query vectors")
    if rows.shape[1] != dimension:
        raise InputError(
            f"query vectors have {rows.shape[1]} dimensions and the index has {dimension}: "
            "encode queries and passages with the same model"
        )
    fault = _first_fault(rows)
    if fault is not None:
        row, what = fault
        raise InputError(f"the vector of query {row} (counted from 0) {what}: encode it again")
    return rows


def check_finds(index: Index, what: str, ids: Sequence[str], vectors: Vectors) -> None:
    """Raise UnsupportedVectors if an index does not find a sample of its own vectors.

    Each of up to 64 is searched with itself. What is found first scores, on average, at least a
    quarter as far above any passage as what exact search finds first: coarse codes reach three
    quarters, and an index that ranks by another metric or by nothing is below 0.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(ids))[:_SAMPLE])
    queries = np.asarray(vectors[rows], np.float32)
    firsts = [ranking[0][0] if ranking else None for ranking in index.search(queries, 1)]
    row_of = dict.fromkeys(firsts)
    row_of |= {id: row for row, id in enumerate(ids) if id in row_of}
    best, total = np.full(len(rows), -np.inf), np.zeros(len(rows))
    for _, block in in_blocks(vectors):
        scores = queries @ np.asarray(block, np.float32).T
        best, total = np.maximum(best, scores.max(1)), total + scores.sum(1, dtype=np.float64)
    mean = total / len(ids)
    found = mean.copy()  # no passage is as good as any
    for query, first in enumerate(firsts):
        if row_of[first] is not None:
            found[query] = queries[query] @ np.asarray(vectors[row_of[first]], np.float32)
    reached, could = float((found - mean).sum()), float((best - mean).sum())
    if could > _SAME * float(np.abs(best).sum()) and reached < _LEAST_FOUND * could:
        raise UnsupportedVectors(
            f"{what} does not find its own vectors: the first of each search reaches "
            f"{reached / could:.0%} of what exact search finds: choose another kind of index"
        )


def check_k(k: int) -> None:
    """Raise InputError unless k is at least 1."""
    if k < 1:
        raise InputError(f"k is {k}: ask for at least 1 result")


def canonical(ids: Sequence[str]) -> np.ndarray:
    """int64 positions in descending order of the ids.

    An index that stores its passages in this order gives the same results for any input order, and
    among equal scores the earlier position has the larger id.
    """
    return by_id(ids)[::-1]


def in_order(pairs: Sequence[tuple[str, float]], k: int) -> Ranking:
    """The k best pairs, by score and then id, both descending, as in trec_eval.

    An approximate index breaks ties arbitrarily: pass a few more than k of its results, and ties at
    the cutoff are mostly broken by id too.
    """
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]), reverse=True)[:k]


def _as_rows(vectors: np.ndarray, what: str) -> np.ndarray:
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f":
        raise InputError(
            f"{what} are {array.dtype} of shape {list(array.shape)}: "
            "give one floating-point row for each"
        )
    with np.errstate(over="ignore"):  # an overflow becomes infinite and is refused with its row
        return np.ascontiguousarray(array, dtype=np.float32)


def _first_fault(rows: np.ndarray) -> tuple[int, str] | None:
    # A squared norm is not finite if one number is not, and zero only if all are: one pass without
    # a boolean matrix, in float64, where no small row underflows. If the squared norms of query and
    # passage fit into float32, so does their dot product (Cauchy-Schwarz): no score overflows.
    squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    bad = np.flatnonzero(~(squares < np.finfo(np.float32).max) | (squares == 0))
    if not bad.size:
        return None
    row = int(bad[0])
    if squares[row] == 0:
        return row, "is zero"
    return row, "is too long for float32" if np.isfinite(squares[row]) else "is not finite"
