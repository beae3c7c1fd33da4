"""The plots of an experiment's page as plain data, which `page.js` gives to Plotly.

All numbers are those of the results; `page.js` adds the colours of the page's theme.
"""

from __future__ import annotations

import html
from typing import Any

from tercet.core.schema import InputError
from tercet.evaluation.results import Margins, Results

#: Distinct for colour-blind readers too; contrast 3:1 against white and near-black.
COLOURS = ("#2878b5", "#d55e00", "#0a9370", "#b5609a", "#7a7f87", "#b58100", "#2592ba", "#8a6bd1")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "cross")
_GLYPHS = "●■◆▲✖★▼✚"

Plot = dict[str, Any]


def plotly_js() -> str:
    """The source of plotly.js, for embedding. Raises InputError if plotly is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError("plotly is not installed: pip install plotly") from None
    return str(get_plotlyjs())


def marks(results: Results) -> dict[str, tuple[str, str, str]]:
    """Each system's colour, plot symbol and glyph, the same throughout the page."""
    names = [system.name for system in results.systems]
    kinds = list(zip(COLOURS, _SYMBOLS, _GLYPHS, strict=True))
    return {
        # The ninth system has the first one's colour, and the second one's symbol.
        name: (kinds[i % 8][0], *kinds[(i + i // 8) % 8][1:])
        for i, name in enumerate(names)
    }


def differences(results: Results) -> Plot:
    """Each query's difference from the baseline, sorted: two traces a system, losses and gains.

    Systems are in the order of `results.changes`; page.js shows one at a time.
    """
    data = []
    for number, changes in enumerate(results.changes):
        rows = sorted(changes.differences.items(), key=lambda item: (item[1], item[0]))
        for sign, colour in ((-1, "down"), (1, "up")):
            bars = [(place, *row) for place, row in enumerate(rows, 1) if row[1] * sign > 0]
            data.append(
                {
                    "type": "bar",
                    "x": [place for place, _, _ in bars],
                    "y": [value for _, _, value in bars],
                    "customdata": [safe(query) for _, query, _ in bars],
                    "hovertemplate": "query %{customdata}<br>%{y:+.4f}<extra></extra>",
                    "marker": {"color": colour, "line": {"width": 0}},
                    "visible": number == 0,
                }
            )
    layout = layout_of("queries, sorted", "difference")
    every = [list(changes.differences.values()) for changes in results.changes]
    count = max(len(values) for values in every)
    reach = 1.05 * max((abs(value) for values in every for value in values), default=0) or 1
    layout |= {"bargap": 0, "barmode": "overlay"}
    layout["xaxis"] |= {"range": [0.5, count + 0.5], "nticks": 6}
    layout["yaxis"] |= {"range": [-reach, reach], "zeroline": True}
    return {"data": data, "layout": layout}


def curves(results: Results) -> list[tuple[str, Plot]]:
    """Plots of up to four metrics by epoch; the zero-shot value is a dashed line."""
    rows = results.curve
    wanted = [results.primary, "ndcg@10", "map@10", "mrr@10", "recall@100", "recall@10"]
    known = [name for name in dict.fromkeys(wanted) if rows and all(name in row for row in rows)]
    kinds = {system.kind: system.name for system in results.systems}
    colour = marks(results)[kinds["adapted"]][0] if "adapted" in kinds else COLOURS[0]
    plots = []
    for name in known[:4]:
        epochs = [row["epoch"] for row in rows]
        start = {
            "x": [epochs[0], epochs[-1]],
            "y": [rows[0][name]] * 2,
            "mode": "lines",
            "line": {"dash": "dash", "width": 1.5, "color": "ink"},
            "hoverinfo": "skip",
        }
        line = {
            "x": epochs,
            "y": [row[name] for row in rows],
            "mode": "lines+markers",
            "line": {"color": colour, "width": 2},
            "marker": {"size": 7},
            "hovertemplate": "epoch %{x}<br>%{y:.4f}<extra></extra>",
        }
        layout = layout_of("epoch")
        layout["xaxis"] |= {"nticks": 6}
        plots.append((name, {"data": [start, line], "layout": layout}))
    return plots


def margins(found: Margins) -> Plot:
    """Histograms of the teacher's and the student's margins."""
    data = [
        {
            "x": found.edges,
            "y": [*counts, *counts[-1:]],
            "name": who,
            "mode": "lines",
            "line": {"shape": "hv", "color": colour, "width": 2, "dash": dash},
            "fill": "tozeroy",
            "fillcolor": f"{colour}22",
            "hovertemplate": f"{who}<br>from %{{x:.4~g}}: %{{y:,}}<extra></extra>",
        }
        for who, counts, colour, dash in (
            ("student", found.student, COLOURS[0], "solid"),
            ("teacher", found.teacher, COLOURS[1], "dash"),
        )
    ]
    layout = layout_of("positive minus candidate", "pairs")
    layout |= {"showlegend": True}
    layout["margin"]["t"] = 36
    layout["xaxis"] |= {"nticks": 7, "zeroline": True}
    layout["yaxis"] |= {"rangemode": "tozero", "tickformat": "~s"}
    return {"data": data, "layout": layout}


def layout_of(x: str, y: str = "") -> Plot:
    """A layout without dragging and with narrow margins; the caption may name y instead."""
    return {
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 20, "t": 20, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {
            "title": {"text": safe(x), "standoff": 8},
            "automargin": True,
            "fixedrange": True,
            "zeroline": False,
        },
        "yaxis": {
            "title": {"text": safe(y), "standoff": 8},
            "automargin": True,
            "fixedrange": True,
            "zeroline": False,
            "nticks": 6,
        },
    }


def safe(text: str) -> str:
    """Text escaped for Plotly, which renders some HTML in texts."""
    return html.escape(str(text), quote=False)
