"""Passages -> synthetic queries.

Files: `generated` (query, passage_id, generator), all that was written, and `queries` (id, query,
passage_id, generator), what is kept of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from tercet.artifacts import Writer, digest, read_table
from tercet.console import progress
from tercet.data.near_duplicates import NearDuplicates, normalised
from tercet.schema import Generator, InputError, Passage

GENERATED = pa.schema({"query": pa.string(), "passage_id": pa.string(), "generator": pa.string()})
QUERIES = pa.schema({"id": pa.string(), **{field.name: field.type for field in GENERATED}})

#: GPL asks for three queries a passage, and for more of each where the corpus is small.
PER_PASSAGE, MOST_PER_PASSAGE = 3, 50


def generate_queries(
    writer: Writer,
    passages: Sequence[Passage],
    generators: Sequence[tuple[Generator, float]],
    *,
    count: int,
    per_passage: int | None,
    seed: int,
    shard_passages: int,
    judged: Collection[str] = (),
) -> None:
    """Write about `count` queries for a seeded random sample of the passages.

    Each sampled passage goes to one generator, in proportion to the shares. A shard has a seed of
    its own, so one that is made again is the same. Queries equal to a judged one are dropped: what
    is measured must not be trained on.
    """
    rule = max(PER_PASSAGE, math.ceil(count / len(passages)))
    per_passage = per_passage or min(MOST_PER_PASSAGE, rule)
    wanted = min(len(passages), math.ceil(count / per_passage))
    sample = np.random.default_rng(seed).permutation(len(passages))[:wanted]
    shards = _shards(passages, sample, [share for _, share in generators], shard_passages)
    written: list[dict[str, str]] = []
    with progress("writing queries", len(sample), "passages") as advance:
        for number, (which, rows) in enumerate(shards):
            generator, _ = generators[which]
            seed_of_shard = int(digest([seed, generator.name, number])[:8], 16)

            def make(
                generator: Generator = generator, rows: list[int] = rows, s: int = seed_of_shard
            ) -> pa.Table:
                return _generate(generator, [passages[i] for i in rows], per_passage, s)

            path = writer.shard("generated", number, make)
            written += read_table(path).to_pylist()
            advance(len(rows))
    writer.facts |= {"passages_sampled": len(sample)}
    _keep(writer, written[:count], judged)


def _shards(
    passages: Sequence[Passage], sample: np.ndarray, shares: Sequence[float], size: int
) -> list[tuple[int, list[int]]]:
    """(generator's number, passages' rows): the sample dealt out by shares, sorted by length."""
    bounds = np.cumsum([0.0, *shares]) / sum(shares) * len(sample)
    shards = []
    for which, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        rows = sorted(
            (int(i) for i in sample[round(low) : round(high)]),
            key=lambda i: (len(passages[i].contents), i),
        )
        shards += [(which, rows[i : i + size]) for i in range(0, len(rows), size)]
    return shards


def _generate(
    generator: Generator, passages: list[Passage], per_passage: int, seed: int
) -> pa.Table:
    queries = generator.generate(passages, per_passage, seed)
    rows = [
        {"query": " ".join(text.split()), "passage_id": passage.id, "generator": generator.name}
        for passage, texts in zip(passages, queries, strict=True)
        for text in texts
    ]
    return pa.Table.from_pylist(rows, schema=GENERATED)


def _keep(writer: Writer, written: list[dict[str, str]], judged: Collection[str]) -> None:
    """Drop what cannot be learnt from, count it by reason, and give the rest ids."""
    forbidden, near = {normalised(text) for text in judged}, NearDuplicates(judged)
    reasons = ("empty", "repeated", "equal_to_a_judged_query", "near_a_judged_query")
    dropped = Counter(dict.fromkeys(reasons, 0))
    kept: list[dict[str, str]] = []
    seen, texts = set(), set()
    for row in written:
        text = normalised(row["query"])
        if not text:
            dropped["empty"] += 1
        elif (row["passage_id"], text) in seen:
            dropped["repeated"] += 1
        elif text in forbidden:
            dropped["equal_to_a_judged_query"] += 1
        elif text in near:
            dropped["near_a_judged_query"] += 1
        else:
            kept.append({"id": f"q{len(kept)}", **row})
            texts.add(text)
        seen.add((row["passage_id"], text))
    if not kept:
        raise InputError(f"no query is left of {len(written)} that were written ({dict(dropped)})")
    writer.facts |= {
        "generated": len(written),
        "queries": len(kept),
        "shared_by_passages": len(kept) - len(texts),
        **{f"dropped_{reason}": number for reason, number in dropped.items()},
    }
    writer.shard("queries", 0, lambda: pa.Table.from_pylist(kept, schema=QUERIES))
