"""Plot of the calibration: both models' scores within lists, with the fitted lines.

The SVG is written by hand, so that the artifact has the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

_WIDTH, _HEIGHT = 720, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 64, 56
_CELLS = (60, 40)
_OUTSIDE = 0.5  # percentage of scores at each end of each axis that are not drawn

#: Scores to pixels.
_Place = Callable[[float, float], tuple[float, float]]

# Name in the legend, key of the facts, colour, dashes.
_LINES = (
    ("spread", "spread", "#d55e00", ""),
    ("least squares", "slope", "#0a9370", "7 4"),
    ("pooled", "pooled_slope", "#8a6bd1", "2 4"),
)


def calibration_svg(
    teacher: Sequence[np.ndarray], student: Sequence[np.ndarray], facts: Mapping[str, float]
) -> str:
    """Density of list-centred scores, [passages] each list, with the fitted scales."""
    x, y = (np.concatenate([s - np.mean(s) for s in lists]) for lists in (teacher, student))
    spans = [np.percentile(v, [_OUTSIDE, 100 - _OUTSIDE]) for v in (x, y)]
    (x0, x1), (y0, y1) = ((min(low, -1e-6), max(high, 1e-6)) for low, high in spans)
    counts, _, _ = np.histogram2d(x, y, _CELLS, [[x0, x1], [y0, y1]])
    inner = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(a: float, b: float) -> tuple[float, float]:
        return (
            _LEFT + (a - x0) / (x1 - x0) * inner[0],
            _TOP + (y1 - b) / (y1 - y0) * inner[1],
        )

    parts = [*_cells(counts, inner), *_axes(place, (x0, x1), (y0, y1))]
    for number, (name, key, colour, dashes) in enumerate(_LINES):
        slope = facts[key]
        ends = _ends(slope, (x0, x1), (y0, y1))
        (ax, ay), (bx, by) = (place(end, end * slope) for end in ends)
        stroke = f"stroke='{colour}' stroke-width='2.5' stroke-dasharray='{dashes}'"
        parts.append(f"<line x1='{ax:.1f}' y1='{ay:.1f}' x2='{bx:.1f}' y2='{by:.1f}' {stroke}/>")
        left = _LEFT + number * 215
        parts.append(f"<line x1='{left}' y1='24' x2='{left + 28}' y2='24' {stroke}/>")
        parts.append(f"<text x='{left + 36}' y='29'>{name} {slope:.4f}</text>")
    r2 = f"R² within lists {facts['r2']:.2f}, pooled {facts['pooled_r2']:.2f}"
    parts.append(f"<text x='{_WIDTH - _RIGHT}' y='52' text-anchor='end'>{r2}</text>")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}'"
        f" width='{_WIDTH}' height='{_HEIGHT}' font-family='system-ui, sans-serif'"
        " font-size='14' fill='#222'>"
        f"<title>Teacher and student scores within lists</title>"
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#fff'/>{''.join(parts)}</svg>\n"
    )


def _ends(slope: float, xs: tuple[float, float], ys: tuple[float, float]) -> tuple[float, float]:
    """The x range in which a line through the origin is inside the plot."""
    if not slope:
        return xs
    low, high = sorted(y / slope for y in ys)
    return max(xs[0], low), min(xs[1], high)


def _cells(counts: np.ndarray, inner: tuple[int, int]) -> list[str]:
    """Cells shaded by the logarithm of their counts: central counts are a thousand times larger."""
    shades = np.log1p(counts) / np.log1p(max(counts.max(), 1))
    width, height = inner[0] / _CELLS[0], inner[1] / _CELLS[1]
    return [
        f"<rect x='{_LEFT + i * width:.1f}' y='{_TOP + inner[1] - (j + 1) * height:.1f}'"
        f" width='{width + 0.2:.1f}' height='{height + 0.2:.1f}' fill='#2878b5'"
        f" fill-opacity='{shades[i, j]:.2f}'/>"
        for i, j in np.argwhere(counts)
    ]


def _axes(place: _Place, xs: tuple[float, float], ys: tuple[float, float]) -> list[str]:
    parts = []
    for value in _ticks(*xs):
        x, y = place(value, ys[0])
        parts.append(f"<line x1='{x:.1f}' y1='{_TOP}' x2='{x:.1f}' y2='{y:.1f}' stroke='#0002'/>")
        parts.append(f"<text x='{x:.1f}' y='{y + 20:.1f}' text-anchor='middle'>{value:g}</text>")
    for value in _ticks(*ys):
        x, y = place(xs[0], value)
        end = _WIDTH - _RIGHT
        parts.append(f"<line x1='{x:.1f}' y1='{y:.1f}' x2='{end}' y2='{y:.1f}' stroke='#0002'/>")
        parts.append(f"<text x='{x - 8:.1f}' y='{y + 5:.1f}' text-anchor='end'>{value:g}</text>")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f"<text x='{middle}' y='{_HEIGHT - 12}' text-anchor='middle'>teacher’s logit, less its"
        " list’s mean</text>"
    )
    parts.append(
        f"<text transform='translate(18 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)'"
        " text-anchor='middle'>model’s score, less its list’s mean</text>"
    )
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """About six round numbers."""
    rough = (high - low) / 6
    unit = 10 ** np.floor(np.log10(rough))
    step = float(next(m for m in (1, 2, 5, 10) if m * unit >= rough) * unit)
    first = int(np.ceil(low / step))
    return [round(n * step, 10) for n in range(first, int(np.floor(high / step)) + 1)]
