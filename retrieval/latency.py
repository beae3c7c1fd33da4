"""Latency of retrievers, from a query's text to its ten best passages, in all and by phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from tercet.core.schema import Retriever

TOP = 10
_SLICE = 100  # single queries (or four batches) of a retriever's turn
_WARM_UP = 3  # untimed queries at the start of each turn

#: Seconds of each phase of the search that is being timed; None outside of timing.
_phases: ContextVar[dict[str, float] | None] = ContextVar("phases", default=None)
#: Values that the retrievers of a round share, with their seconds; None outside of timing.
_common: ContextVar[dict[Hashable, tuple[Any, float]] | None] = ContextVar("common", default=None)
#: Key of a lap's seconds of shared work that another retriever of the round did.
_BORROWED = "borrowed"

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Count the time of the block as this phase of the search, if one is being timed.

    The phases of a retriever that is made of others add up.
    """
    seconds = _phases.get()
    start = time.perf_counter()
    try:
        yield
    finally:
        if seconds is not None:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def phase_once(name: str, key: Hashable, work: Callable[[], T]) -> T:
    """The result of `work`, timed as a phase; retrievers of one round share the result for `key`.

    A query's vector does not depend on the index: the first retriever of a round computes and
    times it, and its time is counted for each of the others.
    """
    lap, common = _phases.get(), _common.get()
    if lap is None or common is None:
        return work()
    if key in common:
        value, seconds = common[key]
        lap[_BORROWED] = lap.get(_BORROWED, 0.0) + seconds
    else:
        start = time.perf_counter()
        value = work()
        seconds = time.perf_counter() - start
        common[key] = value, seconds
    lap[name] = lap.get(name, 0.0) + seconds
    return cast(T, value)


class _Stopwatch:
    """Times the calls of one retriever, `batch` queries each."""

    def __init__(self, retriever: Retriever, texts: Sequence[str], batch: int) -> None:
        self.retriever, self.texts, self.batch = retriever, texts, batch
        self.totals: list[float] = []
        self.phases: dict[str, list[float]] = {}
        self.answered = 0

    def turn(self, seconds: float) -> int:
        """Answer the next slice, unless `seconds` are spent; return its number of queries."""
        before = self.answered
        end = min(before + (_SLICE if self.batch == 1 else 4 * self.batch), len(self.texts))
        if before == end or sum(self.totals) > seconds:
            return 0
        # Warm-up queries differ from those that follow, and are few: a reranked batch is slow.
        last = self.texts[-_WARM_UP:]
        size = min(self.batch, _WARM_UP)
        for start in range(0, len(last), size):
            self.retriever.search(last[start : start + size], TOP)
        while self.answered < end and sum(self.totals) <= seconds:
            size = min(self.batch, len(self.texts) - self.answered)
            self._call(self.texts[self.answered : self.answered + size])
            self.answered += size
        return self.answered - before

    def _call(self, texts: Sequence[str]) -> None:
        lap: dict[str, float] = {}
        token = _phases.set(lap)
        start = time.perf_counter()
        try:
            self.retriever.search(texts, TOP)
        finally:
            total = time.perf_counter() - start + lap.pop(_BORROWED, 0.0)
            _phases.reset(token)
        self.totals.append(total)
        for name, seconds in lap.items():
            self.phases.setdefault(name, []).append(seconds)

    def timing(self) -> Timing:
        """Latencies of the answered queries."""
        return Timing(
            queries=self.answered,
            batch=self.batch,
            phases={name: self._summary(laps) for name, laps in self.phases.items()},
            total=self._summary(self.totals),
        )

    def _summary(self, laps: Sequence[float]) -> Phase:
        p50, p95, p99 = np.percentile(1000 * np.array(laps), [50, 95, 99]).tolist()
        return Phase(p50, p95, p99, per_second=self.answered / sum(laps))


def time_searches(
    retrievers: Mapping[Name, Retriever],
    texts: Mapping[Name, Sequence[str]],
    *,
    batch: int,
    seconds: float,
    advance: Callable[[int], None] = lambda amount: None,
) -> dict[Name, Timing]:
    """Time each retriever on its texts, `batch` at a time, ten passages each.

    Retrievers take turns of a slice each, so that a slowdown of the machine affects all alike; each
    turn begins with a few untimed queries. A retriever stops after more than `seconds`;
    `Timing.queries` is the number that it answered. In one round each encoder encodes a text once
    (see `phase_once`). `advance` counts every query, answered or skipped.
    """
    watches = {name: _Stopwatch(r, texts[name], batch) for name, r in retrievers.items()}
    pending = list(watches)
    while pending:
        token = _common.set({})
        try:
            for name in list(pending):
                done = watches[name].turn(seconds)
                if not done:
                    pending.remove(name)
                    advance(len(texts[name]) - watches[name].answered)
                advance(done)
        finally:
            _common.reset(token)
        pending = pending[1:] + pending[:1]  # no retriever always follows the same one
    return {name: watch.timing() for name, watch in watches.items()}


@dataclass(frozen=True)
class Phase:
    """Percentiles of the milliseconds per call: of a query, or of a batch."""

    p50: float
    p95: float
    p99: float
    #: Queries per second over all calls.
    per_second: float


@dataclass(frozen=True)
class Timing:
    """Latency from a query's text to its ten best passages; phases: encode, search, rerank."""

    queries: int
    batch: int
    phases: Mapping[str, Phase]
    total: Phase
