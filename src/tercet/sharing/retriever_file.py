"""A retriever as one Python file that needs no Tercet: the template, with a run's values in it.

`templates/retriever.py` is a module as it stands. What is of one kind of retriever alone is marked
there: `# region KIND` up to `# endregion`, and single lines by `# only: KIND`. Kinds are `exact`
and `weaviate`, the index, and `space`: vectors are checked against a sample.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tercet.core.files import write_file
from tercet.core.mapped import BLOCK, Vectors, by_id
from tercet.core.schema import InputError, Passage

TEMPLATE = Path(__file__).parent / "templates" / "retriever.py"
#: What every such file has in it.
MARK = b"class TercetRetriever(BaseRetriever):"
_WIDTH = 100  # of a line
_REGION = re.compile(r"\s*# region (\w+)\n")
_END = re.compile(r"\s*# endregion\n")
_ONLY = re.compile(r"  # only: (\w+)\n")


def check_ours(path: Path) -> None:
    """Raises InputError for a file there that is somebody's own."""
    if path.exists() and MARK not in path.read_bytes():
        raise InputError(f"{path} is there and is no retriever: give --out another name")


def write_retriever(path: Path, kinds: Collection[str], values: Mapping[str, Any]) -> None:
    """Write the file: the template's parts for `kinds`, its constants set to `values` by name.

    Values are None, booleans, numbers, strings, and lists and tuples of them; whatever a string
    holds, it stays a string. Raises KeyError for a constant that the template does not have, and
    InputError for a file there that is somebody's own.
    """
    check_ours(path)
    source = _fill(_parts(TEMPLATE.read_text(encoding="utf-8"), kinds), values)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, source.encode())


def write_passages(
    folder: Path, passages: Sequence[Passage], ids: Sequence[str], vectors: Vectors | None
) -> None:
    """The passages, and their vectors float32 [passages, dimension] if given, for such a file.

    In the order of ids, block by block: `passages.jsonl` with id, title and text, `ends.npy` with
    the bytes up to each line's end, `vectors.npy`. Whole or not at all; a folder there is replaced.
    """
    partial, order = folder.with_name(folder.name + ".partial"), by_id(ids)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    ends, end = np.empty(len(order), np.int64), 0
    with (partial / "passages.jsonl").open("wb") as file:
        for place, row in enumerate(order.tolist()):
            passage = passages[row]
            line = {"id": passage.id, "title": passage.title, "text": passage.text}
            end += file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            ends[place] = end
    np.save(partial / "ends.npy", ends)
    if vectors is not None:
        shape = (len(order), vectors.shape[1])
        file_ = np.lib.format.open_memmap(partial / "vectors.npy", "w+", np.float32, shape)
        for start in range(0, len(order), BLOCK):
            file_[start : start + BLOCK] = vectors[order[start : start + BLOCK]]
        file_.flush()
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _parts(template: str, kinds: Collection[str]) -> str:
    """The template without the parts of other kinds, and without marks."""
    kept, inside = [], []
    for line in template.splitlines(keepends=True):
        if region := _REGION.fullmatch(line):
            inside.append(region[1])
        elif _END.fullmatch(line):
            inside.pop()
        else:
            only = _ONLY.search(line)
            if {*inside, *([only[1]] if only else [])} <= set(kinds):
                kept.append(_ONLY.sub("\n", line))
    return "".join(kept)


def _fill(source: str, values: Mapping[str, Any]) -> str:
    """The module with its top-level constants of these names set to these values."""
    lines = source.splitlines()
    constants = {
        ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target): node
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign | ast.Assign)
    }
    # From the end, so that the places of those before stay as they are.
    for name in sorted(values, key=lambda name: -constants[name].lineno):
        node = constants[name]
        assert node.value is not None and node.end_lineno is not None
        before = lines[node.lineno - 1][: node.value.col_offset]
        lines[node.lineno - 1 : node.end_lineno] = [before + literal(values[name], len(before))]
    return "\n".join(lines) + "\n"


def literal(value: Any, column: int = 0, indent: int = 0, after: int = 0) -> str:
    """Python source of a value that begins at `column`, in lines of up to 100 characters.

    `indent` is that of the statement's line, and `after` what follows the value on its last line.
    """
    flat = _flat(value)
    if column + len(flat) + after <= _WIDTH:
        return flat
    inner, outer = " " * (indent + 4), " " * indent
    if isinstance(value, str):
        pieces = _pieces(value, _WIDTH - indent - 6)
        if len(pieces) == 1:
            return flat
        return "(\n" + "".join(f"{inner}{_quoted(piece)}\n" for piece in pieces) + f"{outer})"
    if isinstance(value, list | tuple):
        opening, closing = "[]" if isinstance(value, list) else "()"
        items = (literal(item, indent + 4, indent + 4, 1) for item in value)
        return opening + "\n" + "".join(f"{inner}{item},\n" for item in items) + outer + closing
    return flat


def _flat(value: Any) -> str:
    """A value's source in one line."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} is no constant of a retriever's file")


def _quoted(text: str) -> str:
    """A string's source, in the quotes that need fewer escapes."""
    # With a double quote in it, repr chooses single ones, and escapes all within that are single.
    body = repr('"' + text)[2:-1]
    if text.count('"') > text.count("'"):
        return f"'{body}'"
    return '"' + body.replace("\\'", "'").replace('"', '\\"') + '"'


def _pieces(text: str, width: int) -> list[str]:
    """The text in pieces whose source is at most so wide, cut after spaces where there are any."""
    pieces, start = [], 0
    while start < len(text):
        end = start + 1
        while end < len(text) and len(_quoted(text[start : end + 1])) <= width:
            end += 1
        space = text.rfind(" ", start, end)
        if end < len(text) and space > start:
            end = space + 1
        pieces.append(text[start:end])
        start = end
    return pieces
