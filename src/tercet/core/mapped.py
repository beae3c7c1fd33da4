"""Strings and vectors in memory-mapped files: a larger corpus takes disk, hardly any memory."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tercet.core.disk import SCRATCH, reserve, writing

#: Rows of a block: 12 MB of vectors of 384 dimensions.
BLOCK = 8_192
_STRINGS = 4_096  # texts converted to Python strings at a time
T = TypeVar("T")


class Lazy(Sequence[T]):
    """A sequence whose items are made on access, by the subclass's `_at`."""

    @abstractmethod
    def _at(self, position: int) -> T:
        """The item at a position, counted from 0."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return [self._at(position) for position in positions]
        return self._at(positions)


class Strings(Lazy[str]):
    """A column of strings in Arrow arrays."""

    def __init__(self, chunks: Iterable[pa.Array]) -> None:
        self._chunks = [chunk for chunk in chunks if len(chunk)]
        self._starts = [0]
        for chunk in self._chunks:
            self._starts.append(self._starts[-1] + len(chunk))

    def __len__(self) -> int:
        return self._starts[-1]

    def _at(self, position: int) -> str:
        chunk = bisect_right(self._starts, position) - 1
        return str(self._chunks[chunk][position - self._starts[chunk]].as_py())

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            for start in range(0, len(chunk), _STRINGS):
                yield from chunk.slice(start, _STRINGS).to_pylist()

    def find(self, wanted: Iterable[str]) -> dict[str, int]:
        """Positions of the wanted strings that are in the column, in one pass."""
        names = pa.array(sorted(set(wanted)), pa.string())
        which = pc.index_in(self._joined(), value_set=names)
        places = np.flatnonzero(pc.is_valid(which).to_numpy())
        numbers = which.drop_null().to_numpy()
        return dict(zip(names.take(pa.array(numbers)).to_pylist(), places.tolist(), strict=True))

    @cached_property
    def order(self) -> np.ndarray:
        """int64 positions in ascending order of the strings."""
        return pc.sort_indices(self._joined()).to_numpy().astype(np.int64)

    def _joined(self) -> pa.ChunkedArray:
        return pa.chunked_array(self._chunks, pa.string())


def fingerprint(text: str) -> int:
    """A 64-bit hash of a text."""
    return int.from_bytes(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


class Rows:
    """The rows of ids, in 16 bytes of memory per id."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        prints = np.fromiter(map(fingerprint, ids), np.uint64, len(ids))
        self._order = np.argsort(prints, kind="stable")
        self._sorted = prints[self._order]

    def of(self, names: Sequence[str]) -> np.ndarray:
        """int64 [names]: the row of each name, -1 if it is not among the ids."""
        prints = np.fromiter(map(fingerprint, names), np.uint64, len(names))
        starts = np.searchsorted(self._sorted, prints)
        ends = np.searchsorted(self._sorted, prints, side="right")
        found = np.full(len(names), -1, np.int64)
        for place, (name, start, end) in enumerate(
            zip(names, starts.tolist(), ends.tolist(), strict=True)
        ):
            for row in self._order[start:end].tolist():
                if self._ids[row] == name:  # hashes may collide
                    found[place] = row
        return found


def by_id(ids: Sequence[str]) -> np.ndarray:
    """int64 positions in ascending order of the ids."""
    if isinstance(ids, Strings):
        return ids.order
    return np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)


class MappedVectors:
    """float32 [rows, dimension] in mapped shards, stored in another order than that of the rows.

    Indexing and iteration go by rows, as with an array, and return arrays in memory.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, shards: Sequence[np.ndarray], order: np.ndarray) -> None:
        """`order`, int64 [rows], is the row of each stored vector, shard after shard."""
        self._shards, self._order = shards, order
        self._starts = np.cumsum([0, *map(len, shards)])
        self._places = np.empty(len(order), np.int64)
        self._places[order] = np.arange(len(order))
        self.shape = (len(order), shards[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Vectors of a row, a slice of rows, or an array of rows."""
        places = self._places[rows]
        if np.ndim(places) == 0:
            return self._gather(places[None])[0]
        return self._gather(places)

    def _gather(self, places: np.ndarray) -> np.ndarray:
        shard = np.searchsorted(self._starts, places, side="right") - 1
        vectors = np.empty((len(places), self.shape[1]), np.float32)
        for number in np.unique(shard):
            here = shard == number
            vectors[here] = self._shards[number][places[here] - self._starts[number]]
        return vectors

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows and their vectors, in the order of the files."""
        for start, shard in zip(self._starts, self._shards, strict=False):
            for i in range(0, len(shard), BLOCK):
                part = shard[i : i + BLOCK]
                yield self._order[start + i : start + i + len(part)], part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All vectors in memory."""
        if copy is False:
            raise ValueError("mapped vectors cannot become an array without a copy")
        return self[:].astype(dtype or np.float32, copy=False)


#: float32 [rows, dimension], in memory or mapped.
Vectors = np.ndarray | MappedVectors


def in_blocks(vectors: Vectors) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All rows, int64 [n], with their vectors, float32 [n, dimension], in any order."""
    if isinstance(vectors, MappedVectors):
        yield from vectors.blocks()
        return
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK]
        yield np.arange(start, start + len(part)), part


def is_mapped(vectors: Vectors) -> bool:
    """Whether the vectors are in files, not in memory."""
    return isinstance(vectors, MappedVectors | np.memmap)


def new_scratch(folder: Path, rows: int, dimension: int) -> Path:
    """A new file with room for these float32 vectors; unlink it once it is mapped.

    Raises OSError, and leaves no file, where the disk has no room for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=SCRATCH, delete=False) as file:
        path = Path(file.name)
        try:
            with writing(path):
                reserve(file, 4 * rows * dimension)
        except BaseException:
            path.unlink()
            raise
    return path


def map_scratch(path: Path, rows: int, dimension: int) -> np.memmap:
    """Map a file of `new_scratch` for reading and writing."""
    return np.memmap(path, np.float32, "r+", shape=(rows, dimension))


def read_table(path: Path) -> pa.Table:
    """A memory-mapped table of an Arrow stream file."""
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def counted(table: pa.Table, counts: Mapping[str, int]) -> pa.Table:
    """The table with `counts` in its metadata, for `counts_of`."""
    return table.replace_schema_metadata({name: str(count) for name, count in counts.items()})


def counts_of(paths: Iterable[Path], names: Mapping[str, str]) -> dict[str, int]:
    """Sums of the counts in the metadata of shards, renamed by `names`."""
    total: Counter[str] = Counter()
    for path in paths:
        with pa.memory_map(str(path)) as source:
            metadata = pa.ipc.open_stream(source).schema.metadata or {}
        for name, count in metadata.items():
            total[name.decode()] += int(count)
    return {names[name]: count for name, count in total.items()}


def arrow_rows(path: Path) -> int:
    """Number of rows in an Arrow stream file."""
    with pa.memory_map(str(path)) as source:
        return sum(batch.num_rows for batch in pa.ipc.open_stream(source))
