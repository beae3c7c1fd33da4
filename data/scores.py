"""Candidates -> teacher scores, each different (query, passage) pair scored once.

Files: `pairs` (query, passage, score), the unique pairs sorted by length, with positions in the
lists of different queries and passages; `lists` (query_id, query, passages, scores), the positive
first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from tercet.artifacts import Writer, read_table
from tercet.console import progress
from tercet.schema import InputError, Teacher

#: No cross-encoder says this much; a score beyond it is a fault, and would ruin a mean of squares.
LARGEST = 1e4
BLOCK = 65_536


def score_candidates(
    writer: Writer,
    candidates: Dataset,
    ids: Sequence[str],
    contents: Sequence[str],
    teacher: Teacher,
    *,
    shard_pairs: int,
) -> None:
    """Score every query with its positive and its candidates.

    Raises InputError naming the query and the passage if a score is not finite.
    """
    rows = {passage: row for row, passage in enumerate(ids)}
    queries: dict[str, int] = {}
    lists = [
        (queries.setdefault(row["query"], len(queries)), [row["positive"], *row["passages"]])
        for row in candidates
    ]
    texts = list(queries)
    # A pair is one number, so that millions of them sort and look up as an array.
    keys = np.array([q * len(ids) + rows[p] for q, passages in lists for p in passages])
    unique = np.unique(keys)

    def pairs(block: np.ndarray) -> list[tuple[str, str]]:
        return [(texts[key // len(ids)], contents[key % len(ids)]) for key in block.tolist()]

    lengths = np.concatenate(
        [teacher.lengths(pairs(unique[i : i + BLOCK])) for i in range(0, len(unique), BLOCK)]
    )
    # Longest first: if memory does not suffice, it shows at once.
    order = unique[np.argsort(-lengths, kind="stable")]
    with progress(f"scoring pairs with {teacher.name}", len(order), "pairs") as advance:
        for number, start in enumerate(range(0, len(order), shard_pairs)):
            block = order[start : start + shard_pairs]

            def make(block: np.ndarray = block) -> pa.Table:
                return _score(teacher, pairs(block), block, len(ids))

            writer.shard("pairs", number, make)
            advance(len(block))
    scores = _read_scores(writer, order, unique)
    by_key = scores[np.searchsorted(unique, keys)]
    ends = np.cumsum([len(passages) for _, passages in lists])
    table = pa.table(
        {
            "query_id": pa.array(candidates["query_id"][:]),
            "query": pa.array(candidates["query"][:]),
            "passages": pa.array([passages for _, passages in lists]),
            "scores": pa.array(np.split(by_key, ends[:-1]), type=pa.list_(pa.float32())),
        }
    )
    writer.shard("lists", 0, lambda: table)
    writer.facts |= {"queries": len(lists), "scores": len(keys), "pairs_scored": len(unique)}


def _score(
    teacher: Teacher, pairs: list[tuple[str, str]], keys: np.ndarray, passages: int
) -> pa.Table:
    scores = teacher.score(pairs)
    wrong = np.flatnonzero(~(np.abs(scores) < LARGEST))
    if len(wrong):
        query, passage = pairs[wrong[0]]
        raise InputError(
            f"teacher {teacher.name} scored {scores[wrong[0]]} for query {query!r} "
            f"and passage {passage[:80]!r}: not a usable number ({len(wrong)} of {len(pairs)})"
        )
    return pa.table(
        {
            "query": pa.array(keys // passages, type=pa.int64()),
            "passage": pa.array(keys % passages, type=pa.int64()),
            "score": pa.array(scores, type=pa.float32()),
        }
    )


def _read_scores(writer: Writer, order: np.ndarray, unique: np.ndarray) -> np.ndarray:
    """Scores in the order of `unique`, from the shards in the order of `order`."""
    parts = []
    for path in sorted(writer.folder.glob("pairs-*.arrow")):
        parts.append(read_table(path)["score"].to_numpy())
    scores = np.empty(len(unique), dtype=np.float32)
    scores[np.searchsorted(unique, order)] = np.concatenate(parts)
    return scores
