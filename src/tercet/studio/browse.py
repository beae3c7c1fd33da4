"""A run's data, page by page: passages, queries, scored candidate lists, dropped queries.

Tables are memory-mapped; a search reads all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tercet.core.artifacts import Artifact, existing
from tercet.core.mapped import read_table
from tercet.core.schema import InputError
from tercet.data import Passages
from tercet.data.triplets import FILTERED, LEFT_OUT, source_rank

SIZE = 15  # rows a page
_SHORT = 160  # characters of a text in a table


@dataclass(frozen=True)
class Page:
    """Some rows of one kind of data."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    #: Number of matching rows on all pages.
    total: int
    #: Counts from the stage's manifest.
    note: str = ""


@dataclass(frozen=True)
class Text:
    """A text with a heading and facts about it, shown beside others."""

    heading: str
    text: str
    facts: Sequence[str] = ()
    #: Whether the others belong to it: the query of a list.
    first: bool = False


class Data:
    """The data written by one run's stages."""

    def __init__(self, run: Path) -> None:
        self.run = run

    @property
    def kinds(self) -> list[str]:
        """The kinds of data that the run has so far."""
        return [kind for kind, (stage, *_) in _KINDS.items() if existing(self.run / stage)]

    def page(self, kind: str, search: str = "", number: int = 0) -> Page:
        """Page `number`, from 0, of the rows that contain `search`, in any case."""
        stage, prefix, columns, row = self._kind(kind)
        rows: list[Sequence[Any]] = []
        total, start = 0, max(0, number) * SIZE
        for table in _tables(self._artifact(stage), prefix):
            found = _matches(table, kind, columns, search)
            here = found[max(0, start - total) : max(0, start + SIZE - total)]
            rows += [row(self, _at(table, int(place))) for place in here]
            total += len(found)
        return Page(_HEADERS[kind], rows, total, self._note(kind))

    def texts(self, kind: str, key: str) -> list[Text]:
        """The texts of the row with id `key`. Raises InputError if there is no such row."""
        stage, prefix, columns, _ = self._kind(kind)
        for table in _tables(self._artifact(stage), prefix):
            place = pc.index(table[columns[0]], key).as_py()
            if place >= 0:
                return _TEXTS[kind](self, _at(table, place))
        raise InputError(f"{kind} have no {key!r}")

    def _kind(self, kind: str) -> tuple[str, str, tuple[str, ...], Callable[..., list[Any]]]:
        if kind not in self.kinds:
            raise InputError(f"there are no {kind} in {self.run.name} yet")
        return _KINDS[kind]

    def _artifact(self, stage: str) -> Artifact:
        artifact = existing(self.run / stage)
        if artifact is None:
            raise InputError(f"{self.run.name} has no {stage} yet")
        return artifact

    def _note(self, kind: str) -> str:
        facts = self._artifact("triplets" if kind == _DROPPED else _KINDS[kind][0]).facts
        if kind == _QUERIES or kind == _DROPPED:
            counts = {k: v for k, v in facts.items() if isinstance(v, int) and v and _counts(k)}
            return ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in counts.items())
        return ""

    def queries(self, ids: Iterable[str]) -> dict[str, str]:
        """Query id -> text of test queries, which are judged or, without judgements, synthetic."""
        wanted = [*ids]
        found: dict[str, str] = {}
        for stage, prefix, id, text in (
            ("corpus", "queries", "id", "text"),
            ("queries", "queries", "id", "query"),
        ):
            for table in _tables(self._artifact(stage), prefix):
                rows = table.filter(pc.is_in(table[id], pa.array(wanted, table[id].type)))
                found |= dict(zip(rows[id].to_pylist(), rows[text].to_pylist(), strict=True))
        return found

    def passages(self) -> Passages:
        """The corpus."""
        return Passages.read(self._artifact("corpus"))

    def scores(self, query: str) -> list[float] | None:
        """The targets of a query's candidate list, or None before they are computed."""
        targets = existing(self.run / "targets")
        for table in _tables(targets, "targets") if targets else ():
            place = pc.index(table["query_id"], query).as_py()
            if place >= 0:
                return list(table["target"][place].as_py())
        return None


def _counts(name: str) -> bool:
    return not name.startswith(("tokens", "texts", "read", "written"))


def _tables(artifact: Artifact, prefix: str) -> Iterator[pa.Table]:
    yield from map(read_table, artifact.shards(prefix))


