"""Rows of JSON files: an object a line, which is streamed, or one array, which is held."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tercet.core.schema import InputError
from tercet.data.sources.cells import Rows
from tercet.data.sources.text_files import lines, whole_text

#: The three mappings of a fine-tuning file of LlamaIndex.
_LLAMA_INDEX = ("queries", "corpus", "relevant_docs")
_SHAPES = "an array of objects, an object of one such array, or a mapping of ids to texts"


def json_lines(file: Path, encoding: str | None = None) -> Rows:
    """Rows of a file with one JSON object per line."""
    for number, line in lines(file, encoding):
        place = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            array = number == 1 and line.lstrip().startswith("[")
            mend = ": an array is not lines: name the file .json" if array else ""
            # The parser's message ends with a position within the line.
            raise InputError(f"{place}: not JSON ({error}){mend}") from None
        if not isinstance(row, dict):
            raise InputError(f"{place}: not a JSON object")
        yield place, row


def json_rows(file: Path, role: str, encoding: str | None = None) -> Rows:
    """Rows of a JSON file, held in memory: of an array, or of what a mapping has for the `role`.

    A file with one object a line is read as lines.
    """
    try:
        value = json.loads(whole_text(file, encoding))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:
            yield from json_lines(file, encoding)
            return
        place = f"{file}:{error.lineno}"
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        fault = f"ends before its JSON does ({error.msg})" if cut else f"not JSON ({error.msg})"
        raise InputError(f"{place}: {fault}: write or fetch the whole file again") from None
    except RecursionError:
        raise InputError(f"{file}: JSON that is nested too deeply") from None
    for number, row in enumerate(_of(value, role, file), 1):
        place = f"{file}, item {number}"
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise InputError(f"{place}: not a JSON object, but {str(row)[:40]!r}")
        yield place, row


def _of(value: Any, role: str, file: Path) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if all(isinstance(value.get(name), dict) for name in _LLAMA_INDEX):
            return _llama_index(value, role)
        lists = [each for each in value.values() if isinstance(each, list)]
        if len(lists) == 1:
            return lists[0]
        if value and all(isinstance(each, str) for each in value.values()):
            return [{"id": id, "text": text} for id, text in value.items()]
    raise InputError(f"{file}: its JSON must be {_SHAPES}")


def _llama_index(value: dict[str, Any], role: str) -> list[Any]:
    queries, corpus, relevant = (value[name] for name in _LLAMA_INDEX)
    if role == "passages":
        return [{"id": id, "text": text} for id, text in corpus.items()]
    return [
        {"id": id, "text": text, "relevant_docs": relevant.get(id)} for id, text in queries.items()
    ]
