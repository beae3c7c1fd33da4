"""What a person sees while a run works: one console, its progress bars, its plain lines."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
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
from rich.table import Column
from rich.text import Text

_WIDTH_OF_A_FILE = 200  # columns, where COLUMNS gives no other; a table takes what it needs of them
#: Texts from which encoding them is worth a bar.
WORTH_A_BAR = 512
#: Name of the variable with the seconds between two lines where there is no terminal; unset: 60.
LINE_SECONDS = "TERCET_LINE_SECONDS"
#: What training logs, a JSON a line, for whoever looks on: in the folder of its checkpoints.
CURVES = "curves.jsonl"

#: In a file or a pipe a line stays a line, however long, and a table is cut nowhere.
_in_terminal = sys.stdout.isatty()
console = Console(
    highlight=False,
    soft_wrap=not _in_terminal,
    width=None if _in_terminal or "COLUMNS" in os.environ else _WIDTH_OF_A_FILE,
)


#: Characters that turn round how a line is shown.
_BIDI = {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}


def printable(text: str) -> str:
    """The text with "\ufffd" for what would command a terminal, or hide what a line says.

    Those are control characters but for line breaks and tabs, bidirectional overrides and halves of
    surrogate pairs.
    """
    return "".join(
        "\ufffd"
        if c in _BIDI or (c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs"))
        else c
        for c in text.replace("\r\n", "\n")
    )


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Units a second, once known."""
        rate = task.finished_speed or task.speed
        return Text(f"{_rate(rate)} {task.fields['unit']}/s" if rate else "", style="cyan")


def _rate(a_second: float) -> str:
    return f"{a_second:,.0f}" if a_second >= 10 else f"{a_second:.2g}"


class Advance(Protocol):
    """Tells a bar that `amount` more units are done."""

    def __call__(self, amount: int) -> None:
        """Move the bar on."""
        ...


@contextmanager
def progress(what: str, total: int | None, unit: str, *, shown: bool = True) -> Iterator[Advance]:
    """A bar with the rate and, where the total is known, the time left.

    `unit` is a plural noun, such as "passages".

    On anything but a terminal it prints a line a minute, or as often as TERCET_LINE_SECONDS says,
    and one at the end; where it is not to be `shown`, nothing.
    """
    if not shown:
        yield lambda amount: None
        return
    if not console.is_terminal:
        with _lines(what, total, unit) as advance:
            yield advance
        return
    # What the work is gives way where the terminal is narrow; figures never do.
    name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("  {task.description}", table_column=name),
        BarColumn(bar_width=12),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Rate(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console, expand=True) as bars:
        task = bars.add_task(what, total=total, unit=unit)
        yield lambda amount: bars.advance(task, amount)


@contextmanager
def _lines(what: str, total: int | None, unit: str) -> Iterator[Advance]:
    start = said = time.perf_counter()
    every = float(os.environ.get(LINE_SECONDS, "60"))
    done = 0

    def advance(amount: int) -> None:
        nonlocal done, said
        done += amount
        now = time.perf_counter()
        if done != total and now - said >= every:
            said, rate = now, done / (now - start)
            of = left = ""
            if total is not None:
                of = f" of {total:,}"
                left = f", left {timedelta(seconds=round((total - done) / rate)) if rate else '?'}"
            console.print(f"  {what}: {done:,}{of} {unit}, {_rate(rate)}/s{left}")

    yield advance
    seconds = time.perf_counter() - start
    console.print(
        f"  {what}: {done:,} {unit} in {timedelta(seconds=round(seconds))}, "
        f"{_rate(done / seconds)}/s"
    )
