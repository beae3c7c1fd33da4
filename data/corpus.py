"""A source -> passages, queries and judgements, checked.

Files: `passages` (id, title, text), `queries` (id, text) and `qrels` (split, query_id, passage_id,
grade).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import pyarrow as pa

from tercet.artifacts import Artifact, Writer
from tercet.data.sources import Source
from tercet.schema import InputError, Passage, Query

SHARD_ROWS = 100_000


def write_corpus(writer: Writer, source: Source) -> None:
    """Read a source into shards.

    Passages without text are dropped and counted. A judgement whose query or passage is unknown is
    counted and kept: what cannot be found still counts as relevant.

    Raises InputError for a duplicate id, two grades of one pair, or no passage at all.
    """
    facts = writer.facts
    facts |= dict.fromkeys(("passages", "empty_passages", "passages_with_an_equal_text"), 0)
    ids: dict[str, str] = {}
    texts: set[int] = set()

    def kept() -> Iterator[Passage]:
        for place, passage in source.passages():
            _refuse_duplicate(ids, passage.id, place, "passage")
            if not passage.contents:
                facts["empty_passages"] += 1
                continue
            facts["passages"] += 1
            facts["passages_with_an_equal_text"] += hash(passage.contents) in texts
            texts.add(hash(passage.contents))
            yield passage

    _write(writer, "passages", ({"id": p.id, "title": p.title, "text": p.text} for p in kept()))
    if not facts["passages"]:
        raise InputError("the corpus holds no passage with text")
    query_ids: dict[str, str] = {}
    for place, query in source.queries():
        _refuse_duplicate(query_ids, query.id, place, "query")
        if not query.text.strip():
            raise InputError(f"{place}: query {query.id!r} has no text")
    _write(writer, "queries", ({"id": q.id, "text": q.text} for _, q in source.queries()), QUERIES)
    _write(writer, "qrels", _judgements(source, ids, query_ids, facts), QRELS)


QUERIES = pa.schema({"id": pa.string(), "text": pa.string()})
QRELS = pa.schema(
    {"split": pa.string(), "query_id": pa.string(), "passage_id": pa.string(), "grade": pa.int32()}
)


def _judgements(
    source: Source, ids: dict[str, str], query_ids: dict[str, str], facts: dict[str, int]
) -> Iterator[dict[str, object]]:
    facts |= dict.fromkeys(("judgements", "of_unknown_queries", "of_unknown_passages"), 0)
    grades: dict[tuple[str, str, str], int] = {}
    for place, split, query, passage, grade in source.judgements():
        if grades.setdefault((split, query, passage), grade) != grade:
            raise InputError(f"{place}: query {query!r} and passage {passage!r} have two grades")
    for (split, query, passage), grade in grades.items():
        facts["judgements"] += 1
        facts["of_unknown_queries"] += query not in query_ids
        facts["of_unknown_passages"] += passage not in ids
        yield {"split": split, "query_id": query, "passage_id": passage, "grade": grade}


def _refuse_duplicate(seen: dict[str, str], name: str, place: str, noun: str) -> None:
    if name in seen:
        raise InputError(f"{place}: {noun} id {name!r} was used before, at {seen[name]}")
    seen[name] = place


def _write(
    writer: Writer, name: str, rows: Iterable[dict[str, object]], schema: pa.Schema | None = None
) -> None:
    rows, number = iter(rows), 0
    while (block := list(islice(rows, SHARD_ROWS))) or number == 0:

        def make(block: list[dict[str, object]] = block) -> pa.Table:
            return pa.Table.from_pylist(block, schema=schema)

        writer.shard(name, number, make)
        number += 1


def read_passages(corpus: Artifact) -> list[Passage]:
    """The passages, in the corpus's order."""
    rows = corpus.dataset("passages")[:]
    columns = (rows["id"], rows["title"], rows["text"])
    return [Passage(*row) for row in zip(*columns, strict=True)]


def read_judged(corpus: Artifact, split: str) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """The queries of a split in order of id, and its qrels; both empty where there is none.

    A judged query without text is in the qrels alone, so that it counts as found nothing.
    """
    qrels: dict[str, dict[str, int]] = {}
    for row in corpus.dataset("qrels"):
        if row["split"] == split:
            qrels.setdefault(row["query_id"], {})[row["passage_id"]] = row["grade"]
    texts = corpus.dataset("queries")
    queries = [Query(row["id"], row["text"]) for row in texts if row["id"] in qrels]
    return sorted(queries, key=lambda query: query.id), qrels
