"""The console of all commands, its progress bars, and messages as JSON lines."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from tercet.core.text import message_line, printable

_WIDTH_OF_A_FILE = 200  # columns of a table in a file or pipe, unless COLUMNS is set
#: Number of texts from which encoding shows a progress bar.
WORTH_A_BAR = 512
#: Environment variable: seconds between progress lines without a terminal; unset: 30.
LINE_SECONDS = "TERCET_LINE_SECONDS"
#: Training's log in the folder of its checkpoints, one JSON object a line; the studio plots it.
CURVES = "curves.jsonl"


class _Literal(Console):
    """A console on which a text is text: no markup in it, and no controls of its own."""

    def __init__(self, **given: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **given)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """The segments, with controls replaced but for those of the console itself."""
        for segment in super().render(renderable, options):
            plain = segment.control or segment.text.isprintable()
            yield segment if plain else segment._replace(text=printable(segment.text))


class Messages(_Literal):
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
        return (self.is_terminal or self.is_jupyter) and not self.json_lines

    def print(self, *objects: Any, **given: Any) -> None:
        """Print a message, unless messages are left out."""
        if not self.json_lines:
            super().print(*objects, **given)
        elif not self.quiet:
            self._write_line("info", *objects, **given)

    def warn(self, text: str, style: str = "yellow") -> None:
        """Print a warning of one line, without markup."""
        if self.json_lines:
            self._write_line("warning", Text(message_line(text)))
        else:
            self.result(Text(f"warning: {message_line(text)}", style))

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
        plain = _Literal(file=io.StringIO(), width=_WIDTH_OF_A_FILE, soft_wrap=True)
        plain.print(*objects, **given)
        text = plain.file.getvalue().strip()  # type: ignore[attr-defined]
        if text:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"time": now, "level": level, "message": text}, ensure_ascii=False)
            print(line, file=sys.stderr, flush=True)


# Lines and tables are not wrapped in a file or a pipe.
_wraps = sys.stdout.isatty() or "ipykernel" in sys.modules
console = Messages(
    soft_wrap=not _wraps,
    width=None if _wraps or "COLUMNS" in os.environ else _WIDTH_OF_A_FILE,
)


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, amount: int) -> None:
        """Count `amount` more units as done."""
        ...


#: Counts what a model has done of the rows of a shard: rows and tokens.
_of_model: ContextVar[Callable[[int, int], None] | None] = ContextVar("_of_model", default=None)


def count_batch(rows: int, tokens: int) -> None:
    """Count a batch of a model's work in the bar that shows it, if there is one.

    A shard may take minutes: between two shards its batches move the bar.
    """
    count = _of_model.get()
    if count is not None:
        count(rows, tokens)


@contextmanager
def progress(
    what: str,
    total: int | None,
    unit: str,
    *,
    shown: bool = True,
    by_model: bool = False,
    done: int = 0,
    work: Callable[[int], float] = float,
) -> Iterator[Advance]:
    """A progress bar with the rate, the time elapsed and, if the total is known, the time left.

    `unit` is a plural noun, such as "passages". With `by_model` a model's batches move it too: see
    `count_batch`. `done` units were finished before. `work(n)` is what the first n units take, such
    as their tokens: the time left follows it. Without a terminal it prints a line every half minute
    (or every TERCET_LINE_SECONDS) and one at the end.
    """
    if not shown:
        yield lambda amount: None
        return
    with (_bar if console.shows_bars else _lines)(_Count(what, total, unit, done, work)) as show:
        count = show.count

        def of_batch(rows: int, tokens: int) -> None:
            count.add(within=rows, tokens=tokens)
            show()

        def advance(amount: int) -> None:
            count.add(finished=amount)
            show()

        token = _of_model.set(of_batch if by_model else None)
        try:
            yield advance
        finally:
            _of_model.reset(token)


class _Count:
    """What a bar shows: `finished` units and, of those that are not, `within` a shard."""

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str,
        done: int,
        work: Callable[[int], float],
    ) -> None:
        self.what, self.total, self.unit, self.before = what, total, unit, done
        self.finished, self.within, self.tokens = done, 0, 0
        self.start = self.counted = time.perf_counter()
        self._work = work

    def add(self, finished: int = 0, within: int = 0, tokens: int = 0) -> None:
        """Count units that are finished, and with them the shard, or some within it."""
        self.finished += finished
        self.within = 0 if finished else self.within + within
        self.tokens += tokens
        self.counted = time.perf_counter()

    @property
    def done(self) -> int:
        """Units that are done."""
        done = self.finished + self.within
        return done if self.total is None else min(done, self.total)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    @property
    def _worked(self) -> float:
        """Seconds until the last count: a rate does not fall between two batches."""
        return max(self.counted - self.start, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds left at the rate so far; None if unknown."""
        if self.total is None or self.done == self.before:
            return None
        since = time.perf_counter() - self.counted
        before, done, total = map(self._work, (self.before, self.done, self.total))
        return max(0.0, (total - done) / (done - before) * self._worked - since)

    @property
    def rate(self) -> float:
        """Units a second."""
        return (self.done - self.before) / self._worked

    @property
    def rates(self) -> str:
        """Units and, where they are known, tokens a second."""
        tokens = f", {_rate(self.tokens / self._worked)} tokens/s" if self.tokens else ""
        return f"{_rate(self.rate)} {self.unit}/s{tokens}"


