"""TREC topics, in the old markup or as XML."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from tercet.core.schema import InputError
from tercet.core.text import one_line
from tercet.data.sources.cells import Row, Rows
from tercet.data.sources.text_files import lines

_TOPIC = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
# A field ends at the next one: a text may hold "<", as in "pH < 7".
_FIELD = re.compile(
    r"<(num|title|desc|narr)>(.*?)(?=</?(?:num|title|desc|narr)>|\Z)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\s*(Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)


def topics(file: Path, encoding: str | None = None) -> Rows:
    """Topics with `num`, `title`, `desc` and `narr`, or the fields of an XML file."""
    text = "\n".join(line for _, line in lines(file, encoding))
    found = 0
    for found, block in enumerate(_TOPIC.findall(text), 1):
        fields = {name.lower(): _LABEL.sub("", value) for name, value in _FIELD.findall(block)}
        yield f"{file}, topic {found}", _unescaped(fields)
    if not found:
        yield from _xml_topics(file, text)


def _xml_topics(file: Path, text: str) -> Rows:
    """Topics of later TREC tracks: `<topic number="1"><query>...</query></topic>`."""
    found = 0
    for found, match in enumerate(
        re.finditer(r"<topic\b([^>]*)>(.*?)</topic>", text, re.DOTALL), 1
    ):
        attributes, block = match.groups()
        number = re.search(r"""(?:number|id)\s*=\s*["']([^"']+)""", attributes)
        fields = dict(re.findall(r"<(\w+)>(.*?)</\1>", block, re.DOTALL))
        yield f"{file}, topic {found}", _unescaped({"num": number[1] if number else ""} | fields)
    if not found:
        raise InputError(f"{file}: holds neither <top> nor <topic>, so no TREC topics")


def _unescaped(fields: dict[str, str]) -> Row:
    return {name: one_line(unescape(value)) for name, value in fields.items()}
