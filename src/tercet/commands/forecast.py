"""`tercet forecast`: what every step of a run will take."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand)
def command(recipe: Recipe) -> None:
    """Estimate in a minute or two what every step will take, from a sample of its own work."""
    forecast(recipe)


def forecast(recipe: Recipe) -> None:
    """Estimate what every step will take, from a small run on a sample; nothing else is made."""
    # torch and transformers take seconds to import, which --help should not.
    from tercet.commands.plan import fitted
    from tercet.core.files import write_json
    from tercet.core.processes import locked
    from tercet.forecast.forecast import FORECAST, settings_of
    from tercet.forecast.stage_estimates import estimate
    from tercet.pipeline.choices import QUERIES
    from tercet.pipeline.pipeline import Pipeline
    from tercet.reports.forecast_table import print_forecast

    pipeline = Pipeline(recipe)
    pipeline.check()
    with locked(recipe.folder):
        to_fit = recipe.time_budget and not pipeline.run.chose(QUERIES)
        found = fitted(pipeline).forecast if to_fit else estimate(pipeline)
        pipeline.run.settle()  # the run will be what was forecast
        found = replace(found, settings=settings_of(pipeline.recipe))
        write_json(recipe.folder / FORECAST, asdict(found))
        print_forecast(found)
