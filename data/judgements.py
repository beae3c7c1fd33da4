"""Judged queries of a corpus: which can be answered, and which are passages of it themselves.

The shards `judged` (split, query_id, text, relevant, own, parts) say of each judged query of each
split whether it has a text and a relevant passage in the corpus, how many passages are its own text
under its own id, as in ArguAna and Quora, and how many a judged document has at most, or 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from tercet.core.artifacts import Artifact
from tercet.core.schema import InputError, Query, document_of
from tercet.data.near_duplicates import normalised
from tercet.data.passages import Passages

#: (split, query, passage) -> grade.
Grades = Mapping[tuple[str, str, str], int]
_KINDS = {"text": pa.bool_(), "relevant": pa.bool_(), "own": pa.int32(), "parts": pa.int32()}
SCHEMA = pa.schema({"split": pa.string(), "query_id": pa.string(), **_KINDS})


def known_of(passages: Passages, names: Collection[str], *, documents: bool) -> dict[str, int]:
    """The names that are passages or, with `documents`, documents: how many passages each has."""
    known = dict.fromkeys(passages.rows(names), 1)
    if documents:
        of = ((id, document_of(id)) for id in passages.ids)
        known |= Counter(document for id, document in of if document in names and id != document)
    return known


def judged_rows(
    grades: Grades,
    texts: Mapping[str, str],
    passages: Passages,
    known: Mapping[str, int],
    *,
    documents: bool = False,
) -> Iterator[dict[str, Any]]:
    """The rows of `judged`; `known` are the judged passages, or documents, that are there."""
    queries: dict[tuple[str, str], set[str]] = {}
    for (split, query, passage), grade in grades.items():
        relevant = queries.setdefault((split, query), set())
        if grade > 0:
            relevant.add(passage)
    own = _own({query: texts[query] for _, query in queries if query in texts}, passages)
    for (split, query), relevant in queries.items():
        yield {
            "split": split,
            "query_id": query,
            "text": query in texts,
            "relevant": any(passage in known for passage in relevant),
            "own": 0 if query in relevant else own.get(query, 0),
            "parts": max(known.values(), default=1) if documents else 0,
        }


def _own(queries: Mapping[str, str], passages: Passages) -> dict[str, int]:
    """The queries that are passages themselves, or documents: how many passages each is."""
    split = "#" in passages.ids[0]
    there = known_of(passages, queries.keys(), documents=split)
    return {
        query: parts
        for query, parts in there.items()
        if is_own(queries[query], text_of(passages, query, parts))
    }


def passages_named(name: str, queries: Sequence[Query]) -> list[str]:
    """The ids of the passages that the name in a judgement of these queries may stand for."""
    parts = queries[0].parts if queries else 0
    return [name, *(f"{name}#{number}" for number in range(1, parts + 1))]


def text_of(passages: Passages, name: str, parts: int) -> str:
    """The text of a passage, or of a document's passages."""
    ids = [name, *(f"{name}#{number}" for number in range(1, parts + 1))]
    found = passages.texts(ids)
    return " ".join(found[id] for id in ids if id in found)


def is_own(query: str, passage: str) -> bool:
    """Whether a passage with a query's id is that query's text: half of their words or more.

    Ids that are numbers meet by chance, as Vaswani's do: such a passage is another text.
    """
    of_query, of_passage = (set(normalised(text).split()) for text in (query, passage))
    return 2 * len(of_query & of_passage) >= len(of_query | of_passage) > 0


@dataclass(frozen=True)
class Judged:
    """The judged queries of a split by id, their judgements, and what was left out of them."""

    queries: list[Query]
    qrels: dict[str, dict[str, int]]
    #: Of all judged queries of the split: those without a text, and those without a relevant
    #: passage in the corpus though with a text.
    total: int = 0
    without_text: int = 0
    without_relevant: int = 0
    #: Whether these are left out, or count as zero.
    left_out: bool = True

    @property
    def own(self) -> int:
        """The number of queries whose own passage no ranking holds."""
        return sum(query.own > 0 for query in self.queries)

    @property
    def faults(self) -> list[str]:
        """Of the queries that nothing can answer, how many there are and what becomes of them."""
        does = (
            "left out (evaluation.unanswerable: zero counts them)"
            if self.left_out
            else "every system has zero there (evaluation.unanswerable: leave_out leaves them out)"
        )
        return [
            f"{count:,} of {self.total:,} judged queries have no {what}: {does}"
            for count, what in (
                (self.without_text, "text"),
                (self.without_relevant, "relevant passage in the corpus"),
            )
            if count
        ]

    @property
    def notes(self) -> list[str]:
        """What is said beside figures of these queries."""
        if not self.own:
            return self.faults
        return [
            *self.faults,
            f"{self.own:,} of {len(self.queries):,} judged queries are passages of the corpus "
            "themselves: their rankings leave that passage out (evaluation.leave_out)",
        ]

    def by_passages(self, passages: Passages) -> Judged:
        """With judgements of each passage of a document in place of the document's."""
        if not any(query.parts for query in self.queries):
            return self
        qrels = {
            query: {
                id: grade
                for name, grade in grades.items()
                for id in passages.rows(passages_named(name, self.queries))
            }
            for query, grades in self.qrels.items()
        }
        queries = [replace(query, parts=0) for query in self.queries]
        return replace(self, queries=queries, qrels=qrels)

    def only(self, ids: Collection[str]) -> Judged:
        """Those of some queries."""
        qrels = {query: grades for query, grades in self.qrels.items() if query in ids}
        queries = [query for query in self.queries if query.id in ids]
        return replace(self, queries=queries, qrels=qrels)


