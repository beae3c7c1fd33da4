"""Queries and grades read from what language models answer, however they wrap it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tercet.modeling.generators.base import tidy

_LONGEST = 50_000  # characters of an answer that are read
_MOST_BRACKETS = 200  # that begin no JSON, after which no more are tried
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_ENDS = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_MARK = re.compile(r"^\s*(?:[-*•–]|\d{1,3}[.):])\s+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_FENCE = re.compile(r"^\s*```\w*\s*$")


def spoken(text: str) -> str:
    """An answer without what the model thought before it; nothing of one that only thought."""
    text = _THOUGHT.sub("", text[:_LONGEST])
    return _THOUGHT_ENDS.split(text)[-1].strip()


def queries_in(answer: str, most: int, prompt: str) -> list[str]:
    """The first `most` distinct queries of an answer to `prompt`, in its order.

    It is JSON, whole or cut off, or a list in lines. Lines of the prompt are none.
    """
    text = spoken(answer).replace(prompt, "")
    found = next((texts for texts in _readings(text) if texts), [])
    known = {_folded(line) for line in prompt.splitlines()}
    known |= {_folded(line.partition(":")[2]) for line in prompt.splitlines()}
    tidied = dict.fromkeys(tidy(each) for each in found)
    return [query for query in tidied if query and _folded(query) not in known][:most]


def grades_in(answer: str, count: int) -> list[int] | None:
    """The grades of an answer, or None if it holds no `count` whole numbers from 0 to 2."""
    for value in reversed([*_values(spoken(answer))]):
        grades = value.get("grades") if isinstance(value, dict) else value
        if isinstance(grades, list) and len(grades) == count:
            if all(type(grade) is int and 0 <= grade <= 2 for grade in grades):
                return grades
    return None


def _readings(text: str) -> Iterator[list[str]]:
    """What the text may be meant as, the most exact first."""
    for value in reversed([*_values(text)]):
        yield [*_leaves(value.get("queries", value) if isinstance(value, dict) else value)]
    lines = [line for line in text.splitlines() if line.strip() and not _FENCE.match(line)]
    bare = "\n".join(lines).lstrip()
    _, key, rest = bare.partition('"queries"')
    if key or bare.startswith(("[", "{")):
        array = rest if key else bare
        yield [*_whole_strings(array[array.find("[") + 1 :])]
        return
    yield [_MARK.sub("", line) for line in lines if _MARK.match(line)]
    yield [line for line in lines if not line.rstrip().endswith((":", "{", "[", "}", "]"))]


def _values(text: str) -> Iterator[Any]:
    """Each JSON object or array in a text, outermost ones alone."""
    decoder, place, failed = json.JSONDecoder(), 0, 0
    while failed < _MOST_BRACKETS and (start := _next_of(text, place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            place, failed = start + 1, failed + 1
        else:
            yield value


def _next_of(text: str, place: int) -> int:
    places = [found for mark in "{[" if (found := text.find(mark, place)) >= 0]
    return min(places, default=-1)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)


def _whole_strings(text: str) -> Iterator[str]:
    """The strings of an array that was cut off; not the one amid which it was."""
    for found in _STRING.finditer(text):
        try:
            yield str(json.loads(found[0], strict=False))
        except ValueError:
            continue


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" \"'.?!")
