"""Quality against what it costs: latency, memory, price, and the Pareto front of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tercet.reports.page.plots import Plot, layout_of, marks, safe
from tercet.reports.page.verdict import ranked

_HOVERS = {
    "latency": "%{x:,.4~g} ms",
    "memory": "%{x:.4~s}B",
    "price": "$%{x:,.4~g} a thousand queries",
}


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which (cost, quality) points no other is both cheaper and better than, the cheapest first."""
    best, chosen = -math.inf, []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            best = points[i][1]
            chosen.append(i)
    return chosen


def tradeoffs(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Quality against latency, memory and price, where two cells or a price are known.

    Each with its `plot`, and `named`: the Pareto front's letters, cells and costs. Who encodes
    nothing, because its vectors were made beforehand, has no latency to compare.
    """
    known = {system["name"] for system in results["systems"] if system["encoded_before"]}
    prices = {s["name"]: s["dollars_per_1000_queries"] for s in results["systems"]}
    measured = [c for c in results["cells"] if results["primary"] in c["figures"]]
    kinds = {
        "latency": ("latency", "ms a query, one by one, median", "time"),
        "memory": ("memory", "memory of the index", "size"),
        "price": ("price", "dollars a thousand queries", "dollars"),
    }
    costs: dict[str, list[tuple[dict[str, Any], Any]]] = {
        "latency": [
            (c, c["single"]["total"]["p50"])
            for c in measured
            if c["single"] and c["system"] not in known
        ],
        "memory": [(c, c["build"]["memory"]) for c in measured if c["build"]],
        "price": [(c, prices.get(c["system"])) for c in ranked(results)],
    }
    found = []
    for id, (title, unit, filter) in kinds.items():
        points = [(cell, cost) for cell, cost in costs[id] if cost is not None]
        if len(points) > 1 or (points and id == "price"):
            found.append(_tradeoff(results, points, id, title, unit, filter))
    return found


def _tradeoff(
    results: dict[str, Any],
    points: list[tuple[dict[str, Any], Any]],
    id: str,
    title: str,
    unit: str,
    filter: str,
) -> dict[str, Any]:
    primary = results["primary"]
    quality = [cell["figures"][primary]["mean"] for cell, _ in points]
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
        data += _unpriced(results, {cell["system"] for cell, _ in points})
    for name, (colour, symbol, _) in marks(results).items():
        own = [i for i, (cell, _) in enumerate(points) if cell["system"] == name]
        # The front's points are drawn larger; the others say who they are when asked.
        data.append(
            {
                "x": [points[i][1] for i in own],
                "y": [quality[i] for i in own],
                "mode": "markers+text",
                "text": [labels.get(i, "") for i in own],
                "textposition": "top center",
                "textfont": {"size": 13},
                "customdata": [f"{safe(name)}<br>{safe(points[i][0]['index'])}" for i in own],
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
    """What stands above each mark of the front; marks too close for that share the last one's."""
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


def _unpriced(results: dict[str, Any], priced: set[str]) -> Iterator[Plot]:
    """What costs no API's money, as level lines across: what the money has to be above."""
    known = {cell["system"]: cell["figures"][results["primary"]] for cell in ranked(results)}
    for name, (colour, _, _) in marks(results).items():
        if name in known and name not in priced:
            yield {
                "x": [0.02, 0.98],
                "y": [known[name]["mean"]] * 2,
                "xaxis": "x2",
                "mode": "lines",
                "line": {"color": colour, "width": 1.5},
                "customdata": [safe(name)] * 2,
                "hovertemplate": "%{customdata}, without a price<br>%{y:.4f}<extra></extra>",
            }


def _log_axis(values: Sequence[float], *, size: bool) -> Plot:
    """A logarithmic axis with few, whole labels; a linear one if there is a zero."""
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
        "ticktext": [_bytes(value) if size else f"{value:,.6g}" for value in ticks],
    }


def _bytes(value: float) -> str:
    for least, unit, name in ((0.999e9, 1e9, "GB"), (0.999e5, 1e6, "MB"), (999, 1e3, "kB")):
        if value >= least:
            return f"{value / unit:,.4g} {name}"
    return f"{value:,.4g} B"
