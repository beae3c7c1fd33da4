"""Numbers that know where they come from, and how the page of an experiment writes them.

What a page shows of a number is rounded; `<data value="..." data-key="...">` keeps all its digits
and the JSON pointer (RFC 6901) of the number in `metrics.json`. A key that begins with `-` names
the number whose negative is shown: the same difference, seen from the other system.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Self

from markupsafe import Markup

_NONE = Markup('<span class="none" title="not measured">–</span>')


class Number(float):
    """A number of the results, with its place in them."""

    key: str
    digits: str

    @classmethod
    def of(cls, value: float, key: str) -> Self:
        """The number at a JSON pointer; an integer keeps being written as one."""
        number = cls(value)
        number.key, number.digits = key, json.dumps(value, allow_nan=False)
        return number

    def negative(self) -> Number:
        """Its negative, at the same place."""
        digits = self.digits[1:] if self.digits.startswith("-") else f"-{self.digits}"
        number = Number(digits)
        number.key, number.digits = f"-{self.key}", digits
        return number


def with_keys(value: Any, key: str = "") -> Any:
    """Plain data again, its numbers as `Number`s."""
    if isinstance(value, dict):
        return {k: with_keys(v, f"{key}/{_token(k)}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [with_keys(inner, f"{key}/{i}") for i, inner in enumerate(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Number.of(value, key)
    return value


def _token(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def shown(number: Number | None, text: Callable[[float], str]) -> Markup:
    """The number as `text` writes it; a dash for None."""
    if number is None:
        return _NONE
    return Markup('<data value="{}" data-key="{}">{}</data>').format(
        number.digits, number.key, re.sub("^-", "−", text(number))
    )


def _figure(value: float) -> str:
    text = f"{value:.4f}"
    return text if float(text) else "0.0000"


def _change(value: float) -> str:
    text = _figure(value)
    return f"+{text}" if float(text) > 0 else text


def _p(value: float) -> str:
    return "<0.0001" if 0 < value < 0.0001 else _figure(value)


def _size(value: float) -> str:
    for least, unit, name in ((1e9, 1e9, "GB"), (1e5, 1e6, "MB")):
        if value >= least:
            return f"{value / unit:,.2f} {name}"
    return f"{value / 1e3:,.2f} kB"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _plain(value: float) -> str:
    return value.digits if isinstance(value, Number) else str(value)


def _filter(text: Callable[[float], str]) -> Callable[[Number | None], Markup]:
    return lambda number: shown(number, text)


#: What a template calls to write a number. Milliseconds and seconds have their unit in the header.
FILTERS: dict[str, Callable[[Number | None], Markup]] = {
    "figure": _filter(_figure),
    "change": _filter(_change),
    "p": _filter(_p),
    "count": _filter(lambda value: f"{value:,.0f}"),
    "time": _filter(lambda value: f"{value:,.2f}"),
    "size": _filter(_size),
    "rate": _filter(_rate),
    "dollars": _filter(lambda value: f"${value:,.4f}"),
    "plain": _filter(_plain),
}
