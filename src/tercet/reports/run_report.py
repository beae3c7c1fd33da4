"""What a run of train.py came to: its figures, and what they must not be read without."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from tercet import retrieval
from tercet.config.parsing import flatten
from tercet.config.recipe import Recipe
from tercet.core.files import read_json
from tercet.core.resources import read_times
from tercet.data import warnings_of
from tercet.forecast.forecast import compare_forecast
from tercet.modeling.training.model_selection import Step, read_choices
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.report import Report, compare

STAGES = (
    *("corpus", "queries", "embeddings", "student", "negatives", "scores", "triplets"),
    *("targets", "model"),
)


def run_report(pipeline: Pipeline) -> Report:
    """The run's artefacts, compared and put in words; stages that are missing are made."""
    recipe, figures = pipeline.recipe, retrieval.read_figures(pipeline.evaluation)
    draws = {"resamples": recipe.evaluation.resamples, "seed": recipe.seed}
    steps = read_choices(
        pipeline.model,
        recipe.training["metric_for_best_model"],
        recipe.evaluation.primary_metric,
        pipeline.tested_on,
        **draws,
    )
    times = read_times(recipe.folder)
    return Report(
        title=f"{recipe.name}: {_what_learnt(recipe)}, zero-shot and adapted",
        comparisons=compare(figures["zero-shot"], figures["adapted"], **draws),
        notes=_notes(pipeline, steps),
        steps=steps,
        history=read_json(pipeline.model.path / "history.json"),
        seconds={n: times[n] for n in (*STAGES, "evaluation") if times.get(n)},
        settings=flatten(asdict(recipe)),
        facts={
            name: {k: v for k, v in made.facts.items() if k != "tested_on"}
            for name in STAGES
            if (made := pipeline.artifact(name)).facts
        },
        command=" ".join(["python", *sys.argv]),
        forecast=compare_forecast(recipe),
    )


def _what_learnt(recipe: Recipe) -> str:
    if not recipe.model.frozen:
        return recipe.model.name
    what = "query adapter" if recipe.model.adapter else "query encoder"
    return f"{what} {recipe.model.name}"


def _notes(pipeline: Pipeline, steps: Sequence[Step]) -> list[str]:
    recipe, facts, asked = pipeline.recipe, pipeline.model.facts, pipeline.evaluation.facts
    measure = recipe.training["metric_for_best_model"]
    candidates = recipe.negatives.candidates
    sample, passages = len(pipeline.evaluated_rows), len(pipeline.passages)
    notes = [
        f"measured on {asked['test']}, over the {recipe.index.backend} index",
        f"{measure} on {asked['validation']} chose the epoch and how far to go from the model as "
        f"it came: {facts['best_weight']:g} of the way",
        _guard(measure, asked["guard"], facts["best_weight"], steps),
        _teacher_weight(pipeline),
    ]
    if facts["base_kept"]:
        notes.append("the trained model did not gain on both, so the model as it came is shipped")
    if cut := pipeline.embeddings.facts.get("truncated"):
        notes.append(
            f"{cut:,} of {passages:,} passages are longer than the model reads "
            "(model.max_length): their ends cannot be found"
        )
    if space := pipeline.vector_space:
        notes.append(
            f"the passages' vectors stayed as they are: {space.place}, {space.passages:,} compared "
            f"by {space.similarity}"
        )
    if sample < passages:
        notes.append(f"every epoch searched {sample:,} of {passages:,} passages")
    return notes + warnings_of(pipeline.triplets.facts | pipeline.targets.facts, candidates)


def _guard(measure: str, queries: str, weight: float, steps: Sequence[Step]) -> str:
    for step in steps:
        if step.weight == weight:
            gain = step.guard
            return (
                f"guard: there {measure} changed by {gain.difference:+.4f} [{gain.low:+.4f}, "
                f"{gain.high:+.4f}] on {queries}, which chose nothing else"
            )
    return f"guard: its {queries} were not asked, for nothing gained on the others"


def _teacher_weight(pipeline: Pipeline) -> str:
    facts, how = pipeline.targets.facts, "given by the recipe"
    if pipeline.recipe.triplets.teacher_weight is None:
        tried = any(name.startswith("tried_") for name in facts)
        how = "tried with a query adapter" if tried else "too few held-out queries to choose it"
    return (
        f"targets: {facts['teacher_weight']:g} of the way from the model's own scores to the "
        f"teacher's, {how}"
    )
