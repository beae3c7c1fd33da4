"""Damaged bytes of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def of_values(kind: str) -> Callable[[bytes], bytes]:
    """The file with every number, or text, of another kind."""

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: change(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [change(inner) for inner in value]
        return {"value": value} if kind == "objects" else None

    def of_file(data: bytes) -> bytes:
        lines = data.splitlines() if data.count(b"}\n{") else [data]  # JSON, or JSON lines
        return b"\n".join(json.dumps(change(json.loads(line))).encode() for line in lines)

    return of_file


#: Name -> the damaged bytes of a file.
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda data: bytes(range(256)) * 4,
    "a list": lambda data: b'[1, "two", [3]]\n',
    "a number": lambda data: b"7\n",
    "null": lambda data: b"null\n",
    "another version": lambda data: b'{"version": 99, "format": {"of": ["another"]}}\n',
    "values of another kind": of_values("objects"),
    "values that are null": of_values("null"),
}
