"""Untrusted text in Markdown: shown literally, never interpreted as markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tercet.core.text import is_control, one_line

_MARKUP = re.compile(r"[\\`*_\[\]<>~&$#!{}]")


def clean(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(c for c in one_line(text) if not is_control(c))


def escape(text: str) -> str:
    """The text on one line for prose or a table cell: no markup, HTML or link takes effect."""
    line = _MARKUP.sub(lambda found: "\\" + found[0], clean(text))
    # Renderers read a backslash before a bar differently; many turn plain addresses into links.
    line = line.replace("|", "&#124;").replace("://", ":\\/\\/")
    return re.sub(r"(?i)(www)\.", r"\1\\.", line)


def code(text: str) -> str:
    """The text as a code span on one line; it may hold backticks. Not for table cells."""
    line = clean(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if line[:1] in ("", "`") or line[-1:] == "`" else ""
    return f"{ticks}{room}{line}{room}{ticks}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; each cell is one line of Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return lines + ["| " + " | ".join(row) + " |" for row in cells]


def front_matter(values: Mapping[str, Any]) -> list[str]:
    """Lines of a card's YAML front matter; values are scalars or lists of scalars."""
    lines = []
    for key, value in values.items():
        items = value if isinstance(value, list) else [value]
        plain = [json.dumps(item, ensure_ascii=False) for item in items]  # JSON scalars are YAML
        listed = isinstance(value, list)
        lines += [f"{key}:", *(f"- {item}" for item in plain)] if listed else [f"{key}: {plain[0]}"]
    return ["---", *lines, "---"]


def shown(name: str) -> str:
    """A name for publication: a Hub name as it is, of a local path the last part only."""
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name[0] != "." and not Path(name).exists()
    return name if hub else re.split(r"[/\\]", name.rstrip("/\\"))[-1]
