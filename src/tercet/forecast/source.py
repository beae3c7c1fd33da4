"""Reads a source for a few seconds: the number of passages, and a seeded sample of them."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from tercet.core.schema import Passage, Query, Source

#: Largest sample of passages.
KEPT = 20_000
#: Seconds of reading, at most.
READING = 10.0


@dataclass(frozen=True)
class Reading:
    """Size of a source, and a sample of it."""

    passages: int
    #: Bytes of ids, titles and texts of all passages; of judged queries and judgements.
    size: int
    size_of_judged: int
    sample: list[Passage]
    judged: list[Query]
    #: Number of judged queries of the test split.
    tested: int
    seconds: float
    #: How the number of passages was extrapolated, if they were not all read.
    note: str = ""

    def scale(self, sample: int) -> float:
        """The number of passages divided by the size of a sample."""
        return self.passages / max(1, sample)


def read_source(source: Source, test_split: str, *, seed: int, budget: float = READING) -> Reading:
    """Read a source for about `budget` seconds at most, and extrapolate the rest."""
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
            f"{part:.1%} of it; the forecast assumes that the rest is alike"
            if part
            else "it has more, and the forecast is for these only"
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
    """Bytes of a row of texts in an Arrow file: UTF-8 and an offset each."""
    return sum(len(text.encode()) + 4 for text in texts)


def _part_read(place: str, count: int) -> float | None:
    """The share of a plain text file before `place`, FILE:LINE; None for other places.

    More passages than lines means several files, whose sizes are not known here.
    """
    name, _, line = place.rpartition(":")
    file = Path(name)
    plain = file.suffix in (".jsonl", ".ndjson", ".tsv") and file.is_file()
    if not plain or not line.isdigit() or int(line) < count:
        return None
    with file.open("rb") as lines:
        read = sum(len(raw) for _, raw in zip(range(int(line)), lines, strict=False))
    return read / file.stat().st_size
