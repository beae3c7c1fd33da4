"""The story of train.py: from a corpus without labels to an adapted model and its report."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from tercet.commands.plan import fitted, plan
from tercet.config.loading import refuse_earlier_run, save_recipe
from tercet.config.recipe import Recipe
from tercet.core.console import console
from tercet.core.files import write_json
from tercet.core.processes import is_main_process, locked
from tercet.evaluation.teacher_audit import audit_teacher
from tercet.forecast.forecast import FORECAST, settings_of
from tercet.forecast.stage_estimates import estimate
from tercet.pipeline.choices import QUERIES
from tercet.pipeline.pipeline import Pipeline, StepReached
from tercet.reports.audit_table import print_audit
from tercet.reports.forecast_table import print_forecast
from tercet.reports.report import print_report, write_report
from tercet.reports.run_report import run_report
from tercet.sharing.hub import push_model
from tercet.sharing.model_card import write_card


def train(recipe: Recipe, flags: Mapping[str, str]) -> None:
    """Run train.py: adapt the model, or only estimate the run or audit its teacher."""
    if "--forecast" in flags:
        forecast(recipe)
    elif "--audit" in flags:
        audit(recipe)
    else:
        adapt(
            recipe,
            restart="--restart" in flags,
            until=flags.get("--until"),
            yes="--yes" in flags,
        )


def adapt(
    recipe: Recipe, *, restart: bool = False, until: str | None = None, yes: bool = False
) -> None:
    """Adapt the recipe's model to its corpus, step by step, and report whether it got better.

    A step whose inputs and settings have not changed is reused, and a killed run goes on where it
    was. `until` names the last step to make; `restart` discards checkpoints of other settings;
    `yes` starts a run of hours without asking.
    """
    pipeline = Pipeline(recipe, restart=restart, until=until)
    refuse_earlier_run(recipe.folder)
    pipeline.check()
    with locked(recipe.folder), suppress(StepReached):
        if not plan(pipeline, yes=yes):
            return
        # Data: passages with their vectors, synthetic queries, and what the teacher makes of them.
        corpus = pipeline.make("corpus")
        if is_main_process():  # a source that is refused leaves nothing behind
            save_recipe(recipe, recipe.folder / "recipe.yaml")
        embeddings = pipeline.make("embeddings", corpus)
        student = pipeline.make("student", corpus, embeddings)
        queries = pipeline.make("queries", corpus)
        negatives = pipeline.make("negatives", corpus, embeddings, student, queries)
        scores = pipeline.make("scores", corpus, negatives)
        triplets = pipeline.make("triplets", corpus, embeddings, student, scores)
        targets = pipeline.make("targets", corpus, embeddings, student, triplets)

        # Model: every epoch is evaluated on an index; held-out synthetic queries choose what ships.
        tracker = _tracker(pipeline)
        model = pipeline.make("model", corpus, embeddings, student, triplets, targets)
        pipeline.make("evaluation", corpus, embeddings, student, triplets, model)

        # Report: the base model and the adapted one on the test queries, the model card, the Hub.
        if is_main_process():
            report = run_report(pipeline)
            write_report(report, recipe.folder)
            card = write_card(pipeline, report, sys.argv)
            print_report(report)
            console.print(f"  model: {model.path}  its card: {card}")
            console.print(f"  report: {recipe.folder / 'report.md'}")
            if recipe.training.get("push_to_hub"):
                # Epochs were pushed as they ended; this is what was chosen, with its card.
                private = recipe.training.get("hub_private_repo")
                console.print(f"  pushed {push_model(recipe, private=private)}")
            if tracker:
                tracker.finish(report)


def forecast(recipe: Recipe) -> None:
    """Estimate what every step will take, from a small run on a sample; nothing else is made."""
    pipeline = Pipeline(recipe)
    pipeline.check()
    with locked(recipe.folder):
        to_fit = recipe.time_budget and not pipeline.run.chose(QUERIES)
        found = fitted(pipeline) if to_fit else estimate(pipeline)
        pipeline.run.settle()  # the run will be what was forecast
        found = replace(found, settings=settings_of(pipeline.recipe))
        write_json(recipe.folder / FORECAST, asdict(found))
        print_forecast(found)


def audit(recipe: Recipe) -> None:
    """Tell from a few queries whether the teacher is worth learning from."""
    pipeline = Pipeline(recipe)
    pipeline.check()
    with locked(recipe.folder):
        found = audit_teacher(pipeline)
        write_json(recipe.folder / "audit.json", asdict(found))
        print_audit(found)


def _tracker(pipeline: Pipeline) -> Any:
    """The run on W&B that gets the training curves, where the recipe asks for one; else None."""
    if "wandb" not in pipeline.recipe.tracking.report_to or not is_main_process():
        return None
    # It is an extra.
    from tercet.sharing.wandb import TrainingRun

    tracker = TrainingRun(pipeline)
    pipeline.run.log = tracker.log
    return tracker
