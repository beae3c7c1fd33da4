"""TREC topics, in the old markup or as XML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from tercet.core.schema import InputError
from tercet.core.text import one_line
from tercet.data.sources.cells import Row, Rows
from tercet.data.sources.text_files import lines

_TOPIC = re.compile(r"<(/?)top>", re.IGNORECASE)
_XML_TOPIC = re.compile(r"<(/?)topic\b([^<>]*)>")
_XML_FIELD = re.compile(r"<(/?)(\w+)>")
# A field ends at the next one: a text may hold "<", as in "pH < 7".
_FIELD = re.compile(
    r"<(num|title|desc|narr)>(.*?)(?=</?(?:num|title|desc|narr)>|\Z)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\s*(Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)


def topics(file: Path, encoding: str | None = None) -> Rows:
    """Topics with `num`, `title`, `desc` and `narr`, or the fields of an XML file."""
    text = "\n".join(line for _, line in lines(file, encoding))
    found = 0
    for found, (_, block) in enumerate(_elements(_TOPIC, text), 1):
        fields = {name.lower(): _LABEL.sub("", value) for name, value in _FIELD.findall(block)}
        yield f"{file}, topic {found}", _unescaped(fields)
    if not found:
        yield from _xml_topics(file, text)


def _elements(tag: re.Pattern[str], text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each element's first tag and its text up to the next last tag of its name, if it has one.

    The first group of `tag` is the slash of a last tag; in time linear in the text.
    """
    tags = list(tag.finditer(text))
    ends: list[re.Match[str] | None] = []
    after: dict[str, re.Match[str]] = {}
    for each in reversed(tags):
        name = each[2] if tag is _XML_FIELD else ""
        ends.append(after.get(name))
        if each[1]:
            after[name] = each
    place = 0
    for each, end in zip(tags, reversed(ends), strict=True):
        if not each[1] and end and each.start() >= place:
            place = end.end()
            yield each, text[each.end() : end.start()]


def _xml_topics(file: Path, text: str) -> Rows:
    """Topics of later TREC tracks: `<topic number="1"><query>...</query></topic>`."""
    found = 0
    for found, (tag, block) in enumerate(_elements(_XML_TOPIC, text), 1):
        number = re.search(r"""(?:number|id)\s*=\s*["']([^"']+)""", tag[2])
        fields = {field[2]: value for field, value in _elements(_XML_FIELD, block)}
        yield f"{file}, topic {found}", _unescaped({"num": number[1] if number else ""} | fields)
    if not found:
        raise InputError(f"{file}: holds neither <top> nor <topic>, so no TREC topics")


def _unescaped(fields: dict[str, str]) -> Row:
    return {name: one_line(unescape(value)) for name, value in fields.items()}
