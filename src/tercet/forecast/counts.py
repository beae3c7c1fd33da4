"""How many queries, pairs and steps a run will have, told from a run in small."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet import modeling
from tercet.config.recipe import Recipe
from tercet.data.near_duplicates import NearDuplicates, normalised
from tercet.data.queries import plan as passages_to_sample
from tercet.forecast.probe import SmallRun


@dataclass(frozen=True)
class Counts:
    """How many of each thing a run is expected to have."""

    passages: int
    sampled: int  # passages that queries are written about
    written: int
    queries: int  # kept
    candidates: int  # of a query
    pairs: int
    train: int
    held_out: int  # to choose by
    tested: int
    steps: int
    batches: float
    #: In training; the one before it is not counted.
    evaluations: int
    #: Measures, of two systems, of every test query.
    figures: int

    @property
    def rows(self) -> dict[str, int]:
        """What `tercet.forecast.forecast.ROWS` names, of each stage."""
        return {
            "corpus": self.passages,
            "queries": self.queries,
            "embeddings": self.passages,
            "negatives": self.queries * self.candidates,
            "scores": self.pairs,
            "triplets": self.train,
            "targets": self.queries,
            "model": self.steps,
            "evaluation": self.figures,
        }

    @property
    def listed(self) -> int:
        """Passages of all lists, the queries' own among them."""
        return self.queries * (self.candidates + 1)


def count(recipe: Recipe, small: SmallRun) -> Counts:
    """Queries kept, different pairs of them, queries to train on."""
    section, passages = recipe.queries, small.reading.passages
    per_passage, sampled = passages_to_sample(passages, section.count, section.per_passage)
    texts = [query for each in small.written for query, _ in each.queries]
    asked = sum(each.asked for each in small.written)
    written = min(section.count, round(len(texts) / asked * sampled))
    kept = _kept(small)
    queries = max(1, round(written * len(kept) / len(texts)))
    distinct = max(1, round(queries * float(np.mean(1 / (1 + shared(kept, queries))))))
    candidates = min(recipe.negatives.candidates, passages - 1)
    train = max(1, round(queries * _trained_on(recipe, small, kept, queries)))
    batches, steps, evaluations = _steps(recipe, train)
    tested = small.reading.tested or round(queries * recipe.triplets.held_out / 2)
    return Counts(
        passages=passages,
        sampled=sampled,
        written=written,
        queries=queries,
        candidates=candidates,
        # Queries of one text have one list, but for their own passages.
        pairs=distinct * candidates + queries,
        train=train,
        held_out=round(queries * recipe.triplets.held_out),
        tested=tested,
        steps=steps,
        batches=batches,
        evaluations=evaluations,
        figures=2 * len(recipe.measures) * tested,
    )


def _kept(small: SmallRun) -> list[str]:
    """The sampled queries that the stage would not drop."""
    near = NearDuplicates(query.text for query in small.reading.judged)
    seen = set[tuple[str, str]]()
    kept = []
    for each in small.written:
        for query, passage in each.queries:
            text = normalised(query)
            if text and (passage.id, text) not in seen and text not in near:
                kept.append(query)
            seen.add((passage.id, text))
    return kept or [query for query, _ in small.lists.queries]


def _trained_on(recipe: Recipe, small: SmallRun, kept: list[str], queries: int) -> float:
    """The part of the queries that is neither held out, nor says what one that is says."""
    section = recipe.triplets
    held = section.held_out * (1.0 if small.reading.tested else 1.5)
    others = shared([normalised(text) for text in kept], queries)
    part = (1 - held) * float(np.mean((1 - held) ** others))
    return part * (1 - (section.filter_percentile or 0) / 100)


def _steps(recipe: Recipe, train: int) -> tuple[float, int, int]:
    """Batches and steps of all epochs, and evaluations, the one before training not counted."""
    args = modeling.training_arguments(recipe)
    batches = math.ceil(train / args.per_device_train_batch_size)
    each = math.ceil(batches / args.gradient_accumulation_steps)
    epochs = args.num_train_epochs
    steps = math.ceil(each * epochs)
    if args.max_steps > 0:
        steps, epochs = args.max_steps, args.max_steps / each
    if args.eval_strategy == "epoch":
        return batches * epochs, steps, math.ceil(epochs)
    every = args.eval_steps if args.eval_steps >= 1 else math.ceil(args.eval_steps * steps)
    return batches * epochs, steps, math.ceil(steps / every)


def shared(texts: Sequence[str], total: int) -> np.ndarray:
    """For each sampled text, how many of `total` like them are expected to equal it, beside it."""
    counts = Counter(texts)
    scale = (total - 1) / max(1, len(texts) - 1)
    return np.array([(counts[text] - 1) * scale for text in texts])
