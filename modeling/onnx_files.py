"""The files beside an ONNX file that hold its weights, which the file itself names."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from tercet.core.schema import InputError

#: Messages of the format, by the numbers of their fields that lead to tensors.
_LEADS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
}
_ENTRY, _PLACE, _ELSEWHERE = 13, 14, 1  # a tensor's external_data and data_location, EXTERNAL
_DEEPEST = 50  # graphs within nodes within graphs

#: A field: its number, and its value or the first and last byte of its content.
_Field = tuple[int, int, int]


def external_data(file: Path) -> list[str]:
    """The locations that an ONNX file's tensors name, each once, relative to its folder.

    Raises InputError for a file that is cut or none of the format.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as data:
            return list(dict.fromkeys(_locations(data, "model", 0, len(data), 0)))
    except (ValueError, IndexError):
        raise InputError(f"{file} is not a whole ONNX file: fetch the model again") from None


def _locations(data: mmap.mmap, kind: str, start: int, end: int, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError
    if kind == "tensor":
        yield from _location(data, start, end)
        return
    for number, first, last in _fields(data, start, end):
        if number in _LEADS[kind]:
            yield from _locations(data, _LEADS[kind][number], first, last, depth + 1)


def _location(data: mmap.mmap, start: int, end: int) -> list[str]:
    """Where a tensor's values lie; nowhere else, for one that holds them."""
    fields = list(_fields(data, start, end))
    if (_PLACE, _ELSEWHERE, _ELSEWHERE) not in fields:
        return []
    entries = (dict(_texts(data, first, last)) for n, first, last in fields if n == _ENTRY)
    return [entry.get(2, "") for entry in entries if entry.get(1) == "location"]


def _texts(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, str]]:
    for number, first, last in _fields(data, start, end):
        yield number, data[first:last].decode()


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """The fields of a message; of a number its value stands twice."""
    while start < end:
        tag, start = _number(data, start)
        number, form = tag >> 3, tag & 7
        if form == 0:
            value, start = _number(data, start)
            yield number, value, value
            continue
        size = {1: 8, 5: 4}.get(form)
        if form == 2:
            size, start = _number(data, start)
        if size is None or start + size > end:
            raise ValueError
        yield number, start, start + size
        start += size


def _number(data: mmap.mmap, start: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next field begins."""
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return value, start
        if shift > 63:
            raise ValueError
