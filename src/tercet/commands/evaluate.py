"""The story of `tercet eval`: search every index with every system, time them, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand)
def command(recipe: Recipe) -> None:
    """Compare systems over indexes, on the recipe's test queries.

    `evaluation.systems` and `evaluation.indexes` list them: by default BM25, the base and the
    adapted model over exact search and the recipe's index. Start with results/report.html.
    """
    evaluate(recipe)


def evaluate(recipe: Recipe) -> None:
    """Compare the recipe's systems over its indexes, on its test queries.

    Writes `results/` in the run's folder: metrics.json, report.html, per_query.parquet,
    rankings.parquet, qrels.trec and runs/*.trec; and appends to `results.csv` beside the runs.
    Raises InputError, before any work, if a model, file, server or library is missing.
    """
    # torch and transformers take seconds to import, which --help should not.
    from tercet.core.console import console
    from tercet.core.processes import locked
    from tercet.evaluation.experiment import Experiment
    from tercet.evaluation.latency import time_systems
    from tercet.evaluation.summary import results_of
    from tercet.reports.files import append_csv, write_results
    from tercet.reports.page.page import check_page, write_page
    from tercet.reports.results_table import print_results

    folder = recipe.folder / "results"
    with locked(recipe.folder), Experiment(recipe) as experiment:
        check_page()
        experiment.check()

        # Exact search comes first: the other indexes' recall is measured against it.
        for index in experiment.indexes:
            experiment.search(index)
        time_systems(experiment)

        results = results_of(experiment)
        write_results(folder, results, experiment.qrels, experiment.runs(), experiment.metrics)
        write_page(results, folder / "report.html")
        append_csv(Path(recipe.runs_dir) / "results.csv", results)

    print_results(results)
    console.print(f"  {folder / 'report.html'}, runs/*.trec, per_query.parquet, metrics.json")
    if "wandb" in recipe.tracking.report_to:
        from tercet.sharing.wandb import track  # an optional dependency

        track(recipe, results, folder / "report.html")