def _matches(table: pa.Table, kind: str, columns: Sequence[str], search: str) -> np.ndarray:
    """Indices of the rows that contain the search words: int64."""
    mask = np.ones(len(table), bool)
    if kind == _DROPPED:
        mask &= np.isin(np.array(table["split"]), [FILTERED, LEFT_OUT])
    if search.strip():
        held = np.zeros(len(table), bool)
        for column in columns:
            matched = pc.match_substring(table[column], search.strip(), ignore_case=True)
            held |= np.array(matched.fill_null(False))
        mask &= held
    return np.flatnonzero(mask)


def _at(table: pa.Table, place: int) -> dict[str, Any]:
    return dict(table.slice(place, 1).to_pylist()[0])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def _passage(data: Data, row: dict[str, Any]) -> list[Any]:
    return [row["id"], row["title"], _short(row["text"])]


def _query(data: Data, row: dict[str, Any]) -> list[Any]:
    return [row["id"], _short(row["query"]), row["passage_id"], row["generator"]]


def _list(data: Data, row: dict[str, Any]) -> list[Any]:
    ranks = [source_rank(row[name]) for name in ("teacher", "student")]
    return [row["query_id"], _short(row["query"]), row["split"], len(row["passages"]) - 1, *ranks]


def _judged(data: Data, row: dict[str, Any]) -> list[Any]:
    return [row["id"], _short(row["text"])]


_PASSAGES, _QUERIES, _LISTS = "passages", "synthetic queries", "candidates with scores"
_DROPPED, _JUDGED = "dropped queries", "judged queries"
_HEADERS = {
    _PASSAGES: ("id", "title", "text"),
    _QUERIES: ("id", "query", "passage", "written by"),
    _LISTS: ("id", "query", "split", "candidates", "source passage's rank, teacher", "model"),
    _DROPPED: ("id", "query", "why", "candidates", "source passage's rank, teacher", "model"),
    _JUDGED: ("id", "query"),
}
#: Kind -> its stage, the prefix of its shards, the searched columns (the id first), and the
#: function from a row of data to a row of the table.
_KINDS: dict[str, tuple[str, str, tuple[str, ...], Callable[..., list[Any]]]] = {
    _PASSAGES: ("corpus", "passages", ("id", "title", "text"), _passage),
    _QUERIES: ("queries", "queries", ("id", "query", "passage_id"), _query),
    _LISTS: ("triplets", "lists", ("query_id", "query"), _list),
    _DROPPED: ("triplets", "lists", ("query_id", "query"), _list),
    _JUDGED: ("corpus", "queries", ("id", "text"), _judged),
}


def _of_passage(data: Data, row: dict[str, Any]) -> list[Text]:
    return [Text(row["title"] or row["id"], row["text"], [row["id"]], first=True)]


def _of_query(data: Data, row: dict[str, Any]) -> list[Text]:
    passages = data.passages()
    found = passages.rows([row["passage_id"]])
    own = [passages[at] for at in found.values()]
    return [
        Text("query", row["query"], [row["id"], row["generator"]], first=True),
        *(Text(p.title or p.id, p.text, [p.id, "the passage it was written about"]) for p in own),
    ]


def _of_list(data: Data, row: dict[str, Any]) -> list[Text]:
    passages, targets = data.passages(), data.scores(row["query_id"])
    rows = passages.rows(row["passages"])
    texts = [Text("query", row["query"], [row["query_id"], row["split"]], first=True)]
    order = np.argsort(-np.array(row["teacher"]), kind="stable").tolist()
    for place in order:
        id = row["passages"][place]
        passage = passages[rows[id]]
        facts = [id, f"teacher {row['teacher'][place]:.2f}", f"model {row['student'][place]:.3f}"]
        facts += [f"target {targets[place]:.3f}"] if targets else []
        own = "source passage: " if place == 0 else ""
        texts.append(Text(f"{own}{passage.title or id}", passage.text, facts))
    return texts


def _of_judged(data: Data, row: dict[str, Any]) -> list[Text]:
    passages, grades = data.passages(), {}
    for table in _tables(data._artifact("corpus"), "qrels"):
        for judged in table.filter(pc.equal(table["query_id"], row["id"])).to_pylist():
            grades[judged["passage_id"]] = judged["grade"]
    texts = [Text("query", row["text"], [row["id"]], first=True)]
    for id, at in passages.rows(sorted(grades, key=lambda id: -grades[id])).items():
        passage = passages[at]
        texts.append(Text(passage.title or id, passage.text, [id, f"grade {grades[id]}"]))
    return texts


_TEXTS: dict[str, Callable[[Data, dict[str, Any]], list[Text]]] = {
    _PASSAGES: _of_passage,
    _QUERIES: _of_query,
    _LISTS: _of_list,
    _DROPPED: _of_list,
    _JUDGED: _of_judged,
}
