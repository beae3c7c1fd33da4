"""Times each generator on a sample of passages and counts its tokens and queries.

Batches have the size of the stage's batches, and passages of similar length as there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tercet.config.recipe import GeneratorSettings
from tercet.core.resources import Resources, counting, measured
from tercet.core.schema import Generator, Passage
from tercet.data import Passages
from tercet.forecast.throughput import TOKENISED, halfway
from tercet.modeling import EndpointGenerator
from tercet.modeling.generators.base import Sampler
from tercet.pipeline.components import Components

#: Seconds of timed work for all generators together.
WRITING = 20.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Written:
    """Queries of one generator for its sample. Seconds and tokens are per passage.

    `begin` is the seconds for loading the generator and a first, untimed passage.
    """

    name: str
    share: float
    queries: list[tuple[str, Passage]]
    passages: int
    seconds: float
    begin: float
    tokens_read: float
    tokens_written: float
    taken: Resources
    #: Dollars, None if the price is unknown; 0 of a local model.
    dollars: float | None = 0.0


def spread(items: Sequence[_T]) -> list[_T]:
    """The items reordered so that any prefix is spread evenly: the middle, the quarters, ..."""
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
    """Time a generator on some of `passages`, in batches as in the queries stage.

    `passages` are sorted by length, as in the stage; the timed batches are spread over the lengths.
    `seed` returns a shard's seed for the generator's name and the passage's position.
    """
    start = time.perf_counter()
    generator = parts.generator(settings, corpus)
    size = max(1, settings.batch_size // per_passage) * getattr(generator, "streams", 1)
    size = getattr(generator, "at_once", size)
    starts = spread(range(0, len(passages), size))
    generator.generate(passages[starts[0] : starts[0] + 1], per_passage, 0)
    begin, written, done = time.perf_counter() - start, list[tuple[str, Passage]](), 0
    with measured() as taken, counting(generator) as counts:
        start, waited = time.perf_counter(), getattr(generator, "seconds", 0.0)
        for number, first in enumerate(starts, 1):
            group = passages[first : first + size]
            found = generator.generate(group, per_passage, seed(generator.name, first))
            written += [(q, p) for p, each in zip(group, found, strict=True) for q in each]
            done += len(group)
            elapsed = time.perf_counter() - start
            if elapsed * (1 + 1 / number) > budget:
                break
    # What an API has answered before took no time now.
    elapsed = max(elapsed, getattr(generator, "seconds", 0.0) - waited)
    read = _tokens_read(generator, passages[:: 1 + len(passages) // TOKENISED])
    read = counts["tokens"] / done if read is None else read
    return Written(
        generator.name,
        settings.share,
        written,
        done,
        elapsed / done,
        begin,
        read,
        counts["written"] / done,
        halfway(taken),
        _dollars(generator, counts, done),
    )


def _dollars(generator: Generator, counts: Counter[str], passages: int) -> float | None:
    """Dollars of a passage, judge included; None if the price is unknown."""
    if not isinstance(generator, EndpointGenerator):
        return 0.0
    dollars = generator.dollars(counts["tokens"], counts["written"])
    return None if dollars is None else dollars / passages


def _tokens_read(generator: Generator, passages: Sequence[Passage]) -> float | None:
    """Mean tokens of a passage with its prompt; None if they are not known before the work."""
    if not isinstance(generator, Sampler):
        return None
    return generator.tokens_read([p.contents for p in passages]) / len(passages)
