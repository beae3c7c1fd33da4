"""Precomputed vectors: read by id, looked up by a query's text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tercet.core.mapped import Rows
from tercet.core.schema import InputError, Query


def read_parquet_vectors(path: str | Path, ids: Sequence[str], what: str) -> tuple[np.ndarray, int]:
    """Vectors of these ids, float32 [len(ids), dimension], and the number of rows with other ids.

    The file has a column `id` and a column `vector`, lists of numbers of one length. Many rows with
    other ids suggest that the file was made from another corpus. `what` names the ids in messages.
    Raises InputError naming the file for a missing file or column, an id that is missing or occurs
    twice, and vectors of different lengths.
    """
    return gather_vectors(str(path), parquet_blocks(path), ids, what)


def parquet_blocks(path: str | Path) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Rows of a Parquet file as blocks for `gather_vectors`; raises InputError as above."""
    for batch in _open(path).iter_batches(batch_size=8192, columns=["id", "vector"]):
        names = [str(name) for name in batch.column("id").to_pylist()]
        yield str(path), names, _matrix(batch.column("vector"), path)


def _in_memory(shape: tuple[int, int]) -> np.ndarray:
    return np.empty(shape, np.float32)


def gather_vectors(
    where: str,
    blocks: Iterable[tuple[str, Sequence[str], np.ndarray]],
    ids: Sequence[str],
    what: str,
    room: Callable[[tuple[int, int]], np.ndarray] = _in_memory,
) -> tuple[np.ndarray, int]:
    """Vectors of these ids, float32 [len(ids), dimension], and the number of vectors of other ids.

    A block is a place, ids and their vectors, float32 [ids, dimension]. `room` allocates the result
    for a shape. Raises InputError with the place for an id that occurs twice, vectors of different
    lengths, and a vector that is not finite or is zero; with `where` for an id without a vector.
    """
    rows = Rows(ids)
    gathered: np.ndarray | None = None
    found, others = np.zeros(len(ids), bool), 0
    for place, names, block in blocks:
        places = rows.of(names)
        known = places >= 0
        others += int((~known).sum())
        targets, block = places[known], block[known]
        if not len(targets):
            continue
        if gathered is None:
            gathered = room((len(ids), block.shape[1]))
        if block.shape[1] != gathered.shape[1]:
            raise InputError(
                f"{place}: vectors of {gathered.shape[1]} and of {block.shape[1]} dimensions"
            )
        again = targets[found[targets]]
        if len(again) or len(set(targets.tolist())) < len(targets):
            twice = ids[again[0]] if len(again) else _first_twice([ids[t] for t in targets])
            raise InputError(f"{place}: id {twice!r} occurs twice: give every vector its own")
        wrong = ~np.isfinite(block).all(axis=1) | ~block.any(axis=1)
        if wrong.any():
            id = ids[int(targets[wrong.argmax()])]
            raise InputError(
                f"{place}: the vector of {id!r} is not finite or is zero: compute it again"
            )
        gathered[targets], found[targets] = block, True
    if gathered is None or not found.all():
        missing = [ids[row] for row in np.flatnonzero(~found)[:3]]
        raise InputError(
            f"{where}: {int((~found).sum()):,} of {len(ids):,} {what} have no vector "
            f"({', '.join(map(repr, missing))}, …): compute them from the same corpus"
        )
    return gathered, others


def _open(path: str | Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: give a Parquet of id and vector") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
    missing = {"id", "vector"} - set(file.schema_arrow.names)
    if missing:
        raise InputError(
            f"{path}: no column {' nor '.join(sorted(missing))}; "
            f"there are: {', '.join(file.schema_arrow.names)}"
        )
    return file


def _matrix(column: pa.Array, path: str | Path) -> np.ndarray:
    try:
        rows = column.to_pylist() if not pa.types.is_fixed_size_list(column.type) else None
        if rows is None:
            flat = column.flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(len(column), -1).astype(np.float32)
        return np.array(rows, np.float32)
    except (ValueError, TypeError):
        raise InputError(f"{path}: its vectors are not lists of numbers of one length") from None


def _first_twice(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(id for id in ids if id in seen or seen.add(id))  # type: ignore[func-returns-value]


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[n]: the cosine of each row of `first`, [n, d], with the same row of `second`."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found: np.ndarray = np.einsum("nd,nd->n", first, second) / np.maximum(lengths, 1e-30)
    return found


class KnownQueries:
    """An `Encoder` that looks up the precomputed vectors of known queries.

    Raises InputError if two queries with one text have different vectors.
    """

    def __init__(self, name: str, queries: Sequence[Query], vectors: np.ndarray) -> None:
        self._name = name
        self._rows: dict[str, int] = {}
        self._vectors = vectors
        for row, query in enumerate(queries):
            first = self._rows.setdefault(query.text, row)
            if not np.allclose(vectors[first], vectors[row], atol=1e-3):
                raise InputError(
                    f"{name}: queries {queries[first].id!r} and {query.id!r} have one text and "
                    "two vectors"
                )

    @property
    def name(self) -> str:
        """Name in reports."""
        return self._name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def texts(self) -> Mapping[str, int]:
        """Known texts with their rows."""
        return self._rows

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """As `Encoder.encode_queries`. Raises InputError for an unknown text."""
        try:
            return self._vectors[[self._rows[text] for text in texts]]
        except KeyError as unknown:
            raise InputError(f"{self.name} has no vector of query {unknown.args[0]!r}") from None

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """Raise InputError: passage vectors are read by id."""
        raise InputError(f"{self.name} has precomputed vectors: it cannot encode passages")
