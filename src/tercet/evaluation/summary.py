"""What came of an experiment: everything that was searched and timed, as plain data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tercet import modeling, retrieval
from tercet.config.corpus import CorpusSection
from tercet.config.index import ComparedIndex
from tercet.config.parsing import flatten
from tercet.core.artifacts import existing
from tercet.core.files import read_json
from tercet.core.schema import InputError, Run
from tercet.data.corpus import read_judged
from tercet.evaluation.analysis import changes, compare_all, margins, overlap, slices
from tercet.evaluation.experiment import Experiment
from tercet.evaluation.results import EXACT, Cell, Figure, Forgetting, IndexFacts, Margins, Results
from tercet.pipeline.pipeline import Pipeline

VERSIONS = ("tercet", "torch", "transformers", "faiss-cpu", "weaviate-client", "bm25s", "numpy")

#: What each kind of index is for, where its name does not say it.
MEANINGS = {
    "exact": "every query against every passage: misses nothing",
    "hnsw": "a graph over full vectors",
    "hnsw+pq": "a graph over product-quantized codes: what Weaviate has for IVF-PQ's need",
    "hnsw+rq": "a graph over rotated 8-bit codes",
    "hnsw+sq": "a graph over 8-bit codes",
    "hnsw+bq": "a graph over 1-bit codes",
    "flat": "all vectors, read from disk",
    "flat+bq": "1-bit codes, all of them read",
    "hfresh": "lists on disk, their centres in memory: Weaviate's nearest to an IVF",
}


def results_of(experiment: Experiment) -> Results:
    """The figures with their intervals, the tests, and what qualifies them."""
    recipe, section = experiment.recipe, experiment.recipe.evaluation
    pipeline, baseline = experiment.pipeline, experiment.baseline
    primary, runs = experiment.primary(), experiment.runs()
    exact = {label: runs[label, EXACT] for label in primary}
    texts = pipeline.passages.texts(_found(exact.values()))
    draws: dict[str, int] = {"resamples": section.resamples, "seed": recipe.seed}
    queries, qrels = experiment.queries, experiment.qrels
    labels = list(experiment.systems.settings)
    return Results(
        title=f"{recipe.name}: {_count(labels, 'system')}, {_count(experiment.indexes, 'index')}",
        command=" ".join(["python", *sys.argv]),
        finished=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        corpus=recipe.corpus.label,
        passages=len(pipeline.passages),
        queries=len(qrels),
        queries_are=experiment.queries_are,
        primary=section.primary_metric,
        measures=recipe.all_measures,
        baseline=baseline,
        systems=[experiment.systems.facts(label) for label in labels],
        indexes=[IndexFacts(index.label, _meaning(index)) for index in experiment.indexes],
        cells=_cells(experiment, draws),
        pairs=compare_all(primary, **draws),
        slices=slices(queries, qrels, primary, baseline, **draws),
        changes=[
            changes(label, baseline, primary, exact, queries, qrels, texts)
            for label in primary
            if label != baseline
        ],
        notes=_notes(experiment),
        forgetting=_forgetting(experiment),
        curve=_curve(experiment),
        margins=_margins(experiment),
        machine=_machine() | experiment.machine,
        versions=_versions(),
        settings=flatten(asdict(recipe)),
    )


def _count(things: Any, noun: str) -> str:
    plural = {"index": "indexes"}.get(noun, f"{noun}s")
    return f"{len(things)} {noun if len(things) == 1 else plural}"


def _meaning(index: ComparedIndex) -> str:
    """What an index is, and how it is searched."""
    if index.backend == "faiss":
        return retrieval.describe_faiss(index)
    if index.collection:
        return f"collection {index.collection} as it stands"
    meaning = MEANINGS[index.kind if index.backend == "weaviate" else EXACT]
    return f"{meaning}, ef {index.ef}" if index.ef else meaning


def _cells(experiment: Experiment, draws: Mapping[str, int]) -> list[Cell]:
    columns = {
        (name, measure): [values[query] for query in experiment.qrels]
        for name, figures in experiment.figures.items()
        for measure, values in figures.items()
    }
    # One set of draws for all: intervals of equal figures are equal.
    intervals = retrieval.bootstrap_mean(np.array(list(columns.values())).T, **draws)
    figures: dict[tuple[str, str], dict[str, Figure]] = {}
    for (name, measure), interval in zip(columns, np.array(intervals).T.tolist(), strict=True):
        figures.setdefault(name, {})[measure] = Figure(*interval)
    return [
        Cell(
            system=label,
            index=index,
            figures=figures.get((label, index), {}),
            overlap=None
            if cell.refused
            else overlap(experiment.cells[label, EXACT].best, cell.best, retrieval.TOP),
            build=cell.build,
            single=cell.single,
            batched=cell.batched,
            refused=cell.refused,
        )
        for (label, index), cell in experiment.cells.items()
    ]


def _notes(experiment: Experiment) -> list[str]:
    notes = [
        f"measured on {experiment.queries_are}, by trec_eval's rules: equal scores are ordered by "
        "passage id, the larger first, and a query that found nothing counts as zero",
        "intervals are 95%, by bootstrap over queries; p is of a paired randomisation test over "
        "the exact index, corrected by Holm for all pairs",
    ]
    if any(index.backend == "weaviate" for index in experiment.indexes):
        notes.append(
            "Weaviate has no IVF-PQ: its hnsw+pq answers the same need for little memory, its "
            "hfresh that for lists on disk; FAISS shows the real one"
        )
    if any(s.kind == "rerank" for s in experiment.systems.settings.values()):
        notes.append("reranked systems are measured over the exact index alone")
    facts = experiment.pipeline.corpus.facts
    notes += [
        f"{facts[name]:,} judgements, of all splits, {name.replace('_', ' ')}: they count, as what "
        "none can find"
        for name in ("of_unknown_queries", "of_unknown_passages")
        if facts[name]
    ]
    return notes + experiment.systems.notes + experiment.notes


def _found(runs: Iterable[Run]) -> set[str]:
    """Every passage that a run holds."""
    return {id for run in runs for ranking in run.values() for id, _ in ranking}


def _forgetting(experiment: Experiment) -> Forgetting | None:
    """Base and adapted on the second collection, over the exact index."""
    recipe, section = experiment.recipe, experiment.recipe.evaluation
    if not section.out_of_domain_path:
        return None
    labels = {system.kind: label for label, system in experiment.systems.settings.items()}
    corpus = CorpusSection(path=section.out_of_domain_path, test_split=section.out_of_domain_split)
    second = Pipeline(replace(recipe, runs_dir=str(recipe.folder), name="second", corpus=corpus))
    queries, qrels = read_judged(second.corpus, section.out_of_domain_split)
    if not qrels:
        raise InputError(
            f"{section.out_of_domain_path} has no judgements {section.out_of_domain_split!r}"
        )
    figures: list[list[float]] = []
    for label in (labels["base"], labels["adapted"]):
        index = retrieval.ExactIndex()
        index.build(second.passages.ids, experiment.systems.embedded(second, label))
        encoder = experiment.systems.encoder(label)
        found = retrieval.search_and_measure(
            encoder, index, queries, qrels, [section.primary_metric]
        )
        figures.append([found[section.primary_metric][query] for query in sorted(qrels)])
    before, after = figures
    interval = retrieval.paired_bootstrap(
        before, after, resamples=section.resamples, seed=recipe.seed
    )
    return Forgetting(
        collection=section.out_of_domain_path,
        queries=len(qrels),
        before=float(np.mean(before)),
        after=float(np.mean(after)),
        difference=interval.difference,
        low=interval.low,
        high=interval.high,
    )


def _curve(experiment: Experiment) -> list[dict[str, float]]:
    """The adapted model's figures by epoch, on the validation queries."""
    history = experiment.recipe.folder / "model" / "history.json"
    kinds = {system.kind for system in experiment.systems.settings.values()}
    if "adapted" not in kinds or not history.exists():
        return []
    curve: list[dict[str, float]] = read_json(history)
    return curve


def _margins(experiment: Experiment) -> Margins | None:
    """Of the run's synthetic queries, where its adapted model is compared."""
    triplets = existing(experiment.recipe.folder / "triplets")
    targets = existing(experiment.recipe.folder / "targets")
    kinds = {system.kind for system in experiment.systems.settings.values()}
    if triplets is None or targets is None or "adapted" not in kinds:
        return None
    columns = triplets.dataset("lists").select_columns(["teacher", "student"])[:]
    lists = [(t, s) for t, s in zip(columns["teacher"], columns["student"], strict=True) if t[1:]]
    teacher, student = zip(*lists, strict=True)
    return margins(teacher, student, targets.facts["spread"])


def _machine() -> dict[str, Any]:
    return {"processor": _processor(), "cores": os.cpu_count()} | modeling.hardware()


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
