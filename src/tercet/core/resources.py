"""What a stage took: seconds, the machine's speed as it began, and the most memory of its own.

Kept in `resources.json` beside the stages' folders, so that manifests hold no clock.
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

from tercet.core.files import read_json

_SIDE, _TIMES = 1024, 3  # of the matrix product: some 10 ms a time on two cores
_EVERY = 0.05  # seconds between two looks at the memory
_STATUS = Path("/proc/self/status")
_LIBC: Any = ctypes.CDLL(None) if os.name == "posix" else None


@dataclass
class Resources:
    """What one stage took. A stage that was killed and resumed has the sum of its seconds."""

    seconds: float = 0.0
    #: Speed of a float32 matrix product as the stage began: machines are shared, and this says how
    #: much of one there was. GFLOP/s.
    gflops: float = 0.0
    #: The most memory of the process's own, in bytes: pages mapped from files, which the system
    #: takes back when it needs them, are not counted. None where it cannot be told.
    peak: int | None = None

    def after(self, before: Resources) -> Resources:
        """Of a stage's whole making, of which `before` is the part that was interrupted."""
        peaks = [peak for peak in (self.peak, before.peak) if peak is not None]
        return Resources(before.seconds + self.seconds, self.gflops, max(peaks, default=None))


def gigaflops() -> float:
    """Speed of a float32 matrix product on the cores that numpy uses, the best of a few."""
    a = np.full((_SIDE, _SIDE), 0.5, np.float32)
    best = float("inf")
    for _ in range(_TIMES):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * _SIDE**3 / best / 1e9


def memory() -> int | None:
    """Bytes of memory of this process's own now (Linux's RssAnon); None where it cannot be told."""
    try:
        status = _STATUS.read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def trim_memory() -> None:
    """Return freed memory to the system, which glibc does not where arrays of unlike sizes lie.

    The gaps add up to hundreds of megabytes over a large corpus. Elsewhere than on Linux, nothing.
    """
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


@contextmanager
def measured() -> Iterator[Resources]:
    """Fills in, as it ends, what was taken meanwhile."""
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


#: What manifests call the counts of encoders and teachers, and of generators.
OF_READERS = {"tokens": "tokens", "cut": "truncated"}


OF_GENERATORS = {"tokens": "tokens_read", "written": "tokens_written", "cut": "truncated_passages"}


@contextmanager
def counting(model: object) -> Iterator[Counter[str]]:
    """What `model` adds to its `counts` within; it stays empty if it keeps none.

    `tokens` are read, special ones included and padding not, after cutting; `cut` are the texts
    that were cut; `written` are a generator's new tokens.
    """
    before: Counter[str] = Counter(getattr(model, "counts", {}))
    taken: Counter[str] = Counter()
    yield taken
    after: Counter[str] = Counter(getattr(model, "counts", {}))
    taken.update({name: after[name] - before[name] for name in after})


RESOURCES = "resources.json"


def read_resources(run: Path) -> dict[str, Resources]:
    """What each stage of a run has taken."""
    file = run / RESOURCES
    noted = read_json(file) if file.exists() else {}
    return {name: Resources(**each) for name, each in noted.items()}


def read_times(run: Path) -> dict[str, float]:
    """Seconds that each stage of a run has taken."""
    return {name: taken.seconds for name, taken in read_resources(run).items()}
