"""Rows of JSON files: an object a line, which is streamed, or arrays and objects, which are held.

What a file holds decides, whatever its name: one that is called .jsonl may be an array.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.core.schema import InputError
from tercet.data.sources.cells import IDS, QUERY_TEXTS, TEXTS, Rows, plain
from tercet.data.sources.text_files import lines, whole_text

_START = re.compile(r"\s*")
#: The three mappings of a fine-tuning file of LlamaIndex.
_LLAMA_INDEX = ("queries", "corpus", "relevant_docs")
_SHAPES = (
    "an array of objects, an object of one such array, or a mapping of ids to texts, objects or, "
    "of judgements, to passages"
)
#: Names of which an object has one if it is a row, and not a mapping of ids.
_OF_ROWS = {*map(plain, (*IDS, *TEXTS, *QUERY_TEXTS))}


def json_lines(file: Path, encoding: str | None, role: str) -> Rows:
    """Rows of a file with one JSON object per line, or else as `json_rows`."""
    first = next((line for _, line in lines(file, encoding)), "{}")
    if _is_whole(first):
        yield from json_rows(file, role, encoding)
    else:
        yield from _rows_of_lines(file, encoding)


def _is_whole(first: str) -> bool:
    """Whether a first line begins a JSON value that is no row of its own."""
    if first.lstrip().startswith("["):
        return True
    try:
        row = json.loads(first)
    except json.JSONDecodeError as error:
        return first.lstrip().startswith("{") and _is_cut(error)
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets
        return False
    return isinstance(row, dict) and _is_llama_index(row)


def _is_cut(error: json.JSONDecodeError) -> bool:
    at_end = error.pos >= len(error.doc.rstrip())
    return at_end or error.msg.startswith("Unterminated")


def _rows_of_lines(file: Path, encoding: str | None) -> Rows:
    for number, line in lines(file, encoding):
        place = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            # The parser's message ends with a position within the line.
            raise InputError(f"{place}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise InputError(f"{place}: not a JSON object")
        yield place, row


def json_rows(file: Path, role: str, encoding: str | None = None) -> Rows:
    """Rows of a JSON file, held in memory: of an array, or of what a mapping has for the `role`.

    A file with one object a line is read as lines, and one of several objects as their array.
    """
    text = whole_text(file, encoding)
    if _is_lines(text):
        yield from _rows_of_lines(file, encoding)
        return
    for number, row in enumerate(_of(_value(text, file), role, file), 1):
        place = f"{file}, item {number}"
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise InputError(f"{place}: not a JSON object, but {str(row)[:40]!r}")
        yield place, row


def _is_lines(text: str) -> bool:
    """Whether the first line is an object, and more than blanks follow it."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _value(text: str, file: Path) -> Any:
    """The JSON value of a text, or a list of them where there are several."""
    values, place, decoder = [], 0, json.JSONDecoder()
    try:
        while (start := _START.match(text, place)) and start.end() < len(text):
            value, place = decoder.raw_decode(text, start.end())
            values.append(value)
    except json.JSONDecodeError as error:
        place_of = f"{file}:{error.lineno}"
        how = "ends before its JSON does" if _is_cut(error) else "not JSON"
        raise InputError(
            f"{place_of}: {how} ({error.msg}): write or fetch the whole file again"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets
        raise InputError(f"{file}: not JSON that can be read ({error})") from None
    return values[0] if len(values) == 1 else values


def _of(value: Any, role: str, file: Path) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if _is_llama_index(value):
            return _llama_index(value, role)
        if {plain(name) for name in value} & _OF_ROWS:
            return [value]
        lists = [each for each in value.values() if isinstance(each, list)]
        if len(lists) == 1 and role != "qrels":
            return lists[0]
        if value and (rows := _mapped(value, role)):
            return rows
    raise InputError(f"{file}: its JSON must be {_SHAPES}")


def _mapped(value: dict[str, Any], role: str) -> list[dict[str, Any]]:
    """The rows of a mapping of ids, to texts, to rows or, of qrels, to passages; else none."""
    each = value.values()
    if role == "qrels":
        return list(_mapped_grades(value))
    if all(isinstance(text, str) for text in each):
        return [{"id": id, "text": text} for id, text in value.items()]
    if all(isinstance(row, dict) for row in each):
        return [{"id": id} | row for id, row in value.items()]
    return []


def _mapped_grades(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Query -> passage -> grade, or query -> relevant passages."""
    for query, passages in value.items():
        if isinstance(passages, list):
            passages = dict.fromkeys(map(str, passages), 1)
        if not isinstance(passages, dict):
            return
        for passage, grade in passages.items():
            yield {"query_id": query, "passage_id": passage, "grade": grade}


def _is_llama_index(value: dict[str, Any]) -> bool:
    return all(isinstance(value.get(name), dict) for name in _LLAMA_INDEX)


def _llama_index(value: dict[str, Any], role: str) -> list[Any]:
    queries, corpus, relevant = (value[name] for name in _LLAMA_INDEX)
    if role == "passages":
        return [{"id": id, "text": text} for id, text in corpus.items()]
    if role == "qrels":
        return list(_mapped_grades(relevant))
    return [
        {"id": id, "text": text, "relevant_docs": relevant.get(id)} for id, text in queries.items()
    ]
