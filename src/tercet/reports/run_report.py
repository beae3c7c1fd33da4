"""Collects a training run's artifacts into a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from tercet import retrieval
from tercet.config.parsing import flatten
from tercet.config.recipe import Recipe
from tercet.core.files import read_json
from tercet.core.processes import command_line
from tercet.core.resources import read_times
from tercet.core.text import difference_text
from tercet.data import warnings_of
from tercet.evaluation.verdict import run_verdict
from tercet.forecast.forecast import compare_forecast, scored_by
from tercet.modeling.training.model_selection import Step, read_choices
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.steps.evaluation import ADAPTED, BASE, BM25, HYBRID, WEIGHTED
from tercet.reports.report import Comparison, Hybrid, Report, compare

STAGES = (
    *("corpus", "embeddings", "student", "queries", "negatives", "scores", "triplets"),
    *("targets", "model"),
)
#: Facts that are said elsewhere in the report.
_NO_COUNTS = ("tested_on", "shipped", "reason", "verdict")


def run_report(pipeline: Pipeline) -> Report:
    """The report of a run. Stages that are missing are run first."""
    recipe, figures = pipeline.recipe, retrieval.read_figures(pipeline.evaluation)
    draws = {"resamples": recipe.evaluation.resamples, "seed": recipe.seed}
    steps = read_choices(
        pipeline.model,
        recipe.training["metric_for_best_model"],
        recipe.evaluation.primary_metric,
        pipeline.tested_on,
        **draws,
    )
    times, verdict = read_times(recipe.folder), run_verdict(recipe.folder)
    times["scores"] = sum(times.get(step, 0) for step in ("scores", *scored_by(recipe)))
    both = "unchanged" if verdict.shipped == "base" else "zero-shot and adapted"
    return Report(
        title=f"{recipe.name}: {_trained_part(recipe)}, {both}",
        verdict=verdict,
        comparisons=compare(figures[BASE], figures[ADAPTED], **draws),
        hybrid=_hybrid(figures, recipe.evaluation.primary_metric, **draws),
        notes=_notes(pipeline, steps),
        steps=steps,
        history=read_json(pipeline.model.file("history.json")),
        seconds={n: times[n] for n in (*STAGES, "evaluation") if times.get(n)},
        settings=flatten(asdict(recipe)),
        facts={
            name: {k: v for k, v in made.facts.items() if k not in _NO_COUNTS}
            for name in STAGES
            if (made := pipeline.artifact(name)).facts
        },
        command=" ".join(command_line()),
        forecast=compare_forecast(recipe),
    )


def _hybrid(
    figures: Mapping[str, Mapping[str, Mapping[str, float]]], primary: str, **draws: int
) -> Hybrid:
    """The primary metric of the searches with BM25."""

    def compared(system: str) -> Comparison:
        both = (figures[system.format(name)] for name in (BASE, ADAPTED))
        before, after = ({primary: values[primary]} for values in both)
        (comparison,) = compare(before, after, **draws)
        return comparison

    alone = float(np.mean([*figures[BM25][primary].values()]))
    return Hybrid(alone, compared(HYBRID), compared(WEIGHTED))


def _shares(pipeline: Pipeline) -> str:
    """The model's shares in the weighted sums; one where the base model ships."""
    shares = {name: x["share"] for name, x in pipeline.evaluation.facts["hybrid"].items()}
    if pipeline.model.facts["base_kept"]:
        return f"{shares[BASE]:g}"
    return ", ".join(f"{name} {share:g}" for name, share in shares.items())


def _trained_part(recipe: Recipe) -> str:
    if not recipe.model.frozen:
        return recipe.model.name
    part = "query adapter" if recipe.model.adapter else "query encoder"
    return f"{part} {recipe.model.name}"


def _notes(pipeline: Pipeline, steps: Sequence[Step]) -> list[str]:
    recipe, facts, queries = pipeline.recipe, pipeline.model.facts, pipeline.evaluation.facts
    metric = recipe.training["metric_for_best_model"]
    sample, passages = len(pipeline.evaluated_rows), len(pipeline.passages)
    notes = [
        f"evaluated on {queries['test']}, over the {recipe.index.backend} index",
        f"{metric} on {queries['validation']} chose the epoch and the weight of the trained "
        f"parameters in the interpolation with the base model: {facts['best_weight']:g}",
        _guard(metric, queries["guard"], facts["best_weight"], steps),
        "with BM25, by ranks: reciprocal rank fusion; by scores: a weighted sum, the model's share "
        f"chosen by held-out queries: {_shares(pipeline)}",
        *_teacher_reads(pipeline),
        _weights(pipeline),
    ]
    notes += pipeline.judged_notes()
    if "gate" in queries:
        notes.append(
            f"{recipe.evaluation.primary_metric} on {queries['gate']} gated: no weight ships whose "
            "mean on them is below the base model's"
        )
    if assumed := pipeline.student.facts.get("assumed"):
        notes.append(f"the base model's files do not say it all; assumed: {assumed}")
    if cut := pipeline.embeddings.facts.get("truncated"):
        notes.append(
            f"{cut:,} of {passages:,} passages are longer than model.max_length: they are "
            "truncated, and the rest of their text cannot be searched"
        )
    if space := pipeline.vector_space:
        notes.append(
            f"the passage vectors are frozen: {space.place}, {space.passages:,} vectors, "
            f"{space.similarity} similarity"
        )
    if sample < passages:
        notes.append(f"evaluations during training searched {sample:,} of {passages:,} passages")
    read = pipeline.triplets.facts | pipeline.targets.facts
    return notes + [f"warning: {text}" for text in warnings_of(read, recipe.negatives.candidates)]


def _guard(metric: str, queries: str, weight: float, steps: Sequence[Step]) -> str:
    for step in steps:
        if step.weight == weight:
            gain = difference_text(step.guard.difference, step.guard.low, step.guard.high)
            return f"guard: {metric} changed by {gain} on {queries}, which chose nothing else"
    return f"guard: not evaluated on its {queries}, because nothing gained on the validation ones"


def _teacher_reads(pipeline: Pipeline) -> list[str]:
    """How the teacher is shown pairs, where it is not a plain cross-encoder."""
    reads = pipeline.scores.facts.get("teacher_reads")
    return [f"the teacher reads {reads}"] if reads else []


def _weights(pipeline: Pipeline) -> str:
    facts, teacher, how = pipeline.targets.facts, pipeline.recipe.teacher, "set in the recipe"
    several = facts.get("scorers", [])
    if teacher.student_weight is None or (several and teacher.weights is None):
        how = "too few held-out queries to choose it"
        how = f"chosen with a query adapter, of {len(facts['tried'])}" if "tried" in facts else how
    rest = ", ".join(f"{each['weight']:.0%} {each['scorer']}" for each in several)
    return (
        f"targets: the base model's own scores have weight {facts['student_weight']:g}, the "
        f"teacher's the rest{f', of it {rest}' if rest else ''} ({how})"
    )
