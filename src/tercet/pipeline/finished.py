"""A finished run: its pipeline with every stage made, and the collection that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet import retrieval
from tercet.config.index import IndexSettings
from tercet.config.recipe import Recipe
from tercet.core.artifacts import NotMade, existing, only_existing
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.live import LiveCollection


def finished(recipe: Recipe, *, served: bool = True) -> Pipeline:
    """Return the pipeline of a finished run; if `served`, a server must hold its passages.

    Raises InputError for a run that is unfinished, or finished with other inputs or settings.
    """
    pipeline = Pipeline(recipe)
    try:
        with only_existing():
            if served:
                _ = pipeline.evaluation
            elif pipeline.stage("evaluation").finished()[0] is None:
                raise NotMade("evaluation")
    except NotMade as stage:
        raise InputError(
            f"run {recipe.name} is not finished: its stage {stage} is missing, or of other inputs "
            "or settings than now: run `tercet adapt` with this recipe first"
        ) from None
    return pipeline


def standing(recipe: Recipe) -> Pipeline:
    """The pipeline of a finished run as it stands, whatever has changed outside it since.

    Raises InputError if a stage is missing, or the model is damaged or not the one that was
    evaluated.
    """
    pipeline = Pipeline(recipe)
    for name in pipeline.steps:
        made = existing(recipe.folder / name)
        if made is None:
            raise InputError(
                f"run {recipe.name} is not finished: {recipe.folder / name} is missing: run "
                "train.py with its recipe first"
            )
        pipeline.take(name, made)
    if pipeline.evaluation.manifest["plan"]["inputs"]["model"] != pipeline.model.digest:
        raise InputError(
            f"run {recipe.name} is not finished: {pipeline.model.path} is another model than the "
            "one that was evaluated: run train.py with its recipe first"
        )
    pipeline.model.verify()
    return pipeline


def served(pipeline: Pipeline) -> tuple[IndexSettings, LiveCollection]:
    """The Weaviate collection that serves a run: its live index, or the one behind its alias."""
    section: IndexSettings = pipeline.components.live(pipeline.recipe.index)
    if not section.collection:
        section = IndexSettings(backend="weaviate", collection=pipeline.recipe.alias)
    return section, retrieval.open_live(section)
