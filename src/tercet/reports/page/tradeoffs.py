"""Quality against latency, memory and price, with the Pareto front of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tercet.core.text import bytes_text
from tercet.evaluation.results import Cell, Results
from tercet.reports.page.plots import Plot, layout_of, marks, safe
from tercet.reports.views import ranked

_HOVERS = {
    "latency": "%{x:,.4~g} ms",
    "memory": "%{x:.4~s}B",
    "price": "$%{x:,.4~g} per 1,000 queries",
}


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto-optimal (cost, quality) points, cheapest first."""
    best, chosen = -math.inf, []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            best = points[i][1]
            chosen.append(i)
    return chosen


def tradeoffs(results: Results) -> list[dict[str, Any]]:
    """Quality against latency, memory and price, where at least two costs or a price are known.

    Each has its `plot`, and in `named` the letters, cells and costs of the Pareto front. Systems
    with precomputed vectors have no encoding time, so their latency is not comparable: left out.
    """
    precomputed = {system.name for system in results.systems if system.encoded_before}
    prices = {s.name: s.dollars_per_1000_queries for s in results.systems}
    evaluated = [c for c in results.cells if results.primary in c.figures]
    kinds = {
        "latency": ("latency", "median ms a query, one query at a time", "time"),
        "memory": ("memory", "memory of the index", "size"),
        "price": ("price", "dollars per 1,000 queries", "dollars"),
    }
    costs: dict[str, list[tuple[Cell, float | None]]] = {
        "latency": [
            (c, c.single.total.p50) for c in evaluated if c.single and c.system not in precomputed
        ],
        "memory": [(c, c.build.memory) for c in evaluated if c.build],
        "price": [(c, prices.get(c.system)) for c in ranked(results)],
    }
    found = []
    for id, (title, unit, filter) in kinds.items():
        points = [(cell, cost) for cell, cost in costs[id] if cost is not None]
        if len(points) > 1 or (points and id == "price"):
            found.append(_tradeoff(results, points, id, title, unit, filter))
    return found


def _tradeoff(
    results: Results,
    points: list[tuple[Cell, float]],
    id: str,
    title: str,
    unit: str,
    filter: str,
) -> dict[str, Any]:
    quality = [cell.figures[results.primary].mean for cell, _ in points]
    places = [(cost, y) for (_, cost), y in zip(points, quality, strict=True)]
    chosen = front(places)
    labels = _labels(places, chosen)
    ends = [points[i][1] for i in chosen] + [max(cost for _, cost in points)]
    heights = [quality[i] for i in chosen] + [quality[chosen[-1]]]
    data: list[Plot] = [
        {
            "x": ends,
            "y": heights,
            "mode": "lines",
            "line": {"shape": "hv", "width": 1.5, "dash": "dot", "color": "ink"},
            "hoverinfo": "skip",
        }
    ]
    if id == "price":
        data += _unpriced(results, {cell.system for cell, _ in points})
    for name, (colour, symbol, _) in marks(results).items():
        own = [i for i, (cell, _) in enumerate(points) if cell.system == name]
        # Points on the front are larger and labelled; all show their names on hover.
        data.append(
            {
                "x": [points[i][1] for i in own],
                "y": [quality[i] for i in own],
                "mode": "markers+text",
                "text": [labels.get(i, "") for i in own],
                "textposition": "top center",
                "textfont": {"size": 13},
                "customdata": [f"{safe(name)}<br>{safe(points[i][0].index)}" for i in own],
                "hovertemplate": f"%{{customdata}}<br>%{{y:.4f}}, {_HOVERS[id]}<extra></extra>",
                "marker": {
                    "color": colour,
                    "line": {"width": 0},
                    "symbol": symbol,
                    "size": [11 if i in chosen else 7 for i in own],
                    "opacity": [1 if i in chosen else 0.55 for i in own],
                },
                "cliponaxis": False,
            }
        )
    layout = layout_of(unit)
    layout["xaxis2"] = {"overlaying": "x", "range": [0, 1], "visible": False, "fixedrange": True}
    layout["xaxis"] |= _log_axis([cost for _, cost in points], size=id == "memory")
    return {
        "id": id,
        "title": title,
        "unit": unit,
        "filter": filter,
        "plot": {"data": data, "layout": layout},
        "named": [
            {
                "letter": _letter(n),
                "cell": points[i][0],
                "cost": points[i][1],
                "quality": quality[i],
            }
            for n, i in enumerate(chosen)
        ],
    }


def _labels(points: Sequence[tuple[float, float]], chosen: Sequence[int]) -> dict[int, str]:
    """Letters above the marks of the front; marks close together share one label, on the last."""
    scaled = [(math.log(cost) if cost > 0 else 0.0, quality) for cost, quality in points]
    spans = [(max(axis) - min(axis)) or 1 for axis in zip(*scaled, strict=True)]
    clusters = [[n] for n in range(len(chosen))][:1]
    for n in range(1, len(chosen)):
        (x, y), (x_after, y_after) = scaled[chosen[n - 1]], scaled[chosen[n]]
        close = (x_after - x) / spans[0] < 0.08 and (y_after - y) / spans[1] < 0.15
        if close:
            clusters[-1].append(n)
        else:
            clusters.append([n])
    return {
        chosen[cluster[-1]]: "–".join(dict.fromkeys(_letter(n) for n in (cluster[0], cluster[-1])))
        for cluster in clusters
    }


def _letter(n: int) -> str:
    """A to Z, then AA, AB, as in a spreadsheet."""
    return _letter(n // 26 - 1) + _letter(n % 26) if n >= 26 else chr(ord("A") + n)


def _unpriced(results: Results, priced: set[str]) -> Iterator[Plot]:
    """Systems without an API price as horizontal lines: the quality that a price must beat."""
    known = {cell.system: cell.figures[results.primary].mean for cell in ranked(results)}
    for name, (colour, _, _) in marks(results).items():
        if name in known and name not in priced:
            yield {
                "x": [0.02, 0.98],
                "y": [known[name]] * 2,
                "xaxis": "x2",
                "mode": "lines",
                "line": {"color": colour, "width": 1.5},
                "customdata": [safe(name)] * 2,
                "hovertemplate": "%{customdata}, without a price<br>%{y:.4f}<extra></extra>",
            }


def _log_axis(values: Sequence[float], *, size: bool) -> Plot:
    """A logarithmic axis with at most five round labels; linear if a value is not positive."""
    low, high = min(values), max(values)
    if low <= 0:
        pad = 0.06 * (high - low) or 1
        return {"range": [low - pad, high + pad], "nticks": 4}
    ends = math.log10(low), math.log10(high)
    pad = max(0.08 * (ends[1] - ends[0]), 0.25)  # never between two labels
    decades = range(math.floor(ends[0] - pad), math.ceil(ends[1] + pad) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [
            10.0**decade * step
            for decade in decades
            for step in steps
            if ends[0] - pad <= decade + math.log10(step) <= ends[1] + pad
        ]
        if len(ticks) <= 5:
            break
    ticks = ticks[:: math.ceil(len(ticks) / 5)]
    return {
        "type": "log",
        "range": [ends[0] - pad, ends[1] + pad],
        "tickangle": 0,
        "ticklabeloverflow": "allow",
        "tickvals": ticks,
        "ticktext": [bytes_text(value) if size else f"{value:,.6g}" for value in ticks],
    }
