"""What a person sees while a run works: one console, its progress bars, its plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

#: In a file or a pipe a line stays a line, however long.
console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Units a second, once known."""
        rate = task.finished_speed or task.speed
        return Text(f"{rate:,.0f} {task.fields['unit']}/s" if rate else "", style="cyan")


class Advance(Protocol):
    """Tells a bar that `amount` more units are done."""

    def __call__(self, amount: int) -> None:
        """Move the bar on."""
        ...


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """A bar with the rate and the time left; `unit` is a plural noun, such as "passages".

    On anything but a terminal it prints one line at the end instead.
    """
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=total, unit=unit)
        yield lambda amount: bars.advance(task, amount)
