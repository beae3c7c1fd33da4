"""Formatting of text, sizes and durations."""

from __future__ import annotations

import csv
import io

import pytest

from tercet.core.schema import InputError
from tercet.core.text import (
    LONGEST_MESSAGE,
    bytes_text,
    csv_text,
    difference_text,
    excerpt,
    printable,
    seconds_text,
)


def test_durations_and_sizes_have_a_readable_unit() -> None:
    shown = [seconds_text(s) for s in (0.2, 59, 61, 5_400, 9_000, 260_000)]
    assert shown == ["1 s", "59 s", "1 min", "90 min", "2.5 h", "3.0 days"]
    sizes = [bytes_text(s) for s in (12, 3_400, 5.6e7, 999.4e6, 999.6e6, 2.12e9)]
    assert sizes == ["12 B", "3.4 kB", "56 MB", "999 MB", "1 GB", "2.12 GB"]


def test_a_difference_is_shown_with_signs() -> None:
    assert difference_text(0.02891, 0.0123, -0.0456) == "+0.0289 [+0.0123, -0.0456]"


def test_an_excerpt_is_one_line_cut_after_a_word() -> None:
    assert excerpt("a  short\ntext", 20) == "a short text"
    assert excerpt("several words of a text", 15) == "several words…"
    assert excerpt("x" * 30, 10) == "x" * 9 + "…"


def test_controls_are_replaced() -> None:
    assert printable("a\x1b[2J\tb\r\n\u202ec") == "a\ufffd[2J\tb\n\ufffdc"


@pytest.mark.fault("terminal escapes and formulas")
def test_a_message_is_one_bounded_line_without_controls() -> None:
    forged = str(
        InputError("x.jsonl:1: \x1b[2J\x9b2J\x07\u202e\r\nerror: all is well\x00\u2028x\ty")
    )
    assert forged == "x.jsonl:1: \ufffd[2J\ufffd2J\ufffd\ufffd error: all is well\ufffd x y"
    long = str(InputError(f"x.jsonl:1: {'long ' * 100_000}: do this"))
    assert len(long) == LONGEST_MESSAGE
    assert long.startswith("x.jsonl:1: long") and long.endswith("long : do this")


@pytest.mark.fault("terminal escapes and formulas")
def test_a_formula_in_a_csv_is_text_and_a_number_a_number() -> None:
    formulas = ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "＝1"]
    plain = ["", "a=1", "'x", "-0.5", "+1e-05", "-.5", "bm25", "\ufffd=1", 1, -0.25, None]
    text = csv_text([{"system": value, "=name": "x"} for value in [*formulas, *plain]])
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == ["system", "'=name"]
    kept = ["" if value is None else str(value) for value in plain]
    assert [row[0] for row in rows] == [*(f"'{formula}" for formula in formulas), *kept]
    again = csv_text([dict(zip(header, row, strict=True)) for row in rows])
    assert again == text, "rows that are read and written again stay as they are"
