"""The passages of a corpus, read from its files as they are asked for: never all in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from tercet.core.artifacts import Artifact
from tercet.core.mapped import Lazy, Strings, fingerprint, read_table
from tercet.core.schema import Passage

SCHEMA = pa.schema({"id": pa.string(), "title": pa.string(), "text": pa.string()})
#: Passages whose text another one has: their rows, and a number for each such text.
TWINS = pa.schema({"row": pa.int64(), "group": pa.int64()})


class Passages(Lazy[Passage]):
    """Passages in the corpus's order; `ids` and `contents` are theirs, as lazily read."""

    def __init__(self, tables: Sequence[pa.Table], duplicates: pa.Table | None = None) -> None:
        """`tables` have the columns of `SCHEMA`, `twins` those of `TWINS`."""
        self.ids, self._titles, self._texts = (
            Strings(chunk for table in tables for chunk in table[name].chunks)
            for name in SCHEMA.names
        )
        self.contents: Sequence[str] = _Contents(self)
        self._twins = duplicates

    @classmethod
    def read(cls, corpus: Artifact) -> Passages:
        """Those of a corpus."""
        files = sorted(name for name in corpus.manifest["files"] if name.startswith("passages-"))
        tables = [read_table(corpus.path / name) for name in files]
        return cls(tables, read_table(corpus.path / "twins-00000.arrow"))

    @classmethod
    def of(cls, passages: Iterable[Passage]) -> Passages:
        """Passages in memory as a corpus's."""
        rows = [{"id": p.id, "title": p.title, "text": p.text} for p in passages]
        tables = [pa.Table.from_pylist(rows, schema=SCHEMA)]
        contents = cls(tables).contents
        return cls(tables, find_twins(contents, np.array([*map(fingerprint, contents)], np.uint64)))

    def __len__(self) -> int:
        return len(self.ids)

    def _at(self, position: int) -> Passage:
        return Passage(self.ids[position], self._titles[position], self._texts[position])

    def __iter__(self) -> Iterator[Passage]:
        return map(Passage, self.ids, self._titles, self._texts)

    def rows(self, ids: Iterable[str]) -> dict[str, int]:
        """The row of each of these ids that the corpus has."""
        return self.ids.find(ids)

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        """Title and text of each of these that the corpus has."""
        return {id: self.contents[row] for id, row in self.rows(ids).items()}

    @cached_property
    def duplicates(self) -> Mapping[str, list[str]]:
        """Passage id -> all ids with its text, its own among them; only where there are several."""
        groups: dict[int, list[str]] = {}
        if self._twins is None:
            return {}
        for row, group in zip(*(column.to_pylist() for column in self._twins.columns), strict=True):
            groups.setdefault(group, []).append(self.ids[row])
        return {id: ids for ids in groups.values() for id in ids}


def repeated(fingerprints: np.ndarray) -> np.ndarray:
    """Those that occur more than once, each once, ascending."""
    values, counts = np.unique(fingerprints, return_counts=True)
    return values[counts > 1]


def find_twins(contents: Sequence[str], fingerprints: np.ndarray) -> pa.Table:
    """`TWINS` of the passages, whose `fingerprint`s are uint64 [passages]."""
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isin(fingerprints, repeated(fingerprints))).tolist():
        groups.setdefault(contents[row], []).append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]  # others share a number alone
    return pa.table(
        {
            "row": pa.array([row for rows in several for row in rows], pa.int64()),
            "group": pa.array([i for i, rows in enumerate(several) for _ in rows], pa.int64()),
        }
    )


class _Contents(Lazy[str]):
    """Title and text of each passage."""

    def __init__(self, passages: Passages) -> None:
        self._passages = passages

    def __len__(self) -> int:
        return len(self._passages)

    def _at(self, position: int) -> str:
        return self._passages[position].contents

    def __iter__(self) -> Iterator[str]:
        return (passage.contents for passage in self._passages)
