"""Text for people: one line of it, without control characters; sizes, durations, intervals."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

#: Characters with which a spreadsheet's formulas begin; a text may be empty.
_FORMULA = {*"=+-@\t\n＝＋－＠"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)

#: Characters that reverse the direction of the text after them.
_DIRECTION = {*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))}


def as_texts(texts: str | Sequence[str]) -> Sequence[str]:
    """A string as one text, not as the sequence of its characters."""
    return [texts] if isinstance(texts, str) else texts


def is_control(character: str) -> bool:
    """Whether it is a control, changes the direction of text, or is half of a surrogate pair."""
    return character in _DIRECTION or unicodedata.category(character) in ("Cc", "Cs")


def printable(text: str) -> str:
    """The text with "\ufffd" for controls other than line breaks and tabs (see `is_control`)."""
    return "".join(
        "\ufffd" if c not in "\n\t" and is_control(c) else c for c in text.replace("\r\n", "\n")
    )


def one_line(text: str) -> str:
    """The text with each run of whitespace replaced by one space."""
    return " ".join(text.split())


def excerpt(text: str, longest: int) -> str:
    """The text on one line of at most `longest` characters, cut after a word where possible."""
    line = one_line(text)
    if len(line) <= longest:
        return line
    end = line.rfind(" ", longest // 2, longest)
    # Scripts without spaces are cut anywhere.
    return line[: end if end > 0 else longest - 1] + "…"


#: Characters of a message; the middle of a longer one is left out.
LONGEST_MESSAGE = 600


def message_line(text: str) -> str:
    """A message on one line, "\ufffd" for its controls, of `LONGEST_MESSAGE` characters at most.

    Messages quote files, which may hold anything: an escape could clear the terminal, and a line
    break forge another line.
    """
    if len(text) > LONGEST_MESSAGE:
        head = LONGEST_MESSAGE * 2 // 3  # the end says what to do
        text = f"{text[:head]} … {text[head + 3 - LONGEST_MESSAGE :]}"
    return printable(" ".join(text.splitlines())).replace("\t", " ")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the columns of all; what a spreadsheet would run begins with a quote."""
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, names))
    writer.writerows([_cell(row.get(name, "")) for name in names] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """The value; a text without controls, and quoted if a spreadsheet would run it."""
    if not isinstance(value, str):
        return value
    value = printable(value)
    runs = value[:1] in _FORMULA and not _NUMBER.fullmatch(value)
    return f"'{value}" if runs else value


def error_text(error: Exception, longest: int = 300) -> str:
    """The message of an error on one line, or the name of its class if it has none."""
    return printable(excerpt(str(error), longest)) or type(error).__name__


def listed(ids: Sequence[str], most: int = 8) -> str:
    """The first ids of queries and how many more there are: queries 'a', 'b' and 3 more."""
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    noun = "query" if len(ids) == 1 else "queries"
    return f"{noun} {', '.join(map(repr, ids[:most]))}{more}"


def bytes_text(size: float) -> str:
    """Bytes with three digits and a decimal unit: 1.23 GB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= 0.9995 * unit:  # 999.6 MB rounds to 1 GB
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def seconds_text(seconds: float) -> str:
    """A duration in its largest useful unit: 42 s, 12 min, 3.4 h, 2.1 days."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_UNITS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_UNITS |= {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


def seconds_of(text: str) -> float | None:
    """The seconds of a duration such as 20min, 1.5 h or 90; None if it is none."""
    found = _DURATION.fullmatch(text.strip().lower())
    unit = _UNITS.get(found[2]) or _UNITS.get(found[2].removesuffix("s")) if found else None
    seconds = float(found[1]) * unit if found and unit else math.inf
    return seconds if math.isfinite(seconds) else None


def interval_text(low: float, high: float) -> str:
    """An interval of differences: [+0.0123, +0.0456]."""
    return f"[{low:+.4f}, {high:+.4f}]"


def difference_text(difference: float, low: float, high: float) -> str:
    """A difference and its interval: +0.0289 [+0.0123, +0.0456]."""
    return f"{difference:+.4f} {interval_text(low, high)}"
