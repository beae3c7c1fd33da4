"""A look at a source before any work: how many passages it has, and a seeded sample of them."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from tercet.core.schema import Passage, Query
from tercet.data.sources import Source

#: Passages kept of a source, and the seconds after which it is not read on.
KEPT, SECONDS = 20_000, 10.0


@dataclass(frozen=True)
class Reading:
    """What was seen of a source."""

    passages: int
    #: Bytes of ids, titles and texts of all passages; of judged queries and judgements.
    size: int
    size_of_judged: int
    sample: list[Passage]
    judged: list[Query]
    #: Different queries of the test split.
    tested: int
    seconds: float
    #: How the number of passages is known, if they were not all read.
    note: str = ""

    def longer(self, sample: int) -> float:
        """How many times as many passages there are as in a sample of this size."""
        return self.passages / max(1, sample)


def read_source(source: Source, test_split: str, *, seed: int, budget: float = SECONDS) -> Reading:
    """Read a source for at most about `budget` seconds; what lies beyond is extrapolated."""
    start, stopped = time.perf_counter(), ""
    draw, sample, count, size = random.Random(seed), list[Passage](), 0, 0
    for place, passage in source.passages():
        if passage.contents:
            count += 1
            size += _stored(passage.id, passage.title, passage.text)
            if len(sample) < KEPT:
                sample.append(passage)
            elif (at := draw.randrange(count)) < KEPT:
                sample[at] = passage
        if not count % 1_000 and time.perf_counter() - start > budget:
            stopped = place
            break
    seconds, note = time.perf_counter() - start, ""
    if stopped:
        part = _part_read(stopped, count)
        note = f"the source was read for {budget:.0f} s, {count:,} passages: " + (
            f"{part:.1%} of it, and the rest is taken to be alike"
            if part
            else "it has more, and every figure is for these alone"
        )
        count, size = int(count / (part or 1)), int(size / (part or 1))
        seconds /= part or 1
    judged = [query for _, query in source.queries()]
    of_judged, tested = sum(_stored(query.id, query.text) for query in judged), set[str]()
    for _, split, query, passage_id, _ in source.judgements():
        of_judged += _stored(split, query, passage_id) + 4  # the grade
        if split == test_split:
            tested.add(query)
    return Reading(count, size, of_judged, sample, judged, len(tested), seconds, note)


def _stored(*texts: str) -> int:
    """Bytes of a row of texts in an Arrow file: UTF-8, and where each begins."""
    return sum(len(text.encode()) + 4 for text in texts)


def _part_read(place: str, count: int) -> float | None:
    """The part of a plain file that ends at FILE:LINE; None where a place is no such.

    More passages than lines come from several files, the sizes of which are not known here.
    """
    name, _, line = place.rpartition(":")
    file = Path(name)
    plain = file.suffix in (".jsonl", ".ndjson", ".tsv") and file.is_file()
    if not plain or not line.isdigit() or int(line) < count:
        return None
    with file.open("rb") as lines:
        read = sum(len(raw) for _, raw in zip(range(int(line)), lines, strict=False))
    return read / file.stat().st_size
