"""What progress says in a log: rows, tokens, and the time elapsed and left."""

from __future__ import annotations

import io
import re

import pytest
from rich.table import Column, Table
from rich.text import Text

from tercet.core import console as module
from tercet.core.console import Messages, count_batch, progress
from tercet.studio.runs import PROGRESS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed: the test sets them."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed, without a terminal."""
    written = io.StringIO()
    monkeypatch.setattr(module, "console", Messages(file=written, soft_wrap=True, width=200))
    return written


HOSTILE = "\x1b[2J[red]\x9b1m :smile: [/nothing]\u202e"
SHOWN = "\ufffd[2J[red]\ufffd1m :smile: [/nothing]\ufffd"


@pytest.mark.fault("terminal escapes and formulas")
@pytest.mark.parametrize("terminal", [True, False])
def test_a_text_neither_formats_the_terminal_nor_is_markup(terminal: bool) -> None:
    written = io.StringIO()
    console = Messages(file=written, soft_wrap=True, width=200, force_terminal=terminal)
    table = Table(Column(HOSTILE, min_width=60), title=HOSTILE)
    table.add_row(HOSTILE)
    for each in (HOSTILE, Text(HOSTILE), table):
        console.print(each)
    console.warn(f"{HOSTILE}\nerror: forged")
    text = re.sub(r"\x1b\[[\d;]+m", "", written.getvalue())  # the console's own styles
    assert text.count(SHOWN) == 6
    assert f"warning: {SHOWN} error: forged\n" in text
    assert not set(text) & set("\x1b\x9b\u202e")


def test_a_log_has_a_line_every_half_minute(clock: list[float], said: io.StringIO) -> None:
    with progress("scoring pairs", 1_000, "pairs") as advance:
        for second in range(1, 101):
            clock[0] = second
            advance(10)
    assert said.getvalue().splitlines() == [
        "  scoring pairs: 300 of 1,000 pairs, 10 pairs/s, 0:00:30 elapsed, 0:01:10 left",
        "  scoring pairs: 600 of 1,000 pairs, 10 pairs/s, 0:01:00 elapsed, 0:00:40 left",
        "  scoring pairs: 900 of 1,000 pairs, 10 pairs/s, 0:01:30 elapsed, 0:00:10 left",
        "  scoring pairs: 1,000 pairs in 0:01:40, 10 pairs/s",
    ]


def test_a_models_batches_move_the_bar_within_a_shard(
    clock: list[float], said: io.StringIO
) -> None:
    with progress("embedding", 200, "passages", by_model=True) as advance:
        clock[0] = 30
        count_batch(60, 6_000)
        with progress("inner", None, "things", shown=False):
            clock[0] = 60
            count_batch(30, 3_000)
        advance(100)  # the shard; ten of it are not counted twice
        clock[0] = 90
        count_batch(500, 4_500)  # never more than there are
    lines = said.getvalue().splitlines()
    assert lines[0].startswith(
        "  embedding: 60 of 200 passages, 2 passages/s, 200 tokens/s, 0:00:30"
    )
    assert lines[1].startswith("  embedding: 90 of 200")
    assert lines[2].startswith("  embedding: 200 of 200")
    assert all(PROGRESS.match(line) for line in lines[:3])


def test_the_time_left_follows_the_work(clock: list[float], said: io.StringIO) -> None:
    taken = [0, 70, 90, 95, 100]  # the longest first
    with progress("scoring", 4, "pairs", work=taken.__getitem__) as advance:
        clock[0] = 70
        advance(1)
        clock[0] = 100
        advance(1)
    lines = said.getvalue().splitlines()
    assert "1 of 4" in lines[0] and lines[0].endswith("0:01:10 elapsed, 0:00:30 left")
    assert "2 of 4" in lines[1] and lines[1].endswith("0:01:40 elapsed, 0:00:11 left")


def test_a_batch_moves_only_a_bar_of_its_own_rows(said: io.StringIO) -> None:
    count_batch(5, 50)
    with progress("writing", 10, "passages", by_model=True), progress("mining", 10, "queries"):
        count_batch(5, 50)
    assert "  mining: 0 queries" in said.getvalue() and "tokens" not in said.getvalue()


def test_what_was_done_before_counts_for_no_rate(clock: list[float], said: io.StringIO) -> None:
    with progress("training", 100, "steps", done=50) as advance:
        clock[0] = 40
        advance(10)
    line = said.getvalue().splitlines()[0]
    assert re.search(r"60 of 100 steps, 0\.25 steps/s, 0:00:40 elapsed, 0:02:40 left", line)
    found = PROGRESS.match(line)
    assert found and (found["done"], found["total"], found["unit"]) == ("60", "100", "steps")
    assert (found["rate"], found["left"]) == ("0.25", "0:02:40")


def test_a_terminal_shows_elapsed_and_left_apart(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    terminal = Messages(file=written, force_terminal=True, width=110, color_system=None)
    monkeypatch.setattr(module, "console", terminal)
    with progress("embedding passages", 100, "passages", by_model=True):
        clock[0] = 20.0
        count_batch(25, 2_000)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    assert "25/100" in shown and "1.2 passages/s, 100 tokens/s" in shown
    assert "0:00:20 elapsed" in shown and "0:01:00 left" in shown
