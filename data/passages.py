"""The passages of a corpus, read from its files on access, never all in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from tercet.core.artifacts import Artifact
from tercet.core.mapped import Lazy, Strings, fingerprint, read_table
from tercet.core.schema import Passage

SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "text": pa.string()})


class Passages(Lazy[Passage]):
    """Passages in the order of the corpus; `ids` and `contents` are lazy sequences."""

    def __init__(self, tables: Sequence[pa.Table], duplicates: pa.Table | None = None) -> None:
        """`tables` have the columns of `SCHEMA`; `duplicates` is a table of `find_duplicates`."""
        self.ids, self._titles, self._texts = (
            Strings(chunk for table in tables for chunk in table[name].chunks)
            for name in SCHEMA.names
        )
        self.contents: Sequence[str] = _Contents(self)
        self._duplicates = duplicates

    @classmethod
    def read(cls, corpus: Artifact) -> Passages:
        """The passages of a corpus artifact."""
        tables = [read_table(file) for file in corpus.shards("passages")]
        return cls(tables, read_table(corpus.file("twins-00000.arrow")))

    @classmethod
    def of(cls, passages: Iterable[Passage]) -> Passages:
        """Passages in memory."""
        rows = [{"id": p.id, "title": p.title, "text": p.text} for p in passages]
        tables = [pa.Table.from_pylist(rows, schema=SCHEMA)]
        contents = cls(tables).contents
        fingerprints = np.array([*map(fingerprint, contents)], np.uint64)
        return cls(tables, find_duplicates(contents, fingerprints))

    def __len__(self) -> int:
        return len(self.ids)

    def _at(self, position: int) -> Passage:
        return Passage(self.ids[position], self._titles[position], self._texts[position])

    def __iter__(self) -> Iterator[Passage]:
        return map(Passage, self.ids, self._titles, self._texts)

    def rows(self, ids: Iterable[str]) -> dict[str, int]:
        """Rows of the ids that are in the corpus."""
        return self.ids.find(ids)

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        """Contents of the ids that are in the corpus."""
        return {id: self.contents[row] for id, row in self.rows(ids).items()}

    @cached_property
    def duplicates(self) -> Mapping[str, list[str]]:
        """Id of each passage with duplicates -> all ids with its contents, itself included."""
        groups: dict[int, list[str]] = {}
        if self._duplicates is None:
            return {}
        columns = (column.to_pylist() for column in self._duplicates.columns)
        for row, group in zip(*columns, strict=True):
            groups.setdefault(group, []).append(self.ids[row])
        return {id: ids for ids in groups.values() for id in ids}


def repeated(fingerprints: np.ndarray) -> np.ndarray:
    """The distinct values that occur more than once, ascending."""
    values, counts = np.unique(fingerprints, return_counts=True)
    return values[counts > 1]


def find_duplicates(contents: Sequence[str], fingerprints: np.ndarray) -> pa.Table:
    """Rows of the passages with equal contents, and a group number for each such text.

    `fingerprints`, uint64 [passages], are the `fingerprint`s of the contents.
    """
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isin(fingerprints, repeated(fingerprints))).tolist():
        groups.setdefault(contents[row], []).append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]  # the others only collide
    return pa.table(
        {
            "row": pa.array([row for rows in several for row in rows], pa.int64()),
            "group": pa.array([i for i, rows in enumerate(several) for _ in rows], pa.int64()),
        }
    )


class _Contents(Lazy[str]):
    """Contents of the passages."""

    def __init__(self, passages: Passages) -> None:
        self._passages = passages

    def __len__(self) -> int:
        return len(self._passages)

    def _at(self, position: int) -> str:
        return self._passages[position].contents

    def __iter__(self) -> Iterator[str]:
        return (passage.contents for passage in self._passages)
