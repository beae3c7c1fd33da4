"""What each mixture gained comes back from the artefact, query by query in pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.core.artifacts import Artifact, Stage, Writer, produce
from tercet.modeling.training.model_selection import read_choices, read_mixture, write_choices

SPLITS = {"validation": 3, "guard": 2, "test": 4}


def found(weight: float) -> dict[str, dict[str, dict[str, float]]]:
    """Both measures of a few queries of each split, whose ids are the same in all splits."""
    return {
        split: {
            measure: {f"q{i}": base + weight * (i + 1) / 100 for i in range(count)}
            for measure, base in (("mrr@10", 0.5), ("ndcg@10", 0.25))
        }
        for split, count in SPLITS.items()
    }


def made(folder: Path) -> Artifact:
    def write(writer: Writer) -> None:
        write_choices(writer, {w: found(w) for w in (1.0, 0.0, 0.5)})
        writer.facts["tested_on"] = "these"

    return produce(Stage(folder / "model", {}, {}), write)


def test_gains_are_over_the_model_as_it_came(tmp_path: Path) -> None:
    steps = read_choices(made(tmp_path), "mrr@10", "ndcg@10", "these", resamples=200, seed=1)
    assert [step.weight for step in steps] == [0.5, 1.0]
    for step in steps:
        for split, gain in (
            ("validation", step.validation),
            ("guard", step.guard),
            ("test", step.test),
        ):
            assert gain
            expected = step.weight * (SPLITS[split] + 1) / 2 / 100
            assert gain.difference == pytest.approx(expected)
            assert gain.low <= gain.difference <= gain.high


@pytest.mark.parametrize(("measure", "queries"), [("ndcg@10", "others"), ("ndcg@7", "these")])
def test_figures_of_other_test_queries_or_measures_are_not_shown(
    tmp_path: Path, measure: str, queries: str
) -> None:
    steps = read_choices(made(tmp_path), "mrr@10", measure, queries, resamples=200, seed=1)
    assert [step.test for step in steps] == [None, None]


def test_a_mixture_s_figures_come_back_by_query(tmp_path: Path) -> None:
    figures = read_mixture(made(tmp_path), 0.5, "test", "ndcg@10")
    assert figures == found(0.5)["test"]["ndcg@10"]
