"""Queries -> hard negative candidates from several retrievers.

File: `candidates` (query_id, query, positive, passages, and ranks and scores per retriever).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
from datasets import Dataset

from tercet.core.artifacts import Writer
from tercet.core.console import progress
from tercet.core.mapped import counted, counts_of, read_table
from tercet.core.schema import InputError, Ranking, Retriever

#: Passages searched at least where those near the source passage are left out.
_DEPTH = 100
#: Fact with the number of hits that are not in the corpus.
_UNKNOWN = "hits_outside_the_corpus"


def mine_candidates(
    writer: Writer,
    queries: Dataset,
    duplicates: Mapping[str, list[str]],
    retrievers: Sequence[tuple[Retriever, int]],
    *,
    candidates: int,
    shard_queries: int,
    rows: Callable[[Iterable[str]], Mapping[str, int]] | None = None,
    max_positive_ratio: float | None = None,
) -> None:
    """Write `candidates` passages for each query, fewer only if the retrievers find no more.

    Each retriever gives its best passages up to its share (an integer weight); the rest is filled
    in turns. The source passage and its duplicates are left out: they are no negatives. With `rows`
    (ids -> rows of the corpus), hits outside the corpus are left out and counted; an index that
    others write may have them.

    `max_positive_ratio` leaves out passages that a retriever scores above this fraction of the
    source passage's score, and those above the source passage where that score is not positive:
    they may be relevant too (NV-Retriever, arXiv 2407.15831: .95 against the mining model's own
    scores). Where a retriever does not find the source passage, all that it finds is ahead of it.

    Raises InputError if two retrievers have one name.
    """
    names = [retriever.name for retriever, _ in retrievers]
    if len(set(names)) != len(names):
        raise InputError(f"negatives.retrievers: two have one name ({', '.join(names)})")

    def make(part: range) -> pa.Table:
        block = queries[part.start : part.stop]
        return _mine(block, duplicates, retrievers, candidates, rows, max_positive_ratio)

    starts = range(0, len(queries), shard_queries)
    blocks = [range(start, min(start + shard_queries, len(queries))) for start in starts]
    with progress("mining candidates", len(queries), "queries") as advance:
        paths = writer.shards("candidates", blocks, make, advance)
    if paths is None:
        return
    found = [len(list_) for path in paths for list_ in read_table(path)["passages"]]
    writer.facts |= {
        "queries": len(queries),
        "candidates": sum(found),
        "short_lists": sum(length < candidates for length in found),
        "equal_texts_left_out": sum(len(duplicates.get(p, [p])) - 1 for p in queries["passage_id"]),
    }
    if rows is not None:
        writer.facts |= counts_of(paths, {_UNKNOWN: _UNKNOWN})


def _mine(
    block: dict[str, list[str]],
    duplicates: Mapping[str, list[str]],
    retrievers: Sequence[tuple[Retriever, int]],
    candidates: int,
    rows: Callable[[Iterable[str]], Mapping[str, int]] | None,
    ratio: float | None,
) -> pa.Table:
    positives = block["passage_id"]
    left_out = [set(duplicates.get(positive, [positive])) for positive in positives]
    # Deep enough that each retriever alone could fill the list.
    depth = candidates + max(map(len, left_out), default=1)
    if ratio is not None:
        depth = max(depth, _DEPTH)
    found = [retriever.search(block["query"], depth) for retriever, _ in retrievers]
    unknown = 0
    if rows is not None:
        known = rows(p for rankings in found for ranking in rankings for p, _ in ranking)
        before = sum(len(ranking) for rankings in found for ranking in rankings)
        found = [[[hit for hit in r if hit[0] in known] for r in each] for each in found]
        unknown = before - sum(len(ranking) for rankings in found for ranking in rankings)
    shares = _shares([share for _, share in retrievers], candidates)
    columns: dict[str, list[object]] = {
        "query_id": list(block["id"]),
        "query": list(block["query"]),
        "positive": list(positives),
        "passages": [],
    }
    for retriever, _ in retrievers:
        columns |= {f"{retriever.name}_rank": [], f"{retriever.name}_score": []}
    for row, excluded in enumerate(left_out):
        rankings = [rankings[row] for rankings in found]
        if ratio is not None:
            excluded = excluded.union(*(_too_near(r, excluded, ratio) for r in rankings))
        chosen = _choose(rankings, shares, excluded, candidates)
        columns["passages"].append(chosen)
        for (retriever, _), ranking in zip(retrievers, rankings, strict=True):
            places = {passage: (rank, score) for rank, (passage, score) in enumerate(ranking, 1)}
            pairs = [places.get(passage, (None, None)) for passage in chosen]
            columns[f"{retriever.name}_rank"].append([rank for rank, _ in pairs])
            columns[f"{retriever.name}_score"].append([score for _, score in pairs])
    table = pa.table({name: pa.array(c, type=_type(name)) for name, c in columns.items()})
    return table if rows is None else counted(table, {_UNKNOWN: unknown})


def _too_near(ranking: Ranking, source: set[str], ratio: float) -> set[str]:
    """Passages that score above `ratio` of the source's best score, all if it is not found."""
    best = max((score for passage, score in ranking if passage in source), default=math.inf)
    if best == math.inf:
        return {passage for passage, _ in ranking}
    limit = ratio * best if best > 0 else best
    return {passage for passage, score in ranking if score > limit}


def _type(column: str) -> pa.DataType:
    if column == "passages":
        return pa.list_(pa.string())
    if column.endswith("_rank"):
        return pa.list_(pa.int32())
    return pa.list_(pa.float32()) if column.endswith("_score") else pa.string()


def _shares(shares: Sequence[int], candidates: int) -> list[int]:
    """Integers in proportion to the shares that add up to `candidates`."""
    bounds = [0]
    for i in range(len(shares)):
        bounds.append(round(candidates * sum(shares[: i + 1]) / sum(shares)))
    return [high - low for low, high in zip(bounds, bounds[1:], strict=False)]


def _choose(
    rankings: Sequence[Ranking], shares: Sequence[int], excluded: set[str], candidates: int
) -> list[str]:
    """Each retriever's share of its best, then one from each in turn until the list is full."""
    rests = [iter([p for p, _ in ranking if p not in excluded]) for ranking in rankings]
    chosen: dict[str, None] = {}
    for rest, share in zip(rests, shares, strict=True):
        for _ in range(share):
            _take(rest, chosen)
    # A passage that two retrievers found counts once, so places are left: fill them in turns.
    while len(chosen) < candidates:
        if not any([_take(rest, chosen) for rest in rests if len(chosen) < candidates]):
            break
    return list(chosen)


def _take(rest: Iterator[str], chosen: dict[str, None]) -> bool:
    """Add the next new passage; False if there is none."""
    for passage in rest:
        if passage not in chosen:
            chosen[passage] = None
            return True
    return False
