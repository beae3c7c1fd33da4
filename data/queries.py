"""Passages -> synthetic queries.

Files: `generated` (query, passage_id, generator), all generated queries, and `queries` (id, query,
passage_id, generator), those that were kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tercet.core.artifacts import Writer
from tercet.core.console import progress
from tercet.core.files import digest
from tercet.core.mapped import counted, counts_of, read_table
from tercet.core.resources import OF_GENERATORS, counting
from tercet.core.schema import Generator, InputError, Passage
from tercet.core.text import one_line
from tercet.data.near_duplicates import NearDuplicates, normalised
from tercet.data.passages import Passages

_GENERATED = pa.schema({"query": pa.string(), "passage_id": pa.string(), "generator": pa.string()})
_QUERIES = pa.schema({"id": pa.string(), **{field.name: field.type for field in _GENERATED}})

# GPL generates three queries per passage, and more per passage for small corpora.
_PER_PASSAGE, _MOST_PER_PASSAGE = 3, 50
#: GPL's number of queries for any corpus; and enough that those held out can decide.
_MOST, _FEWEST = 250_000, 1_500


def generate_queries(
    writer: Writer,
    passages: Passages,
    generators: Sequence[tuple[Generator, float]],
    *,
    count: int | None,
    per_passage: int | None,
    seed: int,
    shard_passages: int,
    judged: Collection[str] = (),
) -> None:
    """Write about `count` queries for a random sample of the passages; None: `usual_count`.

    Each sampled passage goes to one generator, in proportion to the shares. A shard has its own
    seed, so repeating it gives the same queries. Queries equal or near to a `judged` one are
    dropped: the model must not be trained on the test set.
    """
    count = count or usual_count(len(passages))
    per_passage, wanted = plan(len(passages), count, per_passage)
    sample = np.random.default_rng(seed).permutation(len(passages))[:wanted]
    parts = deal(passages.contents, sample, [share for _, share in generators], shard_passages)

    def make(part: Part) -> pa.Table:
        generator, _ = generators[part.which]
        of_part = seed_of_shard(seed, generator.name, part.number)
        chosen = [passages[row] for row in part.rows]
        with counting(generator) as counts:
            table = _generate(generator, chosen, per_passage, of_part)
        return counted(table, counts)

    with progress("writing queries", len(sample), "passages", by_model=True) as advance:
        paths = writer.shards("generated", parts, make, advance)
    if paths is None:
        return
    writer.facts |= {"passages_sampled": len(sample)}
    writer.facts |= counts_of(paths, OF_GENERATORS)
    written = [row for path in paths for row in read_table(path).to_pylist()]
    _keep(writer, written[:count], judged)


def usual_count(passages: int) -> int:
    """The number of queries if none is given: GPL's three a passage, within bounds."""
    return min(_MOST, max(_FEWEST, _PER_PASSAGE * passages))


def plan(passages: int, count: int | None, per_passage: int | None) -> tuple[int, int]:
    """Queries per passage, and the number of passages to sample for `count` queries."""
    count = count or usual_count(passages)
    rule = max(_PER_PASSAGE, math.ceil(count / passages))
    per_passage = per_passage or min(_MOST_PER_PASSAGE, rule)
    return per_passage, min(passages, math.ceil(count / per_passage))


def seed_of_shard(seed: int, generator: str, number: int) -> int:
    """The seed of a shard."""
    return int(digest([seed, generator, number])[:8], 16)


@dataclass(frozen=True)
class Part:
    """A shard: the rows of passages for one generator, `which` is its position."""

    number: int
    which: int
    rows: list[int]

    def __len__(self) -> int:
        return len(self.rows)


def deal(
    contents: Sequence[str], sample: np.ndarray, shares: Sequence[float], size: int
) -> list[Part]:
    """Split a sample of rows by the generators' shares into shards, sorted by length."""
    bounds = np.cumsum([0.0, *shares]) / sum(shares) * len(sample)
    parts: list[Part] = []
    for which, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        lengths = {int(i): len(contents[i]) for i in sample[round(low) : round(high)]}
        rows = sorted(lengths, key=lambda i: (lengths[i], i))
        for start in range(0, len(rows), size):
            parts.append(Part(len(parts), which, rows[start : start + size]))
    return parts


def _generate(
    generator: Generator, passages: list[Passage], per_passage: int, seed: int
) -> pa.Table:
    queries = generator.generate(passages, per_passage, seed)
    rows = [
        {"query": one_line(text), "passage_id": passage.id, "generator": generator.name}
        for passage, texts in zip(passages, queries, strict=True)
        for text in texts
    ]
    return pa.Table.from_pylist(rows, schema=_GENERATED)


def _keep(writer: Writer, written: list[dict[str, str]], judged: Collection[str]) -> None:
    """Drop unusable queries, counted by reason, and give ids to the rest."""
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
        raise InputError(
            f"no query is left of {len(written)} that were generated ({dict(dropped)})"
        )
    writer.facts |= {
        "generated": len(written),
        "queries": len(kept),
        "shared_by_passages": len(kept) - len(texts),
        **{f"dropped_{reason}": number for reason, number in dropped.items()},
    }
    writer.shard("queries", 0, pa.Table.from_pylist(kept, schema=_QUERIES))
