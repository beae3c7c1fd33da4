"""What ships is what held-out queries chose, unless others of them object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from tercet.core.artifacts import Artifact, Stage, Writer, produce
from tercet.modeling.training.model_selection import (
    choose,
    interpolated,
    read_choices,
    read_mixture,
    write_choices,
)


class Index:
    def __init__(self) -> None:
        self.discarded = False

    def discard(self) -> None:
        assert not self.discarded
        self.discarded = True


class Evaluation:
    """Figures that the model's one weight decides."""

    def __init__(self, model: nn.Linear, figures: Mapping[str, Callable[[float], float]]) -> None:
        self.model, self.figures = model, figures
        self.index: Index | None = None
        self.made: list[Index] = []

    def measure(
        self, name: str, *, zero_shot: bool, keep: bool
    ) -> dict[str, dict[str, dict[str, float]]]:
        weight = self.model.weight.item()
        assert keep and zero_shot == (weight == 0)
        self.index = Index()
        self.made.append(self.index)
        return {name: {"mrr@10": {"q": value(weight)}} for name, value in self.figures.items()}


@pytest.fixture
def model() -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(8.0)  # as trained; 0 as it came
    return model


BASE = {"weight": torch.zeros(1, 1)}


def rising(weight: float) -> float:
    return weight


@pytest.mark.parametrize(
    ("validation", "guard", "best", "shipped"),
    [
        (rising, rising, 1.0, 1.0),
        (lambda w: -((w - 4) ** 2), rising, 0.5, 0.5),
        (lambda w: -w, rising, 0.0, 0.0),
        (rising, lambda w: -w, 1.0, 0.0),  # the guard refuses
        (rising, lambda w: 1.0, 1.0, 0.0),  # no gain is not a gain
        (lambda w: 1.0, rising, 0.0, 0.0),  # of equals the nearest to the base
    ],
)
def test_validation_chooses_and_the_guard_may_refuse(
    model: nn.Linear,
    validation: Callable[[float], float],
    guard: Callable[[float], float],
    best: float,
    shipped: float,
) -> None:
    evaluation = Evaluation(model, {"validation": validation, "guard": guard})
    choice = choose(model, BASE, evaluation, steps=4, metric="mrr@10")  # type: ignore[arg-type]
    assert (choice.best, choice.weight) == (best, shipped)
    assert model.weight.item() == 8 * shipped
    assert sorted(choice.metrics) == [0, 0.25, 0.5, 0.75, 1]
    assert choice.gain == guard(8 * best) - guard(0)
    kept = [index for index in evaluation.made if not index.discarded]
    assert kept == ([choice.index] if choice.index else [])
    assert (choice.index is None) == (best != shipped)


@pytest.mark.parametrize(
    ("gate", "best"),
    [
        (rising, 1.0),
        (lambda w: 1.0, 1.0),  # no difference contradicts nothing
        (lambda w: -w, 0.0),
        (lambda w: w if w < 5 else -w, 0.5),  # validation chooses of what is left
    ],
)
def test_what_the_gating_queries_contradict_is_no_candidate(
    model: nn.Linear, gate: Callable[[float], float], best: float
) -> None:
    evaluation = Evaluation(model, {"validation": rising, "guard": rising, "gate": gate})
    choice = choose(model, BASE, evaluation, steps=4, metric="mrr@10", gate="mrr@10")  # type: ignore[arg-type]
    assert (choice.best, choice.weight) == (best, best)
    assert [i for i in evaluation.made if not i.discarded] == [choice.index]


def test_a_mixture_is_exact_at_its_ends_and_between_them_elsewhere() -> None:
    base = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor([3])}
    trained = {"w": torch.tensor([3.0, 0.1]), "n": torch.tensor([3])}
    for weight, ends in ((0.0, base), (1.0, trained)):
        assert all(torch.equal(x, ends[n]) for n, x in interpolated(base, trained, weight).items())
    middle = interpolated(base, trained, 0.5)
    assert middle["w"].tolist() == pytest.approx([2.0, 1.05])
    assert middle["n"].tolist() == [3]


# ── what each mixture gained comes back from the artefact, query by query ────────────────────────

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
