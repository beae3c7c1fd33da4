"""The picture of README.md: a metric of several systems with 95% intervals, from `tercet eval`.

python docs/tools/picture.py runs/quickstart/results/metrics.json docs/assets/quickstart.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, ROW = 560, 152, 86, 64, 38
#: Colours that read on a light and on a dark page.
INK, QUIET, OTHER, OURS = "#24292f", "#6e7781", "#8c959f", "#3f51b5"


def picture(metrics: dict[str, Any]) -> str:
    """An SVG with a row a system, the lowest mean first."""
    primary = metrics["primary"]
    cells = [cell for cell in metrics["cells"] if cell["index"] == "exact"]
    rows = sorted(
        (cell["figures"][primary] | {"system": cell["system"]} for cell in cells),
        key=lambda row: row["mean"],
    )
    low = min(row["low"] for row in rows)
    high = max(row["high"] for row in rows)
    step = 0.02
    first, last = int(low / step), int(high / step) + 1

    def x(value: float) -> float:
        share = (value - first * step) / ((last - first) * step)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    height = TOP + ROW * len(rows) + 44
    bottom = height - 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="14" role="img">',
        f"<title>{_name(primary)} of {len(rows)} systems with 95% intervals</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        _text(20, 28, f"{_name(primary)} on the bookmarks", INK, weight="bold", size=16),
        _text(
            20,
            47,
            f"{metrics['queries']:,} judged queries that chose nothing, 95% intervals",
            QUIET,
            size=12,
        ),
    ]
    for mark in range(first, last + 1):
        place = x(mark * step)
        out.append(
            f'<line x1="{place:.1f}" y1="{TOP}" x2="{place:.1f}" y2="{bottom}" stroke="#eaeef2"/>'
        )
        out.append(_text(place, bottom + 18, f"{mark * step:.2f}".lstrip("0"), QUIET, "middle", 12))
    for place, row in enumerate(rows):
        y = TOP + ROW * place + ROW / 2
        colour = OURS if "adapted" in row["system"] else OTHER
        ends = x(row["low"]), x(row["high"])
        out += [
            _text(LEFT - 14, y + 5, row["system"], INK, "end"),
            f'<line x1="{ends[0]:.1f}" y1="{y}" x2="{ends[1]:.1f}" y2="{y}" stroke="{colour}" '
            'stroke-width="3" stroke-linecap="round"/>',
            f'<circle cx="{x(row["mean"]):.1f}" cy="{y}" r="6" fill="{colour}"/>',
            _text(WIDTH - 20, y + 5, f"{row['mean']:.4f}".lstrip("0"), INK, "end"),
        ]
    return "\n".join([*out, "</svg>"]) + "\n"


def _text(
    x: float,
    y: float,
    text: str,
    fill: str,
    anchor: str = "start",
    size: int = 14,
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" '
        f'font-size="{size}" font-weight="{weight}">{escape(text)}</text>'
    )


def _name(metric: str) -> str:
    return metric.replace("ndcg", "nDCG").replace("map", "MAP").replace("mrr", "MRR")


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(picture(json.loads(source.read_text())), encoding="utf-8")
