"""Each generator's first queries, timed and counted: what all of them will take.

A batch is as large as the stage's and has passages of like length, as there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tercet.artifacts import digest
from tercet.calibration import TOKENISED, halfway
from tercet.counting import counting
from tercet.data import Passages
from tercet.modeling.sampler import Sampler
from tercet.parts import Parts
from tercet.recipe import GeneratorSettings
from tercet.resources import Resources, measured
from tercet.schema import Generator, Passage

#: Seconds of timed work, of all generators together.
WRITING = 20.0

T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """What one generator wrote about its sample. Seconds, tokens and queries are a passage's.

    `begin` is what loading it and its first words took, in seconds, which no passage repeats.
    """

    name: str
    share: float
    queries: list[tuple[str, Passage]]
    asked: int
    seconds: float
    begin: float
    tokens_read: float
    tokens_written: float
    taken: Resources


def spread(items: Sequence[T]) -> list[T]:
    """The middle one, those in the middle of both halves, and so on: any beginning is spread."""
    places, step = dict.fromkeys([len(items) // 2] if items else []), 4
    while len(places) < len(items):
        places |= dict.fromkeys(len(items) * part // step for part in range(1, step, 2))
        step *= 2
        if step > 4 * len(items):
            places |= dict.fromkeys(range(len(items)))
    return [items[place] for place in places]


def write(
    parts: Parts,
    settings: GeneratorSettings,
    passages: Sequence[Passage],
    corpus: Passages,
    per_passage: int,
    *,
    seed: int,
    budget: float,
) -> Written:
    """Let a generator write about some of `passages`, batch by batch as the stage would.

    A batch has passages of like length, and those that are timed are spread over the lengths.
    """
    start = time.perf_counter()
    generator = parts.generator(settings, corpus)
    order = sorted(passages, key=lambda passage: (len(passage.contents), passage.id))
    size = max(1, settings.batch_size // per_passage) * getattr(generator, "streams", 1)
    groups = spread([order[i : i + size] for i in range(0, len(order), size)])
    generator.generate(groups[0][:1], per_passage, seed)
    begin, written, asked = time.perf_counter() - start, list[tuple[str, Passage]](), 0
    with measured() as taken, counting(generator) as counts:
        start = time.perf_counter()
        for number, group in enumerate(groups):
            shard = int(digest([seed, generator.name, number])[:8], 16)
            found = generator.generate(group, per_passage, shard)
            written += [(q, p) for p, each in zip(group, found, strict=True) for q in each]
            asked += len(group)
            elapsed = time.perf_counter() - start
            if elapsed * (1 + 1 / (number + 1)) > budget:
                break
    return Written(
        generator.name,
        settings.share,
        written,
        asked,
        elapsed / asked,
        begin,
        _tokens_read(generator, passages[:TOKENISED]),
        counts["written"] / asked,
        halfway(taken),
    )


def _tokens_read(generator: Generator, passages: Sequence[Passage]) -> float:
    if not isinstance(generator, Sampler):
        return 0.0
    return generator.tokens_read([p.contents for p in passages]) / len(passages)
