"""Texts of strangers in Markdown: shown as they are, and never read as markup."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Controls that change the direction of what follows them.
_BIDI = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
_MARKUP = re.compile(r"[\\`*_\[\]<>~&$#!{}]")


def clean(text: str) -> str:
    """In one line, without control characters."""
    line = " ".join(text.split())
    return "".join(
        c for c in line if unicodedata.category(c) not in ("Cc", "Cs") and c not in _BIDI
    )


def escape(text: str) -> str:
    """As prose or in a cell: one line in which nothing is markup, HTML or a link."""
    line = _MARKUP.sub(lambda found: "\\" + found[0], clean(text))
    # A backslash before a bar is read in two ways, and links are made of plain addresses too.
    line = line.replace("|", "&#124;").replace("://", ":\\/\\/")
    return re.sub(r"(?i)(www)\.", r"\1\\.", line)


def code(text: str) -> str:
    """As a code span: one line, whatever backticks it has. Not for cells of tables."""
    line = clean(text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if line[:1] in ("", "`") or line[-1:] == "`" else ""
    return f"{ticks}{room}{line}{room}{ticks}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; cells are Markdown of one line."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return lines + ["| " + " | ".join(row) + " |" for row in cells]


def front_matter(values: Mapping[str, Any]) -> list[str]:
    """Lines of what the Hub reads at the head of a card: plain values, and lists of them."""
    lines = []
    for key, value in values.items():
        items = value if isinstance(value, list) else [value]
        plain = [json.dumps(item, ensure_ascii=False) for item in items]  # YAML reads it
        listed = isinstance(value, list)
        lines += [f"{key}:", *(f"- {item}" for item in plain)] if listed else [f"{key}: {plain[0]}"]
    return ["---", *lines, "---"]


def shown(name: str) -> str:
    """A name as others may see it: of a path, which is this machine's, its last part alone."""
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name[0] != "." and not Path(name).exists()
    return name if hub else re.split(r"[/\\]", name.rstrip("/\\"))[-1]
