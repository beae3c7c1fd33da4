"""Source -> checked passages, queries and relevance judgements.

Files: `passages` (id, title, text), `twins` (row, group) with the passages that have duplicates,
`queries` (id, text), `qrels` (split, query_id, passage_id, grade) and `judged`, which says what can
be made of each judged query (`data/judgements.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from tercet.core.artifacts import Writer
from tercet.core.mapped import fingerprint, read_table
from tercet.core.schema import InputError, Passage, Source
from tercet.data.judgements import SCHEMA as JUDGED, judged_rows, known_of
from tercet.data.passages import SCHEMA, Passages, find_duplicates, repeated

#: Maximum size of a shard of passages.
SHARD_ROWS, _SHARD_CHARACTERS = 16_384, 1 << 25
_QUERIES = pa.schema({"id": pa.string(), "text": pa.string()})
_QRELS = pa.schema(
    {"split": pa.string(), "query_id": pa.string(), "passage_id": pa.string(), "grade": pa.int32()}
)


def write_corpus(writer: Writer, source: Source) -> None:
    """Read a source and write it as shards.

    Passages without text are dropped and counted. Judgements of unknown queries or passages are
    counted and kept: a relevant passage that cannot be found still lowers recall.

    Raises InputError for a duplicate id, two grades of one pair, or no passage at all.
    """
    passages = _write_passages(writer, source)
    query_ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    for place, query in source.queries():
        _refuse_duplicate(query_ids, query.id, place, "query")
        if not query.text.strip():
            raise InputError(f"{place}: query {query.id!r} has no text")
        texts[query.id] = query.text
    _write(writer, "queries", ({"id": q.id, "text": q.text} for _, q in source.queries()), _QUERIES)
    grades = _grades(source)
    documents = getattr(source, "documents", False) is True
    judged = {passage for _, _, passage in grades}
    known = known_of(passages, judged, documents=documents)
    writer.facts |= {
        "judgements": len(grades),
        "of_unknown_queries": sum(query not in query_ids for _, query, _ in grades),
        "of_unknown_passages": sum(passage not in known for _, _, passage in grades),
    }
    rows = (
        {"split": split, "query_id": query, "passage_id": passage, "grade": grade}
        for (split, query, passage), grade in grades.items()
    )
    _write(writer, "qrels", rows, _QRELS)
    judged_as = judged_rows(grades, texts, passages, known, documents=documents)
    _write(writer, "judged", judged_as, JUDGED)


def _write_passages(writer: Writer, source: Source) -> Passages:
    """Write the passages as shards, with 16 bytes per passage in memory."""
    ids, texts, empty = array("Q"), array("Q"), 0

    def kept() -> Iterator[Passage]:
        nonlocal empty
        for _, passage in source.passages():
            ids.append(fingerprint(passage.id))
            if passage.contents:
                texts.append(fingerprint(passage.contents))
                yield passage
            else:
                empty += 1

    paths = []
    for number, block in enumerate(_shards(kept())):
        rows = [{"id": p.id, "title": p.title, "text": p.text} for p in block]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        paths.append(writer.shard("passages", number, table))
    _refuse_duplicates(source, set(repeated(np.array(ids)).tolist()))
    if not texts:
        raise InputError("the corpus holds no passage with text")
    fingerprints = np.array(texts)
    passages = Passages([read_table(path) for path in paths])
    writer.shard("twins", 0, find_duplicates(passages.contents, fingerprints))
    writer.facts |= {
        "passages": len(texts),
        "empty_passages": empty,
        "passages_with_an_equal_text": len(texts) - len(np.unique(fingerprints)),
    }
    return passages


def _shards(passages: Iterator[Passage]) -> Iterator[list[Passage]]:
    block: list[Passage] = []
    characters = 0
    for passage in passages:
        block.append(passage)
        characters += len(passage.title) + len(passage.text)
        if len(block) == SHARD_ROWS or characters >= _SHARD_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _refuse_duplicates(source: Source, suspects: set[int]) -> None:
    """Raise InputError with both places of a duplicate id; reads the source again if needed."""
    seen: dict[str, str] = {}
    for place, passage in source.passages() if suspects else ():
        if fingerprint(passage.id) in suspects:
            _refuse_duplicate(seen, passage.id, place, "passage")


def _refuse_duplicate(seen: dict[str, str], name: str, place: str, noun: str) -> None:
    if name in seen:
        raise InputError(f"{place}: {noun} id {name!r} was used before, at {seen[name]}")
    seen[name] = place


def _grades(source: Source) -> dict[tuple[str, str, str], int]:
    """(split, query, passage) -> grade."""
    grades: dict[tuple[str, str, str], int] = {}
    for place, split, query, passage, grade in source.judgements():
        if grades.setdefault((split, query, passage), grade) != grade:
            raise InputError(f"{place}: query {query!r} and passage {passage!r} have two grades")
    return grades


def _write(writer: Writer, name: str, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    rows, number = iter(rows), 0
    while (block := list(islice(rows, SHARD_ROWS))) or number == 0:
        table = pa.Table.from_pylist(block, schema=schema)
        writer.shard(name, number, table)
        number += 1
