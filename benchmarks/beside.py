"""What the benchmarks share: contenders that take turns, and a table of how they compare.

A machine that slows down slows all contenders, as they take turns; the best turn of each counts.
The matrix products timed between the turns say how fast the machine was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Table
from transformers import logging

from tercet.core.console import console
from tercet.core.schema import Passage
from tercet.data.sources.bookmarks import Bookmarks

#: Makes ready what is not timed, and returns what is.
Contender = Callable[[], Callable[[], Any]]


@dataclass
class Turns:
    """Seconds of every turn and the result of the last, by contender; GFLOP/s between turns."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    gemm: list[float] = field(default_factory=list)

    def ratio(self, name: str, peer: str) -> float:
        """How many times as fast as a peer, best turn by best turn."""
        return min(self.seconds[peer]) / min(self.seconds[name])


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> Turns:
    """Run each contender in turn, `rounds` times over."""
    logging.set_verbosity_error()
    turns = Turns({name: [] for name in contenders})
    for _ in range(rounds):
        for name, prepare in contenders.items():
            run = prepare()
            turns.gemm.append(gigaflops())
            start = time.perf_counter()
            turns.results[name] = run()
            turns.seconds[name].append(time.perf_counter() - start)
    return turns


def gigaflops() -> float:
    """Speed of a float32 matrix product of 2,048 x 2,048, in GFLOP/s."""
    a = torch.randn(2048, 2048)
    start = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 2048**3 / (time.perf_counter() - start) / 1e9


def show(
    turns: Turns,
    title: str,
    unit: str,
    counts: int | Mapping[str, int],
    *,
    peers: Sequence[str],
    extra: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """The table: what each did a second, ratios to the peers, and columns of `extra` by name.

    `counts` is how many of `unit` a turn did.
    """
    extra = extra or {}
    ratios = [f"x {peer}" for peer in peers]
    table = Table("", f"{unit}/s", *ratios, *extra, title=f"{title}, {threads()}")
    for name, taken in turns.seconds.items():
        count = counts if isinstance(counts, int) else counts[name]
        table.add_row(
            name,
            f"{count / min(taken):,.1f}",
            *(f"{turns.ratio(name, peer):.2f}" for peer in peers),
            *(column.get(name, "") for column in extra.values()),
        )
    console.print(table)
    console.print(
        f"float32 matrix product: {min(turns.gemm):,.0f} to {max(turns.gemm):,.0f} GFLOP/s"
    )


def threads() -> str:
    """What a title says of the machine."""
    return f"{torch.get_num_threads()} threads"


def bookmarks() -> list[Passage]:
    """The bookmarks that have a text."""
    found = Bookmarks("corpora/cherche-2.2.1.tar.gz").passages()
    return [passage for _, passage in found if passage.contents]
