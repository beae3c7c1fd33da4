"""Candidates -> scores; each distinct (query, passage) pair is scored once by each scorer.

Files: `pairs` (query, passage, score), the distinct pairs sorted by length, as positions among the
distinct queries and the passages; `lists` (query_id, query, passages, scores), the positive first.
The pairs of several scorers are artifacts of their own.
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
    """Score every query with its positive and its candidates, and write both files.

    Raises Diverged naming the query and the passage if a score is not finite, or absurd.
    """
    paths = score_pairs(writer, candidates, passages, teacher, shard_pairs=shard_pairs)
    if paths is not None:
        write_lists(writer, candidates, passages, [paths])


def score_pairs(
    writer: Writer,
    candidates: Dataset,
    passages: Passages,
    teacher: Teacher,
    *,
    shard_pairs: int,
) -> list[Path] | None:
    """Write the scores of the distinct pairs alone; returns the shards, in the first process."""
    pairs = _Pairs(candidates, passages)
    # A pair is one integer, so that millions can be sorted and looked up as an array.
    unique = np.unique(pairs.keys)

    def make(block: np.ndarray) -> pa.Table:
        with counting(teacher) as counts:
            table = _score(teacher, pairs.texts(block), block, pairs.ids, pairs.size)
        return counted(table, counts)

    starts = range(0, len(unique), _BLOCK)
    lengths = np.concatenate([teacher.lengths(pairs.texts(unique[i : i + _BLOCK])) for i in starts])
    # Longest first: a lack of memory shows at once.
    longest_first = np.argsort(-lengths, kind="stable")
    order, tokens = unique[longest_first], np.append(0, np.cumsum(lengths[longest_first]))
    blocks = np.split(order, _cuts(order // pairs.size, lengths, shard_pairs))
    what = f"scoring pairs with {Path(teacher.name).name}"
    with progress(what, len(order), "pairs", by_model=True, work=lambda n: tokens[n]) as advance:
        paths = writer.shards("pairs", blocks, make, advance)
    if paths is not None:
        writer.facts |= {"pairs_scored": len(unique), **counts_of(paths, OF_READERS)}
    return paths


def write_lists(
    writer: Writer, candidates: Dataset, passages: Passages, scored: Sequence[Sequence[Path]]
) -> None:
    """Write the lists with the scores in the `pairs` of each scorer.

    Of several scorers `scores` holds a list for each of them.
    """
    pairs = _Pairs(candidates, passages)
    each = [_scores_of(paths, pairs.keys, pairs.size) for paths in scored]
    columns = [pa.array(np.split(one, pairs.ends[:-1]), pa.list_(pa.float32())) for one in each]
    table = pa.table(
        {
            "query_id": pa.array(candidates["query_id"][:]),
            "query": pa.array(candidates["query"][:]),
            "passages": pa.array([ids for _, ids in pairs.lists]),
            "scores": columns[0] if len(columns) == 1 else _beside(columns),
        }
    )
    writer.shard("lists", 0, table)
    writer.facts |= {"queries": len(pairs.lists), "scores": len(pairs.keys) * len(columns)}


class _Pairs:
    """Each list's pairs as integers: the distinct query's number times `size`, plus a row."""

    def __init__(self, candidates: Dataset, passages: Passages) -> None:
        self._contents, self.size = passages.contents, len(passages)
        rows, queries = passages.rows(_every_passage(candidates)), dict[str, int]()
        self.lists = [
            (queries.setdefault(row["query"], len(queries)), [row["positive"], *row["passages"]])
            for row in candidates
        ]
        self._queries = list(queries)
        of_text = dict(zip(candidates["query"][:], candidates["query_id"][:], strict=True))
        self.ids = [of_text[text] for text in self._queries]
        self.keys = np.array([q * self.size + rows[p] for q, ids in self.lists for p in ids])
        self.ends = np.cumsum([len(ids) for _, ids in self.lists])

    def texts(self, keys: np.ndarray) -> list[tuple[str, str]]:
        """Query and passage of each pair."""
        rows = (divmod(key, self.size) for key in keys.tolist())
        return [(self._queries[query], self._contents[row]) for query, row in rows]


def _cuts(queries: np.ndarray, lengths: np.ndarray, shard_pairs: int) -> np.ndarray:
    """Where shards end. The pairs of a query stay together where lengths do not order them."""
    cuts = np.arange(shard_pairs, len(queries), shard_pairs)
    if np.any(lengths != lengths[0]):
        return cuts
    firsts = np.append(np.flatnonzero(np.diff(queries)) + 1, len(queries))
    cuts = np.unique(firsts[np.searchsorted(firsts, cuts)])
    return cuts[cuts < len(queries)]


def _scores_of(paths: Sequence[Path], keys: np.ndarray, size: int) -> np.ndarray:
    """float32 scores of pairs, as integers, in the shards of distinct ones."""
    table = pa.concat_tables([read_table(path).replace_schema_metadata() for path in paths])
    query, passage, scores = (table[name].to_numpy() for name in ("query", "passage", "score"))
    known = query * size + passage
    order = np.argsort(known)
    return scores[order][np.searchsorted(known, keys, sorter=order)]


def _beside(columns: Sequence[pa.Array]) -> pa.Array:
    """list<list<float32>> [lists, scorers, candidates] of each scorer's lists."""
    rows, scorers = len(columns[0]), len(columns)
    values = pa.concat_arrays(columns)
    places = np.arange(rows * scorers).reshape(scorers, rows).T.ravel()
    ends = pa.array(np.arange(0, rows * scorers + 1, scorers), pa.int32())
    return pa.ListArray.from_arrays(ends, values.take(pa.array(places)))


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
