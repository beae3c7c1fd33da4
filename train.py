"""Adapt a retriever to a corpus that nobody labelled.

    python train.py recipes/quickstart.yaml
    python train.py recipes/quickstart.yaml --forecast
    python train.py recipes/quickstart.yaml --audit
    accelerate launch --config_file accelerate_config.yaml train.py recipes/beir.yaml

Corpus -> synthetic queries -> hard negatives -> teacher scores -> triplets -> Trainer -> report.
Every stage writes an artefact under `runs/<name>/`; a run that was killed goes on where it was.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from tercet import cli
from tercet.config.loading import save_recipe
from tercet.config.recipe import Recipe
from tercet.core.console import console
from tercet.core.files import write_json
from tercet.core.processes import is_main_process, locked
from tercet.evaluation.teacher_audit import audit_teacher
from tercet.forecast.estimate import estimate
from tercet.forecast.forecast import FORECAST
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.audit_table import print_audit
from tercet.reports.forecast_table import print_forecast
from tercet.reports.report import print_report, write_report
from tercet.reports.run_report import run_report
from tercet.sharing.hub import push_model
from tercet.sharing.model_card import write_card

RESTART = "--restart"
AUDIT = "--audit"
FORECAST_FLAG = "--forecast"


def main(recipe: Recipe, flags: set[str]) -> None:
    """Run the stages that are missing or stale, in order, and report."""
    pipeline = Pipeline(recipe, restart=RESTART in flags)
    pipeline.check()
    with locked(recipe.folder):
        if FORECAST_FLAG in flags:
            forecast = estimate(pipeline)
            write_json(recipe.folder / FORECAST, asdict(forecast))
            print_forecast(forecast)
            return
        if AUDIT in flags:
            audit = audit_teacher(pipeline)
            write_json(recipe.folder / "audit.json", asdict(audit))
            print_audit(audit)
            return
        # Asking for an artefact makes it, or reuses it where nothing it depends on has changed.
        corpus = pipeline.corpus
        if is_main_process():  # what is refused so far leaves nothing behind
            save_recipe(recipe, recipe.folder / "recipe.yaml")
        stages = (
            corpus,
            pipeline.queries,
            pipeline.embeddings,
            pipeline.negatives,
            pipeline.scores,
            pipeline.triplets,
            pipeline.targets,
            pipeline.model,
            pipeline.evaluation,
        )
        if is_main_process():
            report = run_report(pipeline)
            write_report(report, recipe.folder)
            card = write_card(pipeline, report, sys.argv)
            print_report(report)
            console.print(f"  model: {stages[-2].path}  its card: {card}")
            console.print(f"  report: {recipe.folder / 'report.md'}")
            if recipe.training.get("push_to_hub"):
                # Epochs were pushed as they ended; this is what was chosen, with its card.
                private = recipe.training.get("hub_private_repo")
                console.print(f"  pushed {push_model(recipe, private=private)}")
            if pipeline.tracked:
                pipeline.tracked.finish(report)


if __name__ == "__main__":
    cli.run(
        main,
        "train.py",
        "Adapt a retriever to the recipe's corpus, and report by how much it got better.",
        {
            FORECAST_FLAG: "tell in a minute or two what every stage will take, and stop",
            AUDIT: "tell in minutes whether the teacher is worth learning from, and stop",
            RESTART: "discard checkpoints of other settings instead of refusing them",
        },
    )
