"""Numbers as the page of an experiment shows them.

A number is rounded for display; `<data value="...">` keeps all its digits. Negative numbers have a
minus sign (U+2212), missing ones a dash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from markupsafe import Markup

from tercet.core.text import bytes_text

_NONE = Markup('<span class="none" title="not measured">–</span>')


def _metric(value: float) -> str:
    text = f"{value:.4f}"
    return text if float(text) else "0.0000"


def _change(value: float) -> str:
    text = _metric(value)
    return f"+{text}" if float(text) > 0 else text


def _p(value: float) -> str:
    return "<0.0001" if 0 < value < 0.0001 else _metric(value)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _filter(text: Callable[[float], str]) -> Callable[[float | None], Markup]:
    def shown(number: float | None) -> Markup:
        if number is None:
            return _NONE
        return Markup('<data value="{}">{}</data>').format(
            json.dumps(number, allow_nan=False), re.sub("^-", "−", text(number))
        )

    return shown


#: Template filters that format a number. Headers give the unit of milliseconds and seconds.
FILTERS: dict[str, Callable[[float | None], Markup]] = {
    "metric": _filter(_metric),
    "change": _filter(_change),
    "p": _filter(_p),
    "count": _filter(lambda value: f"{value:,.0f}"),
    "time": _filter(lambda value: f"{value:,.2f}"),
    "size": _filter(bytes_text),
    "rate": _filter(_rate),
    "dollars": _filter(lambda value: f"${value:,.4f}"),
    "plain": _filter(lambda value: json.dumps(value)),
}
