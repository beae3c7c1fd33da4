"""Votes on passages, stored as queries and qrels in BEIR's format."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from tercet.core.files import write_file
from tercet.core.schema import InputError

_FOLDER, _QUERIES, _QRELS = "votes", "queries.jsonl", "qrels/test.tsv"
_HEADER = ["query-id", "corpus-id", "score"]


class Votes:
    """Votes on one run's passages: the last vote on a query and passage counts."""

    def __init__(self, run: Path) -> None:
        self.folder = run / _FOLDER

    def cast(self, query: str, passage: str, relevant: bool) -> None:
        """Write a vote to disk. Raises InputError for an empty query."""
        query = " ".join(query.split())
        if not query:
            raise InputError("a vote needs a query")
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            queries, grades = self.queries(), self.qrels()
            id = next((id for id, text in queries.items() if text == query), "")
            id = id or "vote-" + hashlib.sha256(query.encode()).hexdigest()[:12]
            queries[id] = query
            grades[id, passage] = int(relevant)
            lines = (
                json.dumps({"_id": i, "text": t}, ensure_ascii=False) for i, t in queries.items()
            )
            write_file(self.folder / _QUERIES, "".join(f"{line}\n" for line in lines).encode())
            text = io.StringIO(newline="")
            rows = csv.writer(text, delimiter="\t", lineterminator="\n")
            rows.writerows([_HEADER, *([q, p, grade] for (q, p), grade in grades.items())])
            (self.folder / _QRELS).parent.mkdir(exist_ok=True)
            write_file(self.folder / _QRELS, text.getvalue().encode())

    def queries(self) -> dict[str, str]:
        """Query id -> text."""
        with _read(self.folder / _QUERIES) as text:
            rows = map(json.loads, text.splitlines())
            found = {"" + row["_id"]: "" + row["text"] for row in rows}  # raises for no text
            "".join([*found, *found.values()]).encode()  # raises for half a surrogate pair
            return found

    def qrels(self) -> dict[tuple[str, str], int]:
        """(query id, passage id) -> 1 for relevant, 0 for not."""
        with _read(self.folder / _QRELS) as text:
            rows = [*csv.reader(io.StringIO(text, newline=""), delimiter="\t")][1:]
            return {(query, passage): int(grade) for query, passage, grade in rows}

    def of(self, query: str) -> dict[str, int]:
        """Passage id -> grade for the text of one query."""
        query = " ".join(query.split())
        ids = {id for id, text in self.queries().items() if text == query}
        return {passage: grade for (id, passage), grade in self.qrels().items() if id in ids}


@contextmanager
def _read(path: Path) -> Iterator[str]:
    """The text of a file, empty if there is none; one that cannot be read is left as it is."""
    try:
        yield path.read_text(encoding="utf-8") if path.exists() else ""
    except (LookupError, TypeError, ValueError, csv.Error):
        raise InputError(
            f"{path} is damaged: mend it, or move it away to begin with no votes"
        ) from None
