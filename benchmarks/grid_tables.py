"""What the grid says: a table for each collection, one for all, and a page with three curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from tercet.core.console import console
from tercet.data.targets import Calibration
from tercet.reports.page.plots import COLOURS, layout_of, plotly_js
from tercet.retrieval.significance import Interval, holm

DEFAULT_TOWERS = "both towers, default"


@dataclass(frozen=True)
class Row:
    """A method on a collection: gains over zero-shot, the test's with its interval.

    `seconds` are of all stages of one seed, where they were timed.
    """

    method: str
    weight: float
    held_out: float
    test: Interval
    p: float
    p_holm: float = 1.0
    seconds: float = 0.0


def summary(found: Mapping[str, Any]) -> Table:
    """Both towers with Tercet's defaults on every collection; p is Holm's over collections."""
    chosen = {
        name: row
        for name, one in found.items()
        for row in one["rows"]
        if row["method"] == DEFAULT_TOWERS
    }
    gains = [row["test"]["difference"] for row in chosen.values()]
    table = Table(
        title=f"both towers, default: mean gain {np.mean(gains):+.4f}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("collection")
    for column in ("zero-shot", "nDCG@10", "95% interval", "p (Holm)", "of head-room", "minutes"):
        table.add_column(column, justify="right")
    corrected = holm(np.array([row["p"] for row in chosen.values()]))
    for (name, row), p in zip(chosen.items(), corrected, strict=True):
        one, test = found[name], row["test"]
        table.add_row(
            name,
            f"{one['zero_shot']:.4f}",
            f"{test['difference']:+.4f}",
            f"{test['low']:+.4f}, {test['high']:+.4f}",
            f"{p:.4f}",
            f"{test['difference'] / one['head_room']:.0%}" if one["head_room"] > 0 else "",
            f"{row['seconds'] / 60:.0f}",
        )
    return table


def show(
    name: str, zero_shot: float, calibration: Calibration, rows: Sequence[Row], room: float
) -> None:
    """One collection's table."""
    c = calibration
    title = (
        f"{name}: nDCG@10 {zero_shot:.4f} zero-shot, teacher's head-room {room:+.4f}; "
        f"slope {c.slope:.4f}, R² {c.r2:.2f}, spread {c.spread:.4f}"
    )
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("method")
    for column in ("lambda", "held-out", "nDCG@10", "95% interval", "p (Holm)", "of head-room"):
        table.add_column(column, justify="right")
    for row in rows:
        style = "green" if row.test.low > 0 else "red" if row.test.high < 0 else ""
        table.add_row(
            row.method,
            f"{row.weight:g}",
            f"{row.held_out:+.4f}",
            f"[{style}]{row.test.difference:+.4f}[/]" if style else f"{row.test.difference:+.4f}",
            f"{row.test.low:+.4f}, {row.test.high:+.4f}",
            f"{row.p_holm:.4f}",
            f"{row.test.difference / room:.0%}" if room > 0 else "",
        )
    console.print(table)


def page(found: Mapping[str, Any]) -> str:
    """The three curves, a line for each collection: solid on the test, dotted on held-out."""
    titles = {
        "queries": "synthetic queries trained on",
        "candidates": "candidates a query",
        "weight": "lambda, the teacher's part of the target",
    }
    plots = []
    for axis, title in titles.items():
        data = [
            {
                "x": [point[0] for point in one["curves"][axis]],
                "y": [point[i] for point in one["curves"][axis]],
                "name": f"{name}, {what}",
                "mode": "lines+markers",
                "line": {"color": COLOURS[number % len(COLOURS)], "dash": dash},
            }
            for number, (name, one) in enumerate(found.items())
            for i, what, dash in ((2, "test nDCG@10", "solid"), (1, "held-out MRR@10", "dot"))
        ]
        layout = layout_of(title, "gain over zero-shot") | {"showlegend": True, "height": 420}
        layout["margin"] = {"l": 60, "r": 20, "t": 90, "b": 50}
        layout["yaxis"]["zeroline"] = True
        if axis != "weight":
            measured = sorted({x for line in data for x in line["x"]}, reverse=True)
            ticks = [
                x for last, x in zip([np.inf, *measured], measured, strict=False) if last > 1.2 * x
            ]
            layout["xaxis"] |= {"type": "log", "tickvals": ticks, "ticktext": ticks}
        plots.append({"data": data, "layout": layout})
    calls = "".join(
        f"Plotly.newPlot('p{i}', {json.dumps(plot['data'])}, {json.dumps(plot['layout'])});"
        for i, plot in enumerate(plots)
    )
    places = "".join(f"<div id='p{i}'></div>" for i in range(len(plots)))
    return (
        "<!doctype html><meta charset='utf-8'><title>How the gain grows</title>"
        "<body style='font:16px system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem'>"
        "<h1>How the gain grows</h1><p>A query adapter, anchored all-pairs margin-MSE.</p>"
        f"{places}<script>{plotly_js()}</script><script>{calls}</script></body>"
    )
