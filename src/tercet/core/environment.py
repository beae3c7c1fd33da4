"""Texts from the environment, which stay `${NAME}` or `~/...` in all that is written."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any


class FromEnvironment(str):
    """The value of a text such as "${DATA}/corpus"; `written` is that text."""

    written: str

    def __new__(cls, value: str, written: str) -> FromEnvironment:
        """A text and how it is written."""
        made = super().__new__(cls, value)
        made.written = written
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str.__str__(self), self.written

    def __deepcopy__(self, memo: Any) -> FromEnvironment:
        return self


def written(value: Any) -> Any:
    """A JSON value in which texts from the environment are as the recipe has them."""
    return _replaced(value, lambda text: text.written)


def recorded(value: Any) -> Any:
    """As `written`, with a few digits of the value's SHA-256: they change when the value does."""
    return _replaced(value, lambda text: f"{text.written} {sha256(text.encode()).hexdigest()[:12]}")


def _replaced(value: Any, text: Callable[[FromEnvironment], str]) -> Any:
    if isinstance(value, FromEnvironment):
        return text(value)
    if isinstance(value, dict):
        return {name: _replaced(inner, text) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, text) for inner in value]
    return value
