"""What a run will take, told before its work; the queries that fit its time budget; a question."""

from __future__ import annotations

import sys

from rich.prompt import Confirm
from rich.text import Text

from tercet.core.artifacts import MANIFEST
from tercet.core.console import console
from tercet.core.processes import process
from tercet.core.schema import InputError
from tercet.core.text import seconds_text
from tercet.forecast.budget import Fitted, fit
from tercet.forecast.forecast import Forecast
from tercet.forecast.probe import probe
from tercet.forecast.stage_estimates import forecast_of
from tercet.pipeline.choices import QUERIES, within_budget
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.forecast_table import shorter

_ASK = 3600.0  # seconds from which a terminal is asked
#: Pairs to score from which a run is worth a forecast; a short one is done sooner.
_WORTH_A_FORECAST = 200_000
_SHARE = 0.25  # of the usual time, for a forecast that nobody asked for


def plan(pipeline: Pipeline, *, yes: bool = False) -> bool:
    """Tell what the run will take, and choose what fits its time budget.

    Returns whether to go on: a terminal is asked if it takes more than an hour, unless `yes`.
    A run that has begun to write queries is not planned again.
    """
    recipe, folder = pipeline.recipe, pipeline.recipe.folder
    if pipeline.run.chose(QUERIES) or recipe.model.frozen:
        return True
    if recipe.time_budget:
        found = fitted(pipeline)
        if not (found.fits or yes or _asks()):
            raise InputError(f"{_too_little(pipeline, found)}, or --yes to start all the same")
        return tell(found.forecast, yes=yes)
    begun = (folder / "queries" / MANIFEST).exists() or (folder / "queries.partial").exists()
    if begun or process()[1] > 1 or not _is_long(pipeline):
        return True
    console.print("forecasting what the run will take", style="dim")
    return tell(forecast_of(pipeline, probe(pipeline, share=_SHARE)), yes=yes)


def fitted(pipeline: Pipeline) -> Fitted:
    """Choose the numbers of queries and candidates that fit the time budget, or come nearest."""
    recipe = pipeline.run.given
    if process()[1] > 1:
        raise InputError(
            "time_budget is measured by one process: run `tercet forecast RECIPE` "
            "first, which keeps what it chooses, or give queries.count"
        )
    console.print("fitting the number of queries to the time budget", style="dim")
    found = fit(pipeline, recipe.budget_seconds or 0.0)
    pipeline.run.decide(within_budget(recipe, found.queries, found.candidates))
    if found.candidates < recipe.negatives.candidates:
        console.print(f"{found.candidates} candidates a query, for the time budget", style="dim")
    if not found.fits:
        console.warn(_too_little(pipeline, found))
    return found


def _too_little(pipeline: Pipeline, found: Fitted) -> str:
    """What a time budget is not enough for, and what would be."""
    return (
        f"time_budget {pipeline.recipe.time_budget} is not enough: {found.queries:,} queries, the "
        "fewest from which held-out ones can decide, take about "
        f"{seconds_text(found.forecast.total)} after the forecast; {_mend(found.forecast)}. Give "
        "a longer time_budget, a smaller model.max_length and teacher.max_length, a smaller model"
    )


def tell(forecast: Forecast, *, yes: bool = False) -> bool:
    """Print a forecast in one line; return whether to go on, as `confirm`."""
    rows = {name: stage.rows for name, stage in forecast.stages.items()}
    console.print(
        Text(f"about {seconds_text(forecast.total)}:", "bold"),
        f"{rows['corpus']:,} passages, "
        f"{rows['queries']:,} queries, {rows['scores']:,} pairs to score, {rows['model']:,} steps",
    )
    return confirm(forecast, yes=yes)


def confirm(forecast: Forecast, *, yes: bool = False) -> bool:
    """Ask whether to start a run of more than an hour; without a terminal, or if `yes`, start."""
    if yes or forecast.total <= _ASK:
        return True
    console.print(f"  {_mend(forecast)}; time_budget sets a limit, such as --time_budget 1h")
    if not _asks():
        return True
    return Confirm.ask("  start?", console=console, default=True)


def _asks() -> bool:
    """Whether there is a terminal to ask."""
    return sys.stdin.isatty() and console.is_terminal


def _mend(forecast: Forecast) -> str:
    """The longest stage, and what shortens it."""
    longest = max(forecast.left, key=lambda name: forecast.left[name].seconds)
    expected = forecast.left[longest]
    return f"{longest} takes {seconds_text(expected.seconds)}: {shorter(longest, expected)}"


def _is_long(pipeline: Pipeline) -> bool:
    """Whether a run may take so long that a forecast is worth its own time."""
    recipe = pipeline.recipe
    if recipe.queries.count is None:
        return True
    return recipe.queries.count * recipe.negatives.candidates >= _WORTH_A_FORECAST
