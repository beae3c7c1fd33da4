"""Compare systems over indexes: the adapted model with what it came from, BM25, and what you pay.

    python eval.py recipes/experiment.yaml --corpus.path FOLDER

`evaluation.systems` and `evaluation.indexes` list what is compared; unset, it is BM25 and the model
as it came and as adapted, over exact search and the recipe's own index.
"""

from __future__ import annotations

from pathlib import Path

from tercet import Recipe, cli
from tercet.core.console import console
from tercet.core.processes import locked
from tercet.evaluation.experiment import Experiment
from tercet.evaluation.summary import results_of
from tercet.reports.files import append_csv, write_results
from tercet.reports.page.page import write_page
from tercet.reports.results_table import print_results


def main(recipe: Recipe, flags: set[str]) -> None:
    """Search, time, compare, report."""
    folder = recipe.folder / "results"
    with locked(recipe.folder), Experiment(recipe) as experiment:
        experiment.check()
        for index in experiment.indexes:  # exact first: what the others are held against
            experiment.search(index)
        experiment.time()
        results = results_of(experiment)
        write_results(folder, results, experiment.qrels, experiment.runs(), experiment.figures)
        write_page(results, folder / "report.html")
        append_csv(Path(recipe.runs_dir) / "results.csv", results)
    print_results(results)
    console.print(f"  {folder / 'report.html'}, runs/*.trec, per_query.parquet, metrics.json")
    if "wandb" in recipe.tracking.report_to:
        from tercet.sharing.wandb import track

        track(recipe, results, folder / "report.html")


if __name__ == "__main__":
    cli.run(main, "eval.py", "Compare systems over indexes, on the recipe's test queries.")
