"""Formatting of text, sizes and durations."""

from __future__ import annotations

from tercet.core.text import bytes_text, difference_text, excerpt, printable, seconds_text


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
