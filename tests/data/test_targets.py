"""Targets are the mixture they are said to be, and the weight is the one that gained most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, strategies as st

from tercet.core.artifacts import Artifact, Stage, Writer, produce
from tercet.core.schema import Diverged, InputError
from tercet.data import write_targets
from tercet.data.mixture import WEIGHTS, Scores, anchored, best_of
from tercet.data.targets import Trial, calibrate


def noisy(
    slope: float, noise: float, *, lists: int = 200, size: int = 20
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Teacher and student scores with a known slope within lists, and an offset of each list."""
    random = np.random.default_rng(4)
    teacher = [random.normal(size=size).astype(np.float32) * 5 for _ in range(lists)]
    student = [
        (slope * t + random.normal() * 10 + noise * random.normal(size=size)).astype(np.float32)
        for t in teacher
    ]
    return teacher, student


@pytest.mark.parametrize("slope", [0.01, 0.5, 3.0, -2.0])
def test_calibration_recovers_a_known_slope_whatever_each_list_is_offset_by(slope: float) -> None:
    exact = calibrate(*noisy(slope, 0))
    assert exact.slope == pytest.approx(slope, rel=1e-3)
    assert exact.r2 == pytest.approx(1, abs=1e-3)
    # Noise of this size explains a half of the student's variance.
    half = calibrate(*noisy(slope, 5 * abs(slope)))
    assert half.slope == pytest.approx(slope, rel=0.1)
    assert half.r2 == pytest.approx(0.5, abs=0.05)
    # The ratio of the deviations within lists, whatever the correlation is.
    assert half.spread == pytest.approx(abs(slope) / 0.5**0.5, rel=0.1)
    assert half.spread == pytest.approx(abs(half.slope) / half.r2**0.5)


def test_a_teacher_that_tells_nothing_apart_is_refused() -> None:
    equal = [np.full(7, value, dtype=np.float32) for value in (0.1, 3.3, -1e-3)]
    student = [np.arange(7, dtype=np.float32)] * 3
    with pytest.raises(InputError, match="nothing to learn"):
        calibrate(equal, student)


def test_a_student_that_tells_nothing_apart_has_a_slope_of_zero() -> None:
    teacher = [np.arange(7, dtype=np.float32)] * 3
    result = calibrate(teacher, [np.full(7, 0.1, dtype=np.float32)] * 3)
    assert all(np.isfinite(value) for value in vars(result).values())
    assert (result.slope, result.r2) == (0, 0)


def test_clipped_scores_lie_between_zero_and_one_and_keep_their_order() -> None:
    teacher, student = noisy(0.5, 0.1)
    scaled = calibrate(teacher, student).scaled(teacher, "clipped")
    assert min(x.min() for x in scaled) == 0 and max(x.max() for x in scaled) == 1
    assert 0.01 <= np.mean(np.concatenate(scaled) == 1) < 0.02
    for before, after in zip(teacher, scaled, strict=True):
        assert (np.diff(after[np.argsort(before)]) >= 0).all()


# ── targets ──────────────────────────────────────────────────────────────────────────────────────