def read_judged(
    corpus: Artifact,
    split: str,
    *,
    leave_out: Literal["source_passage", "none"] = "source_passage",
    unanswerable: Literal["leave_out", "zero"] = "leave_out",
    refuse: bool = True,
) -> Judged:
    """The judged queries of a split; without any if there is no such split.

    With `unanswerable` zero, queries that nothing can answer stay: one without text is in the qrels
    alone, so that its metrics are zero. Raises InputError if none can be answered, unless `refuse`
    is False: then there are none.
    """
    facts = {row["query_id"]: row for row in _rows(corpus, "judged") if row["split"] == split}
    answered = {query for query, row in facts.items() if row["text"] and row["relevant"]}
    if facts and not answered and refuse:
        raise InputError(_unanswerable(corpus, split, facts.values()))
    kept = answered if unanswerable == "leave_out" else facts.keys()
    qrels: dict[str, dict[str, int]] = {}
    for row in corpus.dataset("qrels"):
        if row["split"] == split and row["query_id"] in kept:
            qrels.setdefault(row["query_id"], {})[row["passage_id"]] = row["grade"]
    texts = {row["id"]: row["text"] for row in corpus.dataset("queries") if row["id"] in qrels}
    queries = [
        Query(
            query,
            text,
            own=facts[query]["own"] if leave_out == "source_passage" else 0,
            parts=facts[query]["parts"],
        )
        for query, text in texts.items()
    ]
    return Judged(
        queries=sorted(queries, key=lambda query: query.id),
        qrels=qrels,
        total=len(facts),
        without_text=sum(not row["text"] for row in facts.values()),
        without_relevant=sum(row["text"] and not row["relevant"] for row in facts.values()),
        left_out=unanswerable == "leave_out",
    )


def missing_split(corpus: Artifact, split: str) -> str:
    """A sentence for judgements of other splits alone; "" if there are some of it, or none."""
    splits = Counter(row["split"] for row in _rows(corpus, "judged"))
    if split in splits or not splits:
        return ""
    there = ", ".join(f"{name!r} ({count:,} queries)" for name, count in sorted(splits.items()))
    return (
        f"no judgements are of corpus.test_split {split!r}: there are {there}; held-out synthetic "
        "queries are reported in their place"
    )


def _rows(corpus: Artifact, shards: str) -> Iterable[dict[str, Any]]:
    if not any(name.startswith(f"{shards}-") for name in corpus.manifest["files"]):
        raise InputError(
            f"{corpus.path} has no {shards}: an earlier version made it: run `tercet adapt` with "
            "its recipe again"
        )
    rows: Iterable[dict[str, Any]] = corpus.dataset(shards)
    return rows


def _unanswerable(corpus: Artifact, split: str, facts: Iterable[dict[str, Any]]) -> str:
    """Why no judged query of a split can be answered, with an id of each side."""
    facts = list(facts)
    graded = [row for row in _rows(corpus, "qrels") if row["split"] == split]
    first = next((row for row in graded if row["grade"] > 0), graded[0])
    what = f"none of the {len(facts):,} judged queries of split {split!r} can be answered"
    if not any(row["text"] for row in facts):
        example = next((repr(row["id"]) for row in _rows(corpus, "queries")), "no query")
        why = f"none has a text: the judgements name {first['query_id']!r}, the queries {example}"
    elif first["grade"] <= 0:
        why = f"no grade of the {len(graded):,} judgements is above 0"
    else:
        example = next(repr(row["id"]) for row in _rows(corpus, "passages"))
        why = (
            "no relevant passage is in the corpus: the judgements name "
            f"{first['passage_id']!r}, and an id of the corpus is {example}"
        )
    return f"{what}: {why}"


def texts_of(passages: Passages, names: Collection[str]) -> dict[str, str]:
    """The texts of passages, and of documents the first passage's."""
    found = passages.texts(names)
    first = passages.texts(f"{name}#1" for name in names if name not in found)
    return found | {document_of(id): text for id, text in first.items()}
