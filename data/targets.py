"""Teacher and student scores -> the target score of each pair, for anchored margins.

Files: `targets` (query_id, target), in the order of the triplets' lists, the positive first, and
`calibration.svg`.

The teacher's logits are scaled to the student's scores by one factor, and the target interpolates
between the two: (1 - w) x the zero-shot student's score + w x the scaled teacher's score. The
anchor keeps the student from following the teacher where they disagree. w = 1 without scaling is
GPL.
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
from tercet.core.schema import Diverged, InputError
from tercet.core.text import listed
from tercet.data.calibration_plot import calibration_svg

Method = Literal["std_ratio", "least_squares", "none", "clipped"]
Scores = Sequence[np.ndarray]
#: Trains on targets and returns the metric of each held-out query, float64 [queries].
Trial = Callable[[Scores], np.ndarray]
#: The teacher's and the student's lists, and the calibration, to an SVG.
Plot = Callable[[Scores, Scores, Mapping[str, float]], str]

#: Weights of the teacher that are tried on held-out queries.
WEIGHTS = (0.15, 0.3, 0.5, 0.7, 1.0)
_DEFAULT_WEIGHT = 0.5


@dataclass(frozen=True)
class Calibration:
    """The map from the teacher's logits to the zero-shot student's scores, within lists.

    `slope` is the least-squares slope of list-centred student scores on list-centred logits (an
    intercept cancels in every margin), `r2` the share of variance it explains. Retrievers select
    candidates by student scores, which narrows their range and flattens the slope. `spread`, the
    ratio of the list-centred standard deviations, equals slope / sqrt(r2) and avoids that. The
    pooled values are without centring. `low` and `high` are the 1st and 99th percentiles of the
    logits.
    """

    slope: float
    r2: float
    spread: float
    pooled_slope: float
    pooled_r2: float
    low: float
    high: float

    def scaled(self, teacher: Scores, method: Method) -> list[np.ndarray]:
        """The teacher's scaled scores; "clipped" maps them to 0 to 1 as CADET (arXiv 2505.19274).

        Raises InputError for a scale that is not positive.
        """
        if method == "clipped":
            return [(np.clip(t, self.low, self.high) - self.low) / self.width for t in teacher]
        scale = {"std_ratio": self.spread, "least_squares": self.slope, "none": 1.0}[method]
        if scale <= 0:
            raise InputError(f"the teacher's scale is {scale}: it would teach the opposite")
        return [scale * np.asarray(t, np.float64) for t in teacher]

    @property
    def width(self) -> float:
        """Range from the 1st to the 99th percentile of the logits, above zero."""
        return max(self.high - self.low, float(np.finfo(np.float32).tiny))


def calibrate(teacher: Scores, student: Scores) -> Calibration:
    """Fit the calibration over lists of scores, [candidates] each.

    Raises InputError if the teacher's scores are constant within every list.
    """
    # In float64 the mean of equal scores is that score, so that centring leaves exact zeros.
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
    """float32 targets: (1 - weight) x the student's score + weight x the scaled teacher's."""
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
    """Scale the teacher's scores, select its weight if none is given, and write the targets.

    `trial` evaluates each of `WEIGHTS`; without a trial the weight is .5. `calibration.svg` plots
    the scale.
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
    weight = _DEFAULT_WEIGHT if weight is None else weight
    ids, targets = lists["query_id"][:], anchored(scaled, student, weight)
    check_finite(ids, targets)
    table = pa.table(
        {
            "query_id": pa.array(ids),
            "target": pa.array(targets, type=pa.list_(pa.float32())),
        }
    )
    writer.shard("targets", 0, table)
    writer.facts |= asdict(calibration) | {"teacher_weight": weight} | tried
    svg = calibration_svg(teacher, student, asdict(calibration))
    write_file(writer.folder / "calibration.svg", svg.encode())


def check_finite(ids: Sequence[str], targets: Scores) -> None:
    """Raise Diverged with the ids of queries that have a target which is not finite."""
    wrong = [id for id, each in zip(ids, targets, strict=True) if not np.isfinite(each).all()]
    if wrong:
        raise Diverged(f"targets of {listed(wrong)} are not finite: score these queries again")


def best_weight(figures: Mapping[float, np.ndarray]) -> float:
    """The weight with the largest mean metric if it is significantly better than .5, else .5.

    It must exceed .5 by 1.96 standard errors of the paired difference: on a few hundred queries,
    neighbouring weights differ by less than chance. `figures` are metric values, [queries], by
    weight.
    """
    best = max(figures, key=lambda w: float(np.mean(figures[w])))
    difference = np.asarray(figures[best]) - np.asarray(figures[_DEFAULT_WEIGHT])
    error = 1.96 * np.std(difference) / np.sqrt(len(difference))
    return best if np.mean(difference) > error else _DEFAULT_WEIGHT
