"""Answers that were paid for, in SQLite: none is bought twice, and a kill loses none.

One file holds the answers of a model. Each call of the API is one transaction, on disk as soon as
it has come. Tens of millions of vectors take no memory. Who buys holds a lock, which keeps two
processes from paying for the same text. The folder should be on a local disk: SQLite's locks do not
work on all network file systems.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from tercet.core.cache import make_once
from tercet.core.disk import code_of
from tercet.core.schema import InputError

LOOKED_UP_AT_ONCE = 960  # keys


class Bill(NamedTuple):
    """What a call cost, for the table of calls."""

    items: int
    tokens: int
    dollars: float


class PaidCache:
    """A folder's SQLite file with an API's answers by key, and a table of the bills.

    `noun` is what an answer is: "vector", "answer" or "score"; the file and its table are named
    by it. A value is bytes, of `size` if that is known.
    """

    def __init__(self, folder: Path, noun: str, size: int | None = None) -> None:
        self.noun, self.size = noun, size
        try:
            made = make_once(folder, partial(_create, noun))
            self.file = made.resolve() / f"{noun}s.sqlite"
        except OSError as error:
            if code_of(error):
                raise
            why = error.strerror
            raise InputError(f"{folder} cannot be made ({why}): set TERCET_CACHE") from None
        with self.open() as db:
            db.execute("SELECT total(dollars) FROM calls")  # raises for a file of another kind

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection, for one thread.

        Raises InputError naming the file, and OSError if its disk is full or fails.
        """
        where = f"{self.file.as_uri()}?mode=rw"
        try:
            connect = sqlite3.connect(where, uri=True, timeout=3_600, isolation_level=None)
            with closing(connect) as db:
                db.execute("PRAGMA synchronous = FULL")
                yield db
        except sqlite3.Error as error:
            if code := code_of(error):
                raise OSError(code, os.strerror(code), str(self.file)) from error
            raise InputError(
                f"{self.file} cannot be used ({error}): it holds {self.noun}s that were paid for; "
                "repair it or its disk, or set TERCET_CACHE to begin another"
            ) from None

    @contextmanager
    def buying(self) -> Iterator[None]:
        """Exclude all others that buy for this file, in this process and others."""
        with FileLock(self.file.with_name("buying.lock"), thread_local=False):
            yield

    def get(self, db: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the answers of those keys that exist. Raises InputError for a damaged one."""
        found: dict[bytes, bytes] = {}
        rest = iter(keys)
        while some := list(islice(rest, LOOKED_UP_AT_ONCE)):
            marks = ",".join("?" * len(some))
            query = f"SELECT key, {self.noun}, crc FROM {self.noun}s WHERE key IN ({marks})"
            for key, value, crc in db.execute(query, some):
                if self.size not in (None, len(value)) or zlib.crc32(value) != crc:
                    raise InputError(
                        f"{self.file} has a damaged {self.noun}: to buy it again, run in sqlite3 "
                        f"\"DELETE FROM {self.noun}s WHERE key = x'{key.hex()}'\""
                    )
                found[key] = value
        return found

    def add(self, db: sqlite3.Connection, answers: Mapping[bytes, bytes], bill: Bill) -> None:
        """Store new answers and their bill, both or neither."""
        rows = [(key, value, zlib.crc32(value)) for key, value in answers.items()]
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(f"INSERT OR REPLACE INTO {self.noun}s VALUES (?, ?, ?)", rows)
            db.execute("INSERT INTO calls VALUES (?, ?, ?)", bill)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _create(noun: str, folder: Path) -> None:
    with closing(sqlite3.connect(folder / f"{noun}s.sqlite")) as db:
        db.execute("PRAGMA journal_mode = WAL")  # allows reading during a call
        db.execute(f"CREATE TABLE {noun}s (key BLOB PRIMARY KEY, {noun} BLOB, crc INTEGER)")
        db.execute("CREATE TABLE calls (texts INTEGER, tokens INTEGER, dollars REAL)")
        db.commit()
