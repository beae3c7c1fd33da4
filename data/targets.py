"""Teacher and student scores -> the target score of each pair, for anchored margins.

Files: `targets` (query_id, target), in the order of the triplets' lists, the positive first, and
`calibration.svg`.

Each scorer's scores are scaled to the student's by one factor, and the target is a weighted sum:
w x the zero-shot student's own score + (1 - w) x the scorers' (`tercet.data.mixture`). The
student's part, the anchor, keeps it from following the teacher where they disagree. w = 0 and one
scorer without scaling are GPL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset

from tercet.core.artifacts import Writer
from tercet.core.files import write_file
from tercet.core.schema import Diverged, InputError
from tercet.core.text import listed
from tercet.data.calibration_plot import calibration_svg
from tercet.data.mixture import Mixture, Scores, choose, equal, mixed, scorers_of, unchosen

Method = Literal["std_ratio", "least_squares", "none", "clipped"]
#: Trains on targets and returns the metric of each held-out query, float64 [queries].
Trial = Callable[[Scores], np.ndarray]
#: The teacher's and the student's lists, and the calibration, to an SVG.
Plot = Callable[[Scores, Scores, Mapping[str, float]], str]


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
        scale = self.factor(method)
        if scale <= 0:
            raise InputError(f"the teacher's scale is {scale}: it would teach the opposite")
        return [scale * np.asarray(t, np.float64) for t in teacher]

    def factor(self, method: Method) -> float:
        """What the teacher's scores are multiplied by; "clipped" shifts and cuts them too."""
        factors = {"std_ratio": self.spread, "least_squares": self.slope, "none": 1.0}
        return factors.get(method, 1 / self.width)

    @property
    def width(self) -> float:
        """Range from the 1st to the 99th percentile of the logits, above zero."""
        return max(self.high - self.low, float(np.finfo(np.float32).tiny))


def calibrate(teacher: Scores, student: Scores, name: str = "the teacher") -> Calibration:
    """Fit the calibration over lists of scores, [candidates] each.

    Raises InputError, with the teacher's `name`, if its scores are constant within every list.
    """
    # In float64 the mean of equal scores is that score, so that centring leaves exact zeros.
    centred = [
        _joined([np.asarray(x) - np.mean(x, dtype=np.float64) for x in lists])
        for lists in (teacher, student)
    ]
    if not np.any(centred[0]):
        raise InputError(f"{name} gives all candidates of a query one score: nothing to learn")
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


def mixture(
    columns: Mapping[str, Sequence[Any]],
    student: Scores,
    *,
    method: Method,
    weights: Sequence[float] | None,
    names: Sequence[str],
) -> list[np.ndarray]:
    """The scorers' mixture without the student, on its scale; equal weights unless given."""
    members = scorers_of(columns)
    scaled = [
        calibrate(m, student, name).scaled(m, method)
        for m, name in zip(members, names, strict=True)
    ]
    return mixed(scaled, weights or equal(len(members)))


def write_targets(
    writer: Writer,
    lists: Dataset,
    *,
    method: Method,
    student_weight: float | None,
    weights: Sequence[float] | None = None,
    scorers: Sequence[str] = ("the teacher",),
    trial: Trial | None = None,
) -> None:
    """Scale each scorer's scores, choose the weights that are not given, and write the targets.

    `weights` are those of the `scorers`, which add up to 1. `trial` evaluates what `choose` tries;
    without a trial the student's weight is .5 and the scorers' are equal. `calibration.svg` and
    the first facts are of the lists' teacher: the one scorer, or the mixture of several.
    """
    columns = lists.select_columns(["teacher", "student", *({"scorers"} & {*lists.column_names})])[
        :
    ]
    teacher, student = (
        [np.array(x, np.float32) for x in columns[name]] for name in ("teacher", "student")
    )
    members = scorers_of(columns)
    scales = [calibrate(m, student, name) for m, name in zip(members, scorers, strict=True)]
    scaled = [c.scaled(m, method) for c, m in zip(scales, members, strict=True)]
    given = len(members), student_weight, tuple(weights) if weights else None
    mixture = unchosen(*given)
    tried: dict[Mixture, np.ndarray] = {}
    if trial is not None:
        mixture, tried = choose(lambda one: trial(one.of(scaled, student)), *given)
    ids, targets = lists["query_id"][:], mixture.of(scaled, student)
    check_finite(ids, targets)
    table = pa.table(
        {
            "query_id": pa.array(ids),
            "target": pa.array(targets, type=pa.list_(pa.float32())),
        }
    )
    writer.shard("targets", 0, table)
    calibration = asdict(calibrate(teacher, student) if len(members) > 1 else scales[0])
    writer.facts |= calibration | {"student_weight": mixture.student}
    if len(members) > 1:
        writer.facts["scorers"] = [
            {"scorer": name, "weight": weight, **asdict(scale)}
            for name, weight, scale in zip(scorers, mixture.scorers, scales, strict=True)
        ]
    if tried:
        writer.facts["tried"] = [
            {"student": m.student, "scorers": list(m.scorers), "mean": float(np.mean(figures))}
            for m, figures in tried.items()
        ]
    svg = calibration_svg(teacher, student, calibration)
    write_file(writer.folder / "calibration.svg", svg.encode())


def check_finite(ids: Sequence[str], targets: Scores) -> None:
    """Raise Diverged with the ids of queries that have a target which is not finite."""
    wrong = [id for id, each in zip(ids, targets, strict=True) if not np.isfinite(each).all()]
    if wrong:
        raise Diverged(f"targets of {listed(wrong)} are not finite: score these queries again")
