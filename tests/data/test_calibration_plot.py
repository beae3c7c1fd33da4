"""The picture is well-formed, repeats to the byte, and its lines have their slopes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tercet.data.calibration_plot import calibration_svg

FACTS = {"spread": 0.03, "slope": 0.02, "pooled_slope": -0.01, "r2": 0.4, "pooled_r2": 0.5}
SVG = "{http://www.w3.org/2000/svg}"


def lists(seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    teacher = [random.normal(scale=5, size=20) for _ in range(50)]
    return teacher, [0.03 * t + random.normal(scale=0.05, size=20) for t in teacher]


def test_it_is_well_formed_and_the_same_twice() -> None:
    first = calibration_svg(*lists(), FACTS)
    assert first == calibration_svg(*lists(), FACTS) != calibration_svg(*lists(1), FACTS)
    root = ElementTree.fromstring(first)
    words = " ".join(element.text or "" for element in root.iter(f"{SVG}text"))
    for figure in ("0.0300", "0.0200", "-0.0100", "within lists 0.40, pooled 0.50"):
        assert figure in words


def test_every_line_stays_within_the_drawing_and_keeps_its_slope() -> None:
    root = ElementTree.fromstring(calibration_svg(*lists(), FACTS))
    lines = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "2.5"]
    drawn = [[float(line.get(end, "")) for end in ("x1", "y1", "x2", "y2")] for line in lines[::2]]
    assert all(
        70 <= x <= 700 and 64 <= y <= 444 for a, b, c, d in drawn for x, y in ((a, b), (c, d))
    )
    steep, flat, falling = ((y1 - y2) / (x2 - x1) for x1, y1, x2, y2 in drawn)
    assert steep / flat == pytest.approx(1.5, rel=0.02)
    assert flat / falling == pytest.approx(-2, rel=0.02)


@pytest.mark.parametrize("student", [0.0, 1.0])
def test_scores_that_are_all_equal_can_be_drawn(student: float) -> None:
    teacher = [np.arange(5.0)] * 3
    flat = FACTS | {"spread": 0.0, "slope": 0.0, "pooled_slope": 0.0}
    ElementTree.fromstring(calibration_svg(teacher, [np.full(5, student)] * 3, flat))
