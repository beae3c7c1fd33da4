"""The console of all commands, its progress bars, and messages as JSON lines."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

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

_WIDTH_OF_A_FILE = 200  # columns of a table in a file or pipe, unless COLUMNS is set
#: Number of texts from which encoding shows a progress bar.
WORTH_A_BAR = 512
#: Environment variable: seconds between progress lines without a terminal; unset: 60.
LINE_SECONDS = "TERCET_LINE_SECONDS"
#: Training's log in the folder of its checkpoints, one JSON object a line; the studio plots it.
CURVES = "curves.jsonl"


class Messages(Console):
    """Prints messages on stdout; or nothing; or one JSON object a line on stderr.

    `print` is for what is told on the way, `warn` for what must be seen, and `result` for what the
    command was called for: it is printed in any case, as text on stdout.
    """

    json_lines = False

    def configure(self, *, quiet: bool = False, json: bool = False) -> None:
        """Whether to leave out messages, or to write them as JSON lines."""
        self.quiet, self.json_lines = quiet, json

    @property
    def shows_bars(self) -> bool:
        """Whether progress is a bar that moves; else it is lines."""
        return self.is_terminal and not self.json_lines

    def print(self, *objects: Any, **given: Any) -> None:
        """Print a message, unless messages are left out."""
        if not self.json_lines:
            super().print(*objects, **given)
        elif not self.quiet:
            self._write_line("info", *objects, **given)

    def warn(self, text: str) -> None:
        """Print a warning of one line, without markup."""
        if self.json_lines:
            self._write_line("warning", Text(text))
        else:
            self.result(Text(f"warning: {text}", "yellow"))

    def error(self, text: str) -> None:
        """Write an error as a JSON line."""
        self._write_line("error", Text(text))

    def result(self, *objects: Any, **given: Any) -> None:
        """Print what the command was called for."""
        quiet, self.quiet = self.quiet, False
        try:
            super().print(*objects, **given)
        finally:
            self.quiet = quiet

    def _write_line(self, level: str, *objects: Any, **given: Any) -> None:
        plain = Console(file=io.StringIO(), width=_WIDTH_OF_A_FILE, highlight=False, soft_wrap=True)
        plain.print(*objects, **given)
        text = plain.file.getvalue().strip()  # type: ignore[attr-defined]
        if text:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"time": now, "level": level, "message": text}, ensure_ascii=False)
            print(line, file=sys.stderr, flush=True)


# Lines and tables are not wrapped in a file or a pipe.
_in_terminal = sys.stdout.isatty()
console = Messages(
    highlight=False,
    soft_wrap=not _in_terminal,
    width=None if _in_terminal or "COLUMNS" in os.environ else _WIDTH_OF_A_FILE,
)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Units per second, once known."""
        rate = task.finished_speed or task.speed
        return Text(f"{_rate(rate)} {task.fields['unit']}/s" if rate else "", style="cyan")


def _rate(a_second: float) -> str:
    return f"{a_second:,.0f}" if a_second >= 10 else f"{a_second:.2g}"


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, amount: int) -> None:
        """Count `amount` more units as done."""
        ...


@contextmanager
def progress(what: str, total: int | None, unit: str, *, shown: bool = True) -> Iterator[Advance]:
    """A progress bar with the rate and, if the total is known, the time left.

    `unit` is a plural noun, such as "passages". Without a terminal it prints a line every minute
    (or every TERCET_LINE_SECONDS) and one at the end.
    """
    if not shown:
        yield lambda amount: None
        return
    if not console.shows_bars:
        with _lines(what, total, unit) as advance:
            yield advance
        return
    # In a narrow terminal the description is cut, the numbers never.
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
