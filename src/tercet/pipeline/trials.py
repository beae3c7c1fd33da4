"""Every model does a little of its work before any work: a batch of two unlike items.

What is raised is told as one line that begins with the recipe's key.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from tercet.config.teacher import ScorerSettings
from tercet.core.borders import border
from tercet.core.console import console
from tercet.core.plugins import is_plugin
from tercet.core.processes import is_main_process
from tercet.core.resources import trim_memory
from tercet.core.schema import Passage
from tercet.data import Passages
from tercet.pipeline.components import Components

#: A short and a longer passage.
_UNLIKE = (
    Passage("a", "", "Bees."),
    Passage("b", "A harbour in winter", "Ships wait outside until the ice is broken. " * 4),
)
#: Generators that run here and cost nothing; others may ask a service that is paid.
_OWN = ("seq2seq", "causal")


def try_writers(components: Components) -> None:
    """Write a query about each of two passages with every local model. Raises InputError."""
    fresh, passages = components.settled(components.recipe), Passages.of(_UNLIKE)
    for number, settings in enumerate(fresh.recipe.queries.generators):
        if settings.kind in _OWN:
            with border(f"queries.generators.{number}: two items fail", known=False):
                fresh.generator(settings, passages).generate(_UNLIKE, 1, fresh.recipe.seed)
    trim_memory()


def try_retrievers(components: Components) -> None:
    """Encode two passages with every retriever's own model. Raises InputError."""
    for number, settings in enumerate(components.recipe.negatives.retrievers):
        if settings.model:
            with border(f"negatives.retrievers.{number}: two items fail", known=False):
                encoder = components.other_encoder(settings)
                encoder.encode_passages([passage.contents for passage in _UNLIKE])
    trim_memory()


def try_scorers(components: Components) -> None:
    """Load each scorer, which scores two pairs then, and say how it reads them.

    A service is not asked. Raises InputError.
    """
    recipe, passages = components.recipe, Passages.of(_UNLIKE)
    pairs = [("a query", passage.contents) for passage in _UNLIKE]
    for path, settings in recipe.teacher.each.items():
        if settings.kind == "api":
            continue
        with border(f"{path}: two items fail", known=False):
            scorer = components.scorer(settings, passages, partial(_vectors, components, settings))
            # A cross-encoder has scored two when it was loaded.
            if settings.kind != "cross_encoder" or is_plugin("teachers", settings.name):
                scorer.score(pairs)
        reading = getattr(scorer, "reading", "")
        if reading and is_main_process():
            console.print(f"teacher {scorer.name} reads {reading}", style="dim")
        del scorer
        trim_memory()


def _vectors(components: Components, settings: ScorerSettings) -> np.ndarray:
    """Vectors of the two passages by a scorer's encoder."""
    encoder = components.scorer_encoder(settings)
    return encoder.encode_passages([passage.contents for passage in _UNLIKE])
