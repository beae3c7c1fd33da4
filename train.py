"""Adapt a retriever to a corpus that nobody labelled.

    python train.py recipes/quickstart.yaml
    accelerate launch --config_file accelerate_config.yaml train.py recipes/beir.yaml

Corpus -> synthetic queries -> hard negatives -> teacher scores -> triplets -> Trainer -> report.
Every stage writes an artefact under `runs/<name>/`; a run that was killed goes on where it was.
"""

from __future__ import annotations

from tercet import cli
from tercet.artifacts import is_main_process, locked
from tercet.console import console
from tercet.pipeline import Pipeline
from tercet.recipe import Recipe
from tercet.retrieval import print_report, write_report

RESTART = "--restart"


def main(recipe: Recipe, flags: set[str]) -> None:
    """Run the stages that are missing or stale, in order, and report."""
    pipeline = Pipeline(recipe, restart=RESTART in flags)
    pipeline.check()
    with locked(recipe.folder):
        # Asking for an artefact makes it, or reuses it where nothing it depends on has changed.
        stages = (
            pipeline.corpus,
            pipeline.queries,
            pipeline.embeddings,
            pipeline.negatives,
            pipeline.scores,
            pipeline.triplets,
            pipeline.model,
            pipeline.evaluation,
        )
        if is_main_process():
            report = pipeline.report()
            write_report(report, recipe.folder)
            print_report(report)
            console.print(f"  model: {stages[-2].path}  report: {recipe.folder / 'report.md'}")


if __name__ == "__main__":
    cli.run(
        main,
        "train.py",
        "Adapt a retriever to the recipe's corpus, and report by how much it got better.",
        {RESTART: "discard checkpoints of other settings instead of refusing them"},
    )
