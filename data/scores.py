"""Candidates -> teacher scores; each distinct (query, passage) pair is scored once.

Files: `pairs` (query, passage, score), the distinct pairs sorted by length, as positions among the
distinct queries and the passages; `lists` (query_id, query, passages, scores), the positive first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from tercet.core.artifacts import Writer
from tercet.core.console import progress
from tercet.core.mapped import counted, counts_of, read_table
from tercet.core.resources import OF_READERS, counting
from tercet.core.schema import Diverged, Teacher
from tercet.core.text import excerpt
from tercet.data.passages import Passages

# No cross-encoder has larger logits; a faulty score would dominate the squared error.
_LARGEST = 1e4
_BLOCK = 65_536  # pairs tokenised at a time


def score_candidates(
    writer: Writer,
    candidates: Dataset,
    passages: Passages,
    teacher: Teacher,
    *,
    shard_pairs: int,
) -> None:
    """Score every query with its positive and its candidates.

    Raises Diverged naming the query and the passage if a score is not finite, or absurd.
    """
    rows = passages.rows(_every_passage(candidates))
    queries: dict[str, int] = {}
    lists = [
        (queries.setdefault(row["query"], len(queries)), [row["positive"], *row["passages"]])
        for row in candidates
    ]
    texts, size = list(queries), len(passages)
    of_text = dict(zip(candidates["query"][:], candidates["query_id"][:], strict=True))
    ids = [of_text[text] for text in texts]
    # A pair is one integer, so that millions can be sorted and looked up as an array.
    keys = np.array([q * size + rows[p] for q, ids in lists for p in ids])
    unique = np.unique(keys)

    def pairs(block: np.ndarray) -> list[tuple[str, str]]:
        return [(texts[key // size], passages.contents[key % size]) for key in block.tolist()]

    def make(block: np.ndarray) -> pa.Table:
        with counting(teacher) as counts:
            table = _score(teacher, pairs(block), block, ids, size)
        return counted(table, counts)

    lengths = np.concatenate(
        [teacher.lengths(pairs(unique[i : i + _BLOCK])) for i in range(0, len(unique), _BLOCK)]
    )
    # Longest first: a lack of memory shows at once.
    longest_first = np.argsort(-lengths, kind="stable")
    order, tokens = unique[longest_first], np.append(0, np.cumsum(lengths[longest_first]))
    blocks = [order[start : start + shard_pairs] for start in range(0, len(order), shard_pairs)]
    what = f"scoring pairs with {Path(teacher.name).name}"
    with progress(what, len(order), "pairs", by_model=True, work=lambda n: tokens[n]) as advance:
        paths = writer.shards("pairs", blocks, make, advance)
    if paths is None:
        return
    scores = _read_scores(paths, order, unique)
    by_key = scores[np.searchsorted(unique, keys)]
    ends = np.cumsum([len(ids) for _, ids in lists])
    table = pa.table(
        {
            "query_id": pa.array(candidates["query_id"][:]),
            "query": pa.array(candidates["query"][:]),
            "passages": pa.array([ids for _, ids in lists]),
            "scores": pa.array(np.split(by_key, ends[:-1]), type=pa.list_(pa.float32())),
        }
    )
    writer.shard("lists", 0, table)
    writer.facts |= {"queries": len(lists), "scores": len(keys), "pairs_scored": len(unique)}
    writer.facts |= counts_of(paths, OF_READERS)


def _every_passage(candidates: Dataset) -> set[str]:
    positives = set(candidates["positive"])
    return positives.union(*candidates["passages"])


def _score(
    teacher: Teacher, pairs: list[tuple[str, str]], keys: np.ndarray, ids: Sequence[str], size: int
) -> pa.Table:
    """The scores of pairs; `ids` are those of the queries, `size` the number of passages."""

    def of_query(row: int) -> str:
        return f"query {ids[keys[row] // size]!r}"

    try:
        scores = teacher.score(pairs)
    except Diverged as error:
        if error.row is None:
            raise
        raise Diverged(f"{of_query(error.row)}: {error}") from error
    wrong = np.flatnonzero(~(np.abs(scores) < _LARGEST))
    if len(wrong):
        query, passage = pairs[wrong[0]]
        raise Diverged(
            f"{of_query(wrong[0])}: teacher {teacher.name} scored {scores[wrong[0]]} for "
            f"{excerpt(query, 80)!r} and passage {excerpt(passage, 80)!r}: not a usable number "
            f"({len(wrong)} of {len(pairs)})"
        )
    return pa.table(
        {
            "query": pa.array(keys // size, type=pa.int64()),
            "passage": pa.array(keys % size, type=pa.int64()),
            "score": pa.array(scores, type=pa.float32()),
        }
    )


def _read_scores(paths: Sequence[Path], order: np.ndarray, unique: np.ndarray) -> np.ndarray:
    """Scores in the order of `unique`; the shards are in the order of `order`."""
    parts = [read_table(path)["score"].to_numpy() for path in paths]
    scores = np.empty(len(unique), dtype=np.float32)
    scores[np.searchsorted(unique, order)] = np.concatenate(parts)
    return scores
