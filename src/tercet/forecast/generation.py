"""Each generator's first queries, timed and counted: what all of them will take.

A batch is as large as the stage's and has passages of like length, as there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tercet.config.recipe import GeneratorSettings
from tercet.core.resources import Resources, counting, measured
from tercet.core.schema import Generator, Passage
from tercet.data import Passages
from tercet.forecast.timing import TOKENISED, halfway
from tercet.modeling.generators.base import Sampler
from tercet.pipeline.components import Components

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
    parts: Components,
    settings: GeneratorSettings,
    passages: Sequence[Passage],
    corpus: Passages,
    per_passage: int,
    *,
    seed: Callable[[str, int], int],
    budget: float,
) -> Written:
    """Let a generator write about some of `passages`, batch by batch as the stage would.

    They are sorted by length, as its batches are, and those that are timed are spread over the
    lengths. `seed` tells that of the shard in which a passage will be, from the
    generator's name and the passage's place.
    """
    start = time.perf_counter()
    generator = parts.generator(settings, corpus)
    size = max(1, settings.batch_size // per_passage) * getattr(generator, "streams", 1)
    starts = spread(range(0, len(passages), size))
    generator.generate(passages[starts[0] : starts[0] + 1], per_passage, 0)
    begin, written, asked = time.perf_counter() - start, list[tuple[str, Passage]](), 0
    with measured() as taken, counting(generator) as counts:
        start = time.perf_counter()
        for number, first in enumerate(starts, 1):
            group = passages[first : first + size]
            found = generator.generate(group, per_passage, seed(generator.name, first))
            written += [(q, p) for p, each in zip(group, found, strict=True) for q in each]
            asked += len(group)
            elapsed = time.perf_counter() - start
            if elapsed * (1 + 1 / number) > budget:
                break
    return Written(
        generator.name,
        settings.share,
        written,
        asked,
        elapsed / asked,
        begin,
        _tokens_read(generator, passages[:: 1 + len(passages) // TOKENISED]),
        counts["written"] / asked,
        halfway(taken),
    )


def _tokens_read(generator: Generator, passages: Sequence[Passage]) -> float:
    if not isinstance(generator, Sampler):
        return 0.0
    return generator.tokens_read([p.contents for p in passages]) / len(passages)
