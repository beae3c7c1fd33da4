"""How the time of a function grows with the length of its text."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """The least CPU seconds of several runs."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def assert_linear(run: Callable[[str], object], text: Callable[[int], str], size: int) -> None:
    """A text that is doubled twice takes some four times as long, not sixteen times."""
    run(text(100))
    small, large = text(size), text(4 * size)
    before = seconds(lambda: run(small))
    # Below a hundredth of a second the clock decides; nothing quadratic is as fast.
    assert seconds(lambda: run(large)) < max(9 * before, 0.05), f"{before:.3f} s for {size:,}"
