"""What every index refuses, and the order every ranking keeps: one place, so none differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tercet.core.mapped import Vectors, by_id, in_blocks, is_mapped
from tercet.core.schema import InputError, Ranking


def check_ids(ids: Sequence[str]) -> None:
    """Raises InputError for an empty list and for an id that occurs twice."""
    if not len(ids):
        raise InputError("there are no passages to index: give at least one")
    # Numbers in place of names, of which there may be millions: equal names have equal numbers.
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
    """The passages' vectors as contiguous float32 [len(ids), dimension], copied only if they must.

    Those that are mapped from files stay so. Raises InputError, naming the passage, for an id that
    occurs twice and for a vector that is zero or not finite; and for a shape that is not one row
    for every id.
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
    """The queries' vectors as contiguous float32 [queries, dimension], copied only if they must.

    No queries at all are well. Raises InputError for another dimension than the index's (0 says
    that it was never built) and, naming the row, for a vector that is zero or not finite.
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


def check_k(k: int) -> None:
    """Raises InputError unless at least one result is asked for."""
    if k < 1:
        raise InputError(f"k is {k}: ask for at least 1 result")


def canonical(ids: Sequence[str]) -> np.ndarray:
    """int64 positions of the ids, the larger first.

    An index that holds its passages in this order gives the same results whatever order they came
    in, and of equal scores the earlier position is the larger id.
    """
    return by_id(ids)[::-1]


def in_order(pairs: Sequence[tuple[str, float]], k: int) -> Ranking:
    """The k best of the pairs: larger scores first, among equal scores the larger id, as trec_eval.

    An approximate index chooses by itself which of equal scores make its list: give it a few more
    than k and the choice at the cut-off is mostly right too.
    """
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]), reverse=True)[:k]


def _as_rows(vectors: np.ndarray, what: str) -> np.ndarray:
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind != "f":
        raise InputError(
            f"{what} are {array.dtype} of shape {list(array.shape)}: "
            "give one floating-point row for each"
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused by its row
        return np.ascontiguousarray(array, dtype=np.float32)


def _first_fault(rows: np.ndarray) -> tuple[int, str] | None:
    # The squared length is not finite if a number is not, and zero only if all are: one pass
    # without a matrix of booleans, in float64, where no small row underflows. Where both squared
    # lengths fit into float32, so does every dot product (Cauchy-Schwarz): no score overflows.
    squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    bad = np.flatnonzero(~(squares < np.finfo(np.float32).max) | (squares == 0))
    if not bad.size:
        return None
    row = int(bad[0])
    if squares[row] == 0:
        return row, "is zero"
    return row, "is too long for float32" if np.isfinite(squares[row]) else "is not finite"
