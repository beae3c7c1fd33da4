"""The number of queries follows the corpus, and the time that a run may take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from programs import manifests, run_here
from recipes import tiny_recipe

from tercet.commands import plan as planning
from tercet.config.loading import load_recipe
from tercet.config.recipe import Recipe
from tercet.core.schema import InputError
from tercet.core.text import seconds_of
from tercet.data.queries import plan, usual_count
from tercet.forecast import budget as budgets
from tercet.forecast.budget import FEWEST_CANDIDATES, FEWEST_QUERIES, fit
from tercet.forecast.forecast import Expected, Forecast, TrainingSize
from tercet.pipeline.choices import read_choices


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 90), ("20min", 1200), ("20 minutes", 1200), ("1.5h", 5400), ("2 days", 172_800)),
        *(("0", 0), ("soon", None), ("20 minutesss", None), ("-3h", None), ("1h30", None)),
    ],
)
def test_a_duration_is_read_as_it_is_written(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("budget", ["soon", "0", "-1h"])
def test_what_is_no_duration_is_refused(tmp_path: Path, budget: str) -> None:
    recipe = tiny_recipe(tmp_path, corpus=tmp_path)
    with pytest.raises(InputError, match=f"--time_budget: time_budget '{budget}' is no duration"):
        load_recipe(recipe, [f"--time_budget={budget}"])


def test_a_budget_needs_a_forecast(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, corpus=tmp_path, model={"train": "query_adapter"})
    with pytest.raises(InputError, match="time_budget needs model.train both"):
        load_recipe(recipe, ["--time_budget=1h"])


def test_unset_the_number_of_queries_follows_the_corpus() -> None:
    assert usual_count(5_238) == 3 * 5_238
    assert usual_count(10_000_000) == 250_000
    assert usual_count(200) == 1_500
    assert plan(5_238, None, None) == (3, 5_238)
    assert plan(200, None, None) == (8, 188)


def forecast_taking(seconds: float, queries: int) -> Forecast:
    stages = {
        name: Expected(rows=queries, tokens=0, seconds=0.0, gflops=1.0, peak=None, disk=0)
        for name in ("corpus", "queries", "scores", "model")
    }
    stages["scores"] = replace(stages["scores"], seconds=seconds)
    return Forecast(stages, TrainingSize(1, 1, 1, 1, 1, 1.0), [], {}, 0.0)


@pytest.mark.parametrize(
    ("budget", "count", "expected", "candidates", "fits"),
    [
        (1_200, None, 9_800, 25, True),  # 100 s, and 4 ms a query and candidate
        (1_200, 2_000, 2_000, 25, True),
        (36_000, None, 30_000, 25, True),
        (141, None, FEWEST_QUERIES, 13, True),
        (125, 200, 200, 15, True),
        (60, None, FEWEST_QUERIES, FEWEST_CANDIDATES, False),
        (60, 200, 200, FEWEST_CANDIDATES, False),
    ],
)
def test_a_budget_is_filled_and_not_exceeded(
    monkeypatch: pytest.MonkeyPatch,
    budget: float,
    count: int | None,
    expected: int,
    candidates: int,
    fits: bool,
) -> None:
    def forecast_of(pipeline: Any, probe: Any, recipe: Recipe) -> Forecast:
        queries = recipe.queries.count or 0
        assert recipe.queries.per_passage == 3
        return forecast_taking(100 + 0.004 * queries * recipe.negatives.candidates, queries)

    found = SimpleNamespace(reading=SimpleNamespace(passages=10_000))
    shares: list[float] = []
    monkeypatch.setattr(budgets, "forecast_of", forecast_of)
    monkeypatch.setattr(budgets, "probe", lambda pipeline, share: (shares.append(share), found)[1])
    recipe = Recipe()
    recipe = replace(recipe, queries=replace(recipe.queries, count=count))
    fitted = fit(SimpleNamespace(recipe=recipe), budget)  # type: ignore[arg-type]
    assert fitted.fits is fits
    assert fitted.queries == pytest.approx(expected, rel=0.03)
    assert fitted.candidates == candidates
    assert shares == [min(1.0, budget / 1_200)]
    if fits:
        assert fitted.forecast.total <= 0.9 * budget


def test_a_terminal_is_asked_about_more_than_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(question: str, **given: Any) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(planning.Confirm, "ask", ask)
    hours, minutes = forecast_taking(2 * 3600, 10), forecast_taking(1200, 10)
    assert planning.confirm(hours) and not asked  # no terminal
    monkeypatch.setattr(planning.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(planning, "console", SimpleNamespace(is_terminal=True, print=print))
    assert planning.confirm(minutes) and planning.confirm(hours, yes=True) and not asked
    assert not planning.confirm(hours) and asked


@pytest.mark.slow
def test_a_run_keeps_the_number_of_queries_of_its_budget(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> None:
    recipe = tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        teacher={"name": tiny_cross_encoder_path, "student_weight": 0.5},
        model=tiny_encoder_path,
        queries={"count": None, "per_passage": None},
        triplets={"negatives_per_query": 3},
    )
    options = ("--time_budget", "2s", "--until", "queries")
    refused = run_here("train.py", recipe, *options)
    assert refused.returncode == 2 and "time_budget 2s is not enough: 500 queries" in refused.stderr
    assert "--yes to start all the same" in refused.stderr
    assert not (tmp_path / "runs" / "tiny" / "corpus").exists()
    first = run_here("train.py", recipe, *options, "--yes")
    assert first.returncode == 0, first.stderr
    assert "about " in first.stdout and "is not enough" in first.stdout
    run = tmp_path / "runs" / "tiny"
    assert read_choices(run)["queries.count"] == {"of": "2s", "choice": FEWEST_QUERIES}
    assert manifests(run)["queries"]["plan"]["settings"]["queries"]["count"] == FEWEST_QUERIES
    assert "negatives.candidates" not in read_choices(run), "the recipe has no more than the least"
    again = run_here("train.py", recipe, *options)
    assert "fitting" not in again.stdout and "make " not in again.stdout
    assert "time_budget: 2s" in (run / "recipe.yaml").read_text()
    assert "count: null" in (run / "recipe.yaml").read_text()
