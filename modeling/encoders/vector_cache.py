"""Vectors that were paid for, in SQLite: none is bought twice, and a kill loses none.

One file holds the vectors of a model and a width. Each call of the API is one transaction, on disk
before the next call is sent. Tens of millions of vectors take no memory, and the write lock, held
during a call, keeps two processes from paying for the same text. The folder should be on a local
disk: SQLite's locks do not work on all network file systems.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from tercet.core.cache import make_once
from tercet.core.schema import InputError

LOOKED_UP_AT_ONCE = 960  # keys


class VectorCache:
    """A folder's SQLite file with the API's vectors by key, and a table of the bills."""

    def __init__(self, folder: Path, width: int) -> None:
        self._width = width
        try:
            self.file = make_once(folder, _create).resolve() / "vectors.sqlite"
        except OSError as error:
            why = error.strerror
            raise InputError(f"{folder} cannot be made ({why}): set TERCET_CACHE") from None
        with self.open() as db:
            db.execute("SELECT total(dollars) FROM calls")  # raises for a file of another kind

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection, for one thread. Raises InputError naming the file."""
        where = f"{self.file.as_uri()}?mode=rw"
        try:
            # Another process may hold the lock during a call and all its retries.
            connect = sqlite3.connect(where, uri=True, timeout=3_600, isolation_level=None)
            with closing(connect) as db:
                db.execute("PRAGMA synchronous = FULL")
                yield db
        except sqlite3.Error as error:
            raise InputError(
                f"{self.file} cannot be used ({error}): it holds vectors that were paid for; "
                "repair it or its disk, or set TERCET_CACHE to begin another"
            ) from None

    @contextmanager
    def locked(self, db: sqlite3.Connection) -> Iterator[None]:
        """A transaction that excludes other writers from its beginning."""
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def get(self, db: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors of those keys that exist. Raises InputError for a damaged one."""
        found: dict[bytes, np.ndarray] = {}
        rest = iter(keys)
        while some := list(islice(rest, LOOKED_UP_AT_ONCE)):
            marks = ",".join("?" * len(some))
            query = f"SELECT key, vector, crc FROM vectors WHERE key IN ({marks})"
            for key, vector, crc in db.execute(query, some):
                if len(vector) != 4 * self._width or zlib.crc32(vector) != crc:
                    raise InputError(
                        f"{self.file} has a damaged vector: to buy it again, run in sqlite3 "
                        f"\"DELETE FROM vectors WHERE key = x'{key.hex()}'\""
                    )
                found[key] = np.frombuffer(vector, dtype="<f4")
        return found

    def add(
        self,
        db: sqlite3.Connection,
        vectors: Mapping[bytes, np.ndarray],
        bill: tuple[int, int, float],
    ) -> None:
        """Store new vectors, and the bill: texts, tokens, dollars."""
        blobs = {key: vector.tobytes() for key, vector in vectors.items()}
        rows = [(key, blob, zlib.crc32(blob)) for key, blob in blobs.items()]
        db.executemany("INSERT INTO vectors VALUES (?, ?, ?)", rows)
        db.execute("INSERT INTO calls VALUES (?, ?, ?)", bill)


def _create(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "vectors.sqlite")) as db:
        db.execute("PRAGMA journal_mode = WAL")  # allows reading during a call
        db.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB, crc INTEGER)")
        db.execute("CREATE TABLE calls (texts INTEGER, tokens INTEGER, dollars REAL)")
        db.commit()
