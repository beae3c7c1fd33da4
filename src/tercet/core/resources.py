"""Time and memory of each stage, the speed of the machine, and token counts.

Times are kept in `resources.json` beside the folders of the stages, so that manifests depend on the
inputs alone.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tercet.core.files import kept, typed

_SIDE, _TIMES = 1024, 3  # of the matrix product: about 10 ms each on two cores
_EVERY = 0.05  # seconds between two samples of the memory
_STATUS = Path("/proc/self/status")
_LIBC: Any = ctypes.CDLL(None) if os.name == "posix" else None


@dataclass
class Resources:
    """Time and memory of one stage. A stage that was killed and resumed has the sum of its times.

    `gflops` is the speed of a float32 matrix product at the start of the stage, in GFLOP/s: it
    shows how much of a shared machine was free. `peak` is the peak of the process's anonymous
    memory in bytes (pages mapped from files are not counted), None if unknown.
    """

    seconds: float = 0.0
    gflops: float = 0.0
    peak: int | None = None

    def after(self, before: Resources) -> Resources:
        """The resources of a resumed stage, whose interrupted part took `before`."""
        peaks = [peak for peak in (self.peak, before.peak) if peak is not None]
        return Resources(before.seconds + self.seconds, self.gflops, max(peaks, default=None))


def gigaflops() -> float:
    """Speed of a float32 matrix product on numpy's threads in GFLOP/s, the best of three."""
    a = np.full((_SIDE, _SIDE), 0.5, np.float32)
    best = float("inf")
    for _ in range(_TIMES):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * _SIDE**3 / best / 1e9


def memory() -> int | None:
    """Anonymous memory of this process in bytes (Linux's RssAnon); None on other systems."""
    try:
        status = _STATUS.read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def trim_memory() -> None:
    """Return freed memory to the system (glibc only).

    glibc keeps the gaps between arrays of different sizes: hundreds of megabytes over a large
    corpus.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


@contextmanager
def measured() -> Iterator[Resources]:
    """Resources of the block, filled in at its end."""
    taken = Resources(gflops=round(gigaflops(), 1))
    done = threading.Event()

    def look() -> None:
        now = memory()
        if now is not None:
            taken.peak = max(taken.peak or 0, now)

    def watch() -> None:
        while not done.wait(_EVERY):
            look()

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    start = time.monotonic()
    look()
    watcher.start()
    try:
        yield taken
    finally:
        taken.seconds = time.monotonic() - start
        done.set()
        watcher.join()
        look()


#: Names of the counts in manifests: of encoders and teachers, and of generators.
OF_READERS = {"tokens": "tokens", "cut": "truncated"}
OF_GENERATORS = {
    "tokens": "tokens_read",
    "written": "tokens_written",
    "cut": "truncated_passages",
    # Of a model behind an API.
    "empty": "passages_without_a_query",
    "fewer": "passages_with_fewer_queries",
    "unanswerable": "dropped_unanswerable",
    "ungraded": "kept_ungraded",
}


@contextmanager
def counting(model: object) -> Iterator[Counter[str]]:
    """Count the tokens that `model` processes inside the block; empty if the model counts none.

    `tokens` are the input tokens after truncation, special tokens included and padding not; `cut`
    the number of truncated texts; `written` the new tokens of a generator.
    """
    before: Counter[str] = Counter(getattr(model, "counts", {}))
    taken: Counter[str] = Counter()
    yield taken
    after: Counter[str] = Counter(getattr(model, "counts", {}))
    taken.update({name: after[name] - before[name] for name in after})


RESOURCES = "resources.json"


def read_resources(run: Path) -> dict[str, Resources]:
    """Resources of each stage of a run."""

    def read(noted: Any) -> dict[str, Resources]:
        return {name: typed(Resources, each) for name, each in noted.items()}

    return kept(run / RESOURCES, read) or {}


def read_times(run: Path) -> dict[str, float]:
    """Seconds of each stage of a run."""
    return {name: taken.seconds for name, taken in read_resources(run).items()}