def opposing(slope: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return noisy(slope, 0.01, lists=20, size=5)


def write(folder: Path, weight: float | None, trial: Trial | None = None) -> Artifact:
    teacher, student = noisy(0.5, 1.0, lists=12, size=6)
    lists = Dataset.from_dict(
        {
            "query_id": [f"q{i}" for i in range(12)],
            "teacher": [x.tolist() for x in teacher],
            "student": [x.tolist() for x in student],
        }
    )
    return produce(
        Stage(folder / "targets", {}, {}),
        lambda writer: write_targets(
            writer, lists, method="std_ratio", student_weight=weight, trial=trial
        ),
    )


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_a_target_lies_so_far_from_the_student_towards_the_scaled_teacher(
    tmp_path: Path, weight: float
) -> None:
    made = write(tmp_path, weight)
    teacher, student = noisy(0.5, 1.0, lists=12, size=6)
    scale = made.facts["spread"]
    assert made.facts["student_weight"] == weight
    rows = zip(made.dataset("targets"), teacher, student, strict=True)
    for number, (row, t, s) in enumerate(rows):
        assert row["query_id"] == f"q{number}"
        assert row["target"] == pytest.approx(weight * s + (1 - weight) * scale * t, rel=1e-5)


def test_one_scorer_and_a_half_give_the_targets_of_before_bit_by_bit(tmp_path: Path) -> None:
    teacher, student = noisy(0.5, 1.0, lists=12, size=6)
    flat = [
        np.concatenate([x - np.mean(x, dtype=np.float64) for x in each]).astype(np.float64)
        for each in (teacher, student)
    ]
    scale = float(np.std(flat[1]) / np.std(flat[0]))
    rows = zip(write(tmp_path, 0.5).dataset("targets"), teacher, student, strict=True)
    for row, t, s in rows:
        scaled, own = scale * np.asarray(t, np.float64), np.asarray(s, np.float64)
        before = ((1 - 0.5) * own + 0.5 * scaled).astype(np.float32)
        assert np.array_equal(np.array(row["target"], np.float32), before)


def test_the_weight_that_clearly_gains_most_on_held_out_queries_is_taken(tmp_path: Path) -> None:
    asked: list[Sequence[np.ndarray]] = []

    def trial(targets: Scores) -> np.ndarray:
        asked.append(targets)
        return np.full(100, -abs(len(asked) - 4))  # the fourth

    facts = write(tmp_path, None, trial).facts
    assert len(asked) == len(WEIGHTS)
    assert facts["student_weight"] == WEIGHTS[3]
    assert [(each["student"], each["mean"]) for each in facts["tried"]] == [
        *zip(WEIGHTS, [-3, -2, -1, 0, -1], strict=True)
    ]


def test_without_enough_queries_to_choose_by_it_is_a_half(tmp_path: Path) -> None:
    facts = write(tmp_path, None).facts
    assert facts["student_weight"] == 0.5
    assert "tried" not in facts


@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from(WEIGHTS))
def test_another_weight_than_a_half_must_beat_it_beyond_chance(
    seed: int, gain: float, which: float
) -> None:
    random = np.random.default_rng(seed)
    figures = {w: random.random(200) for w in WEIGHTS}
    figures[which] = figures[0.5] + gain + 0.1 * random.normal(size=200)
    best = best_of(figures, 0.5)
    assert best in (0.5, max(figures, key=lambda w: figures[w].mean()))
    if best != 0.5:
        difference = figures[best] - figures[0.5]
        assert difference.mean() > 1.95 * difference.std() / 200**0.5
    if which != 0.5 and gain > 0.6:  # clear of what the others have by chance
        assert best == which


def test_a_teacher_that_opposes_the_model_is_refused() -> None:
    teacher, student = opposing(-0.5)
    calibration = calibrate(teacher, student)
    with pytest.raises(InputError, match="teach the opposite"):
        calibration.scaled(teacher, "least_squares")
    assert calibration.scaled(teacher, "std_ratio")[0] == pytest.approx(
        calibration.spread * teacher[0].astype(float)
    )


@pytest.mark.fault("divergence")
def test_a_target_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    teacher, student = noisy(0.1, 0.1, lists=20)
    student[7][0] = np.inf
    columns = {"query_id": [f"q{i}" for i in range(20)], "teacher": teacher, "student": student}
    lists = Dataset.from_dict(columns)

    def write(writer: Writer) -> None:
        write_targets(writer, lists, method="none", student_weight=0.5)

    with np.errstate(all="ignore"), pytest.raises(Diverged, match="^targets of query 'q7' are not"):
        produce(Stage(tmp_path / "targets", {}, {}), write)
    assert not (tmp_path / "targets").exists()


def test_its_whole_weight_leaves_the_students_scores_as_they_are() -> None:
    teacher, student = noisy(0.5, 1.0, lists=3)
    for target, own in zip(anchored(teacher, student, 1.0), student, strict=True):
        assert (target == own).all()
