"""The story of `tercet adapt`: from a corpus without labels to an adapted model and its report."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from tercet.commands.recipe_command import RecipeCommand

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe
    from tercet.pipeline.pipeline import Pipeline


@click.command(cls=RecipeCommand)
@click.option("--restart", is_flag=True, help="Discard checkpoints of other settings.")
@click.option(
    "--until",
    metavar="STEP",
    help="The last step to make: corpus, embeddings, student, queries, negatives, scores, "
    "triplets, targets, model or evaluation.",
)
@click.option("--yes", is_flag=True, help="In a terminal: start without asking.")
@click.option("--forecast", "forecasts", is_flag=True, hidden=True)
@click.option("--audit", "audits", is_flag=True, hidden=True)
def command(
    recipe: Recipe,
    *,
    restart: bool,
    until: str | None,
    yes: bool,
    forecasts: bool,
    audits: bool,
) -> None:
    """Adapt a retriever to the recipe's corpus, and report by how much it got better.

    A step whose inputs and settings are unchanged is reused; a killed run goes on where it was.
    """
    # `--forecast` and `--audit` are `tercet forecast` and `tercet audit`.
    if forecasts:
        from tercet.commands.forecast import forecast

        forecast(recipe)
    elif audits:
        from tercet.commands.audit import audit

        audit(recipe)
    else:
        adapt(recipe, restart=restart, until=until, yes=yes)


def adapt(
    recipe: Recipe, *, restart: bool = False, until: str | None = None, yes: bool = False
) -> None:
    """Adapt the recipe's model to its corpus, step by step, and report whether it got better.

    A step whose inputs and settings have not changed is reused, and a killed run goes on where it
    was. `until` names the last step to make; `restart` discards checkpoints of other settings;
    `yes` starts a run of hours without asking.
    """
    # torch and transformers take seconds to import, which --help should not.
    from tercet.commands.plan import plan
    from tercet.config.loading import refuse_earlier_run, save_recipe
    from tercet.core.console import console
    from tercet.core.processes import command_line, is_main_process, locked
    from tercet.pipeline.pipeline import Pipeline, StepReached
    from tercet.reports.report import print_report, write_report
    from tercet.reports.run_report import run_report
    from tercet.sharing.hub import claim, push_model
    from tercet.sharing.model_card import write_card

    pipeline = Pipeline(recipe, restart=restart, until=until)
    recipe = pipeline.recipe
    refuse_earlier_run(recipe.folder)
    pipeline.check()
    with locked(recipe.folder), suppress(StepReached):
        if not plan(pipeline, yes=yes):
            return
        if recipe.training.get("push_to_hub") and is_main_process():
            claim(recipe)  # an account that may not write there is told now
        # Data: passages with their vectors, synthetic queries, and what the teacher makes of them.
        corpus = pipeline.make("corpus")
        if is_main_process():  # a source that is refused leaves nothing behind
            save_recipe(pipeline.run.given, recipe.folder / "recipe.yaml")
        pipeline.check_judged()
        embeddings = pipeline.make("embeddings", corpus)
        # Queries come first where they choose the student's prompt.
        student, queries = pipeline.artifact("student"), pipeline.artifact("queries")
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
            card = write_card(pipeline, report, command_line())
            print_report(report)
            console.print(f"  model: {model.path}  its card: {card}")
            console.print(f"  report: {recipe.folder / 'report.md'}")
            if recipe.training.get("push_to_hub"):
                # Epochs were pushed as they ended; this is what was chosen, with its card.
                private = recipe.training.get("hub_private_repo")
                console.print(f"  pushed {push_model(recipe, private=private)}")
            if tracker:
                tracker.finish(report)


def _tracker(pipeline: Pipeline) -> Any:
    """The run on W&B that gets the training curves, where the recipe asks for one; else None."""
    from tercet.core.processes import is_main_process

    if "wandb" not in pipeline.recipe.tracking.report_to or not is_main_process():
        return None
    # It is an extra.
    from tercet.sharing.wandb import TrainingRun

    tracker = TrainingRun(pipeline)
    pipeline.run.log = tracker.log
    return tracker