class _Shown(Protocol):
    """Shows a count as it is now."""

    count: _Count

    def __call__(self) -> None: ...


class _Bar:
    """A bar that moves."""

    def __init__(self, count: _Count, bars: Progress) -> None:
        self.count, self._bars = count, bars
        self._task = bars.add_task(
            count.what, total=count.total, completed=count.done, unit=count.unit, count=count
        )

    def __call__(self) -> None:
        self._bars.update(self._task, completed=self.count.done)


class _Column(ProgressColumn):
    """A text about the count."""

    def __init__(self, text: Callable[[_Count], str], style: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._text, self._style = text, style

    def render(self, task: Task) -> Text:
        """The text as of now."""
        return Text(self._text(task.fields["count"]), self._style)


@contextmanager
def _bar(count: _Count) -> Iterator[_Shown]:
    # In a narrow terminal the description is cut, the numbers never.
    name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("  {task.description}", markup=False, table_column=name),
        BarColumn(bar_width=12),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Column(lambda count: count.rates if count.done > count.before else "", "cyan"),
        _Column(lambda count: f"{_clock(count.seconds)} elapsed,", "default"),
        _Column(lambda count: f"{_clock(count.left)} left", "bold"),
    )
    with Progress(*columns, console=console, expand=True) as bars:
        yield _Bar(count, bars)


class _Lines:
    """Lines in a log, one every so many seconds."""

    def __init__(self, count: _Count) -> None:
        self.count, self._said = count, time.perf_counter()
        self._every = float(os.environ.get(LINE_SECONDS, "30"))

    def __call__(self) -> None:
        count, now = self.count, time.perf_counter()
        if now - self._said < self._every or count.finished == count.total:
            return
        self._said = now
        of = f" of {count.total:,}" if count.total is not None else ""
        left = f", {_clock(count.left)} left" if count.total is not None else ""
        console.print(
            f"  {count.what}: {count.done:,}{of} {count.unit}, {count.rates}, "
            f"{_clock(count.seconds)} elapsed{left}"
        )


@contextmanager
def _lines(count: _Count) -> Iterator[_Shown]:
    yield _Lines(count)
    made = count.finished - count.before
    console.print(
        f"  {count.what}: {made:,} {count.unit} in {_clock(count.seconds)}, {count.rates}"
    )


def _rate(a_second: float) -> str:
    return f"{a_second:,.0f}" if a_second >= 10 else f"{a_second:.2g}"


def _clock(seconds: float | None) -> str:
    return "?" if seconds is None else str(timedelta(seconds=round(seconds)))
