"""Estimates how many queries, pairs and steps a run will have, from a probe of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet import modeling
from tercet.config.recipe import Recipe
from tercet.data.near_duplicates import NearDuplicates, normalised
from tercet.data.queries import plan as passages_to_sample, usual_count
from tercet.forecast.probe import Probe


@dataclass(frozen=True)
class Counts:
    """Expected numbers of rows, batches and steps of a run."""

    passages: int
    sampled: int  # passages that queries are written about
    written: int
    queries: int  # kept
    candidates: int  # per query
    pairs: int
    train: int
    held_out: int  # validation and guard queries
    tested: int
    steps: int
    batches: float
    #: During training, without the one before it.
    evaluations: int
    #: Metric values: BM25, and two models alone and with it; every metric, every test query.
    metric_values: int
    #: How many score each pair.
    scorers: int

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each stage: see `tercet.forecast.forecast.ROWS`."""
        return {
            "corpus": self.passages,
            "queries": self.queries,
            "embeddings": self.passages,
            "negatives": self.queries * self.candidates,
            "scores": self.pairs * self.scorers,
            "triplets": self.train,
            "targets": self.queries,
            "model": self.steps,
            "evaluation": self.metric_values,
        }

    @property
    def listed(self) -> int:
        """Passages of all lists, including each query's source passage."""
        return self.queries * (self.candidates + 1)


def count(recipe: Recipe, probe: Probe) -> Counts:
    """Scale the probe's counts to the whole run."""
    section, passages = recipe.queries, probe.reading.passages
    asked = section.count or usual_count(passages)
    per_passage, sampled = passages_to_sample(passages, asked, section.per_passage)
    texts = [query for each in probe.written for query, _ in each.queries]
    tried = sum(each.passages for each in probe.written)
    written = min(asked, round(len(texts) / tried * sampled))
    kept = _kept(probe)
    queries = max(1, round(written * len(kept) / len(texts)))
    distinct = max(1, round(queries * float(np.mean(1 / (1 + expected_duplicates(kept, queries))))))
    candidates = min(recipe.negatives.candidates, passages - 1)
    train = max(1, round(queries * _trained_on(recipe, probe, kept, queries)))
    batches, steps, evaluations = _steps(recipe, train)
    tested = probe.reading.tested or round(queries * recipe.triplets.held_out / 2)
    return Counts(
        passages=passages,
        sampled=sampled,
        written=written,
        queries=queries,
        candidates=candidates,
        # Queries with the same text share one list, except for their source passages.
        pairs=distinct * candidates + queries,
        train=train,
        held_out=round(queries * recipe.triplets.held_out),
        tested=tested,
        steps=steps,
        batches=batches,
        evaluations=evaluations,
        # BM25, and both models: alone, and with BM25 by ranks and by scores.
        metric_values=7 * len(recipe.metrics) * tested,
        scorers=len(recipe.teacher.names),
    )


def _kept(probe: Probe) -> list[str]:
    """The sampled queries that the queries stage would keep."""
    near = NearDuplicates(query.text for query in probe.reading.judged)
    seen = set[tuple[str, str]]()
    kept = []
    for each in probe.written:
        for query, passage in each.queries:
            text = normalised(query)
            if text and (passage.id, text) not in seen and text not in near:
                kept.append(query)
            seen.add((passage.id, text))
    return kept or [query for query, _ in probe.lists.queries]


def _trained_on(recipe: Recipe, probe: Probe, kept: list[str], queries: int) -> float:
    """The share of queries that are neither held out nor equal in text to a held-out query."""
    section = recipe.triplets
    held = section.held_out * (1.0 if probe.reading.tested else 1.5)
    others = expected_duplicates([normalised(text) for text in kept], queries)
    part = (1 - held) * float(np.mean((1 - held) ** others))
    return part * (1 - (section.filter_percentile or 0) / 100)


def _steps(recipe: Recipe, train: int) -> tuple[float, int, int]:
    """Batches, optimizer steps and evaluations of all epochs, without the one before training."""
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


def expected_duplicates(texts: Sequence[str], total: int) -> np.ndarray:
    """For each sampled text, the expected number of others among `total` texts that equal it."""
    counts = Counter(texts)
    scale = (total - 1) / max(1, len(texts) - 1)
    return np.array([(counts[text] - 1) * scale for text in texts])
