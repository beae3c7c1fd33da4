"""What the clock times: the test queries, filled up with synthetic ones where they are too few."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np

from tercet import data
from tercet.core.artifacts import existing
from tercet.core.mapped import by_id
from tercet.pipeline.pipeline import Pipeline


def latency_queries(pipeline: Pipeline, own: Sequence[str], count: int) -> tuple[list[str], str]:
    """`count` texts in a seeded order, and in words what they are.

    `own` are the test queries' texts, in an order of their own.
    """
    seed = pipeline.recipe.seed
    random = np.random.default_rng(seed)
    if len(own) >= count:
        chosen = random.permutation(len(own))[:count]
        return [own[i] for i in chosen], f"a sample of the {len(own):,} test queries"
    fill, kind = _synthetic(pipeline, count - len(own))
    texts = [*own, *fill]
    what = f"{len(own):,} test queries and {len(fill):,} {kind}, used for this alone"
    return [texts[i] for i in random.permutation(len(texts))], what


def _synthetic(pipeline: Pipeline, count: int) -> tuple[list[str], str]:
    """The run's own synthetic queries where it has enough, else salient spans of passages."""
    made, seed = existing(pipeline.recipe.folder / "queries"), pipeline.recipe.seed
    texts = sorted(set(made.dataset("queries")["query"][:])) if made else []
    kind = "synthetic queries of the run"
    if len(texts) < count:
        kind = "synthetic ones (spans of one to three words of passages)"
        passages, order = pipeline.passages, by_id(pipeline.passages.ids)
        spans = data.SpanGenerator(passages.contents)
        sample = order[np.random.default_rng(seed).permutation(len(passages))[: 2 * count]]
        each = -(-2 * count // len(sample))
        drawn = spans.generate([passages[i] for i in sample.tolist()], each, seed)
        texts = sorted({text for found in drawn for text in found} | set(texts))
    if not texts:
        return [], kind
    order = np.random.default_rng(seed + 1).permutation(len(texts))
    # Again from the first where a small corpus has too few.
    return list(islice(cycle([texts[i] for i in order]), count)), kind
