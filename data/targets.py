"""Both models' scores -> the score that each stored pair should get: the anchored margins.

Files: `targets` (query_id, target), in the order of the triplets' lists, the positive first, and
`calibration.svg`.

The teacher's logits are brought to the student's scale by one number, and the target lies between
the two: (1 - w) x the zero-shot student's score + w x the scaled teacher's. w = 1 without scaling
is plain GPL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset

from tercet.core.artifacts import Writer
from tercet.core.files import write_file
from tercet.core.schema import InputError
from tercet.data.calibration_plot import calibration_svg

Method = Literal["std_ratio", "least_squares", "none", "clipped"]
Scores = Sequence[np.ndarray]
#: Targets to what a model that learns them finds: each held-out query's figure, higher is better.
Trial = Callable[[Scores], np.ndarray]
#: The teacher's and the student's lists, and the calibration, to an SVG.
Plot = Callable[[Scores, Scores, Mapping[str, float]], str]

#: The teacher's weights that are tried, and the one that is taken where nothing tells.
WEIGHTS, DEFAULT_WEIGHT = (0.15, 0.3, 0.5, 0.7, 1.0), 0.5


@dataclass(frozen=True)
class Calibration:
    """How the teacher's logits map to the zero-shot student's scores, within lists.

    `slope` is the least-squares slope of list-centred student scores on list-centred logits (an
    intercept cancels in every margin) and `r2` the share of variance it explains. Retrievers pick
    candidates for their student scores, which narrows those and flattens the slope; `std_ratio`,
    the ratio of the list-centred standard deviations, is slope / sqrt(r2) and free of that. The
    pooled figures are without centring. `low` and `high` are the logits' 1st and 99th
    percentiles.
    """

    slope: float
    r2: float
    spread: float
    pooled_slope: float
    pooled_r2: float
    low: float
    high: float

    def scaled(self, teacher: Scores, method: Method) -> list[np.ndarray]:
        """The teacher's scores as targets; "clipped" is CADET's (arXiv 2505.19274): 0 to 1.

        Raises InputError where the scale would teach the opposite.
        """
        if method == "clipped":
            return [(np.clip(t, self.low, self.high) - self.low) / self.width for t in teacher]
        scale = {"std_ratio": self.spread, "least_squares": self.slope, "none": 1.0}[method]
        if scale <= 0:
            raise InputError(f"the teacher's scale is {scale}: it would teach the opposite")
        return [scale * np.asarray(t, np.float64) for t in teacher]

    @property
    def width(self) -> float:
        """From the 1st to the 99th percentile of the logits, and never zero."""
        return max(self.high - self.low, float(np.finfo(np.float32).tiny))


def calibrate(teacher: Scores, student: Scores) -> Calibration:
    """Fit over lists of scores, [candidates] each.

    Raises InputError if the teacher gives all candidates of every query one score.
    """
    # In float64, where the mean of equal scores is that score, so that nothing is left of them.
    centred = [
        _joined([np.asarray(x) - np.mean(x, dtype=np.float64) for x in lists])
        for lists in (teacher, student)
    ]
    if not np.any(centred[0]):
        raise InputError("the teacher gives all candidates of a query one score: nothing to learn")
    spread = float(np.std(centred[1]) / np.std(centred[0]))
    logits = _joined(teacher)
    pooled = [x - x.mean() for x in (logits, _joined(student))]
    low, high = np.percentile(logits, [1, 99]).tolist()
    slope, r2 = _fit(*centred)
    return Calibration(slope, r2, spread, *_fit(*pooled), low, high)


def _joined(lists: Scores) -> np.ndarray:
    return np.concatenate(lists).astype(np.float64)


def _fit(t: np.ndarray, s: np.ndarray) -> tuple[float, float]:
    covariance, variance = t @ s, t @ t
    explained = covariance**2 / (variance * (s @ s)) if np.any(s) else 0.0
    return float(covariance / variance), float(explained)


def anchored(teacher: Scores, student: Scores, weight: float) -> list[np.ndarray]:
    """float32 targets: `weight` of the way from the student's scores to the scaled teacher's."""
    return [
        ((1 - weight) * np.asarray(s, np.float64) + weight * t).astype(np.float32)
        for s, t in zip(student, teacher, strict=True)
    ]


def write_targets(
    writer: Writer,
    lists: Dataset,
    *,
    method: Method,
    weight: float | None,
    trial: Trial | None = None,
) -> None:
    """Scale, choose the teacher's weight where none is given, and write every pair's target.

    `trial` is asked for the figures of each of `WEIGHTS`; without one the weight is .5;
    `calibration.svg` shows the scale.
    """
    columns = lists.select_columns(["teacher", "student"])[:]
    teacher, student = (
        [np.array(x, np.float32) for x in columns[name]] for name in ("teacher", "student")
    )
    calibration = calibrate(teacher, student)
    scaled = calibration.scaled(teacher, method)
    tried: dict[str, float] = {}
    if weight is None and trial is not None:
        figures = {w: trial(anchored(scaled, student, w)) for w in WEIGHTS}
        weight = best_weight(figures)
        tried = {f"tried_{w:g}": float(np.mean(each)) for w, each in figures.items()}
    weight = DEFAULT_WEIGHT if weight is None else weight
    table = pa.table(
        {
            "query_id": pa.array(lists["query_id"][:]),
            "target": pa.array(anchored(scaled, student, weight), type=pa.list_(pa.float32())),
        }
    )
    writer.shard("targets", 0, table)
    writer.facts |= asdict(calibration) | {"teacher_weight": weight} | tried
    svg = calibration_svg(teacher, student, asdict(calibration))
    write_file(writer.folder / "calibration.svg", svg.encode())


def best_weight(figures: Mapping[float, np.ndarray]) -> float:
    """The weight of the largest mean, if it beats .5's beyond chance; else .5.

    Beyond chance is a 95% interval of the paired difference that excludes zero: a few hundred
    known items differ by chance more than neighbouring weights do.
    """
    best = max(figures, key=lambda w: float(np.mean(figures[w])))
    difference = np.asarray(figures[best]) - np.asarray(figures[DEFAULT_WEIGHT])
    error = 1.96 * np.std(difference) / np.sqrt(len(difference))
    return best if np.mean(difference) > error else DEFAULT_WEIGHT
