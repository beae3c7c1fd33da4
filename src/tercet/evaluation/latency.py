"""Times the systems of an experiment on its test queries, topped up with synthetic ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import numpy as np
from rich.text import Text

from tercet import data, retrieval
from tercet.core.artifacts import existing
from tercet.core.console import console, progress
from tercet.core.mapped import by_id
from tercet.core.resources import gigaflops
from tercet.core.schema import Retriever
from tercet.evaluation.experiment import Experiment
from tercet.evaluation.results import EXACT
from tercet.pipeline.pipeline import Pipeline

#: System and index.
_Cell = tuple[str, str]

_PILOT = 5  # queries per system and index that the forecast is made from


def time_systems(experiment: Experiment) -> None:
    """Answer the queries singly and in batches, systems and indexes taking turns.

    A hybrid or reranked system is timed over the exact index only: the time it adds to its parts
    does not depend on the index. Timings go to `experiment.cells`, what qualifies them to its
    notes.
    """
    section = experiment.recipe.evaluation
    if not section.latency_queries:
        return
    retrievers = {
        (label, index): cell.retriever
        for (label, index), cell in experiment.cells.items()
        if cell.retriever and (index == EXACT or not experiment.systems[label].parts)
    }
    own = [query.text for query in experiment.queries]
    texts, composition = _queries(experiment.pipeline, own, section.latency_queries)
    given = {cell: _encodable(experiment, cell[0], texts) for cell in retrievers}
    _print_forecast(experiment, retrievers, given)
    experiment.machine["gigaflops_before"] = round(gigaflops(), 1)
    # A batch is faster per query, and a system too slow for the budget has been timed singly.
    for what, batch, seconds, attribute in (
        ("single queries", 1, section.latency_budget_seconds, "single"),
        ("batches", section.latency_batch_size, section.latency_budget_seconds / 4, "batched"),
    ):
        with progress(f"timing {what}", len(texts) * len(retrievers), "queries") as advance:
            timings = retrieval.time_searches(
                retrievers, given, batch=batch, seconds=seconds, advance=advance
            )
        for cell, timing in timings.items():
            setattr(experiment.cells[cell], attribute, timing)
    experiment.machine["gigaflops_after"] = round(gigaflops(), 1)
    experiment.notes.append(
        f"timed on {len(texts):,} queries, {composition}; the ten best passages of each, after a "
        "warm-up, systems and indexes in turns; an encoder encodes each query once, and that time "
        "counts for each of its indexes"
    )
    _note_over_budget(experiment, len(texts))


def _print_forecast(
    experiment: Experiment,
    retrievers: Mapping[_Cell, Retriever],
    texts: Mapping[_Cell, Sequence[str]],
) -> None:
    """Print how long the timing will take, from a few queries of each system and index."""
    section = experiment.recipe.evaluation
    longest, count = section.latency_budget_seconds, section.latency_queries
    few = {cell: texts[cell][:_PILOT] for cell in retrievers}
    pilot = retrieval.time_searches(retrievers, few, batch=1, seconds=longest)
    singly, encoded = 0.0, set()
    for (label, _), timing in pilot.items():
        per_query = 1 / timing.total.per_second
        if label in encoded:  # its queries are encoded once for all indexes
            per_query -= 1 / timing.phases["encode"].per_second
        encoded |= {label} if "encode" in timing.phases else set()
        singly += min(longest, count * per_query)
    console.print(
        Text("time ", "yellow"),
        f"{len(retrievers)} systems over indexes, {count:,} queries each: about "
        f"{max(1, round(1.3 * singly / 60))} min",
    )


def _note_over_budget(experiment: Experiment, wanted: int) -> None:
    short = [
        f"{label} over {index} on {cell.single.queries:,}"
        for (label, index), cell in experiment.cells.items()
        if cell.single and cell.single.queries < wanted
    ]
    if short:
        seconds = experiment.recipe.evaluation.latency_budget_seconds
        experiment.notes.append(
            f"slower than {seconds:g} s for all, so timed singly on fewer: {', '.join(short)}"
        )


def _encodable(experiment: Experiment, label: str, texts: Sequence[str]) -> Sequence[str]:
    """The texts; if a system has vectors of the test queries only, those queries repeated."""
    encoders = [each.encoder for each in experiment.systems[label].encoded]
    known = [e.texts for e in encoders if isinstance(e, retrieval.KnownQueries)]
    if not known:
        return texts
    own = [text for text in texts if all(text in some for some in known)]
    note = f"{label}: its vectors were made before, so its time holds no encoding of queries"
    if note not in experiment.notes:
        experiment.notes.append(note)
    return list(islice(cycle(own), len(texts)))


def _queries(pipeline: Pipeline, own: Sequence[str], count: int) -> tuple[list[str], str]:
    """`count` texts in a seeded order, and their composition in words.

    `own` are the test queries' texts in a reproducible order.
    """
    seed = pipeline.recipe.seed
    random = np.random.default_rng(seed)
    if len(own) >= count:
        chosen = random.permutation(len(own))[:count]
        return [own[i] for i in chosen], f"a sample of the {len(own):,} test queries"
    fill, kind = _synthetic(pipeline, count - len(own))
    texts = [*own, *fill]
    composition = f"{len(own):,} test queries and {len(fill):,} {kind}, used for this alone"
    return [texts[i] for i in random.permutation(len(texts))], composition


def _synthetic(pipeline: Pipeline, count: int) -> tuple[list[str], str]:
    """The run's synthetic queries if it has enough, else salient spans of passages as well."""
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
    # Repeated if a small corpus has too few.
    return list(islice(cycle([texts[i] for i in order]), count)), kind
