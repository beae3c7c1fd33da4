"""Turns a finished experiment into `Results`: metrics with intervals, tests and notes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping
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
from tercet.core.processes import command_line
from tercet.core.schema import InputError
from tercet.data.judgements import read_judged, texts_of
from tercet.evaluation.analysis import changes, compare_all, margins, overlap, slices
from tercet.evaluation.experiment import Experiment
from tercet.evaluation.results import EXACT, Cell, Figure, Forgetting, IndexFacts, Margins, Results
from tercet.evaluation.systems import AdaptedSystem, BaseSystem
from tercet.evaluation.verdict import run_verdict
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.weaviate.settings import KINDS

_VERSIONS = ("tercet", "torch", "transformers", "faiss-cpu", "weaviate-client", "bm25s", "numpy")


def results_of(experiment: Experiment) -> Results:
    """Every metric with its interval, the significance tests, and the notes on both."""
    recipe, section = experiment.recipe, experiment.recipe.evaluation
    pipeline, baseline = experiment.pipeline, experiment.baseline
    primary, runs = experiment.primary(), experiment.runs()
    exact = {label: runs[label, EXACT] for label in primary}
    found = {id for run in exact.values() for ranking in run.values() for id, _ in ranking}
    texts = texts_of(pipeline.passages, found)
    draws: dict[str, int] = {"resamples": section.resamples, "seed": recipe.seed}
    queries, qrels = experiment.queries, experiment.qrels
    return Results(
        title=_title(experiment),
        command=" ".join(command_line()),
        finished=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        corpus=recipe.corpus.label,
        passages=len(pipeline.passages),
        queries=len(qrels),
        queries_are=experiment.queries_are,
        primary=section.primary_metric,
        measures=recipe.all_metrics,
        baseline=baseline,
        systems=[system.facts() for system in experiment.systems.values()],
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
        **_verdict(experiment),
        forgetting=_forgetting(experiment),
        curve=_curve(experiment),
        margins=_margins(experiment),
        machine=_machine() | experiment.machine,
        versions=_versions(),
        settings=flatten(asdict(recipe)),
    )


def _verdict(experiment: Experiment) -> dict[str, Any]:
    """The verdict of the run whose model is compared, if one is."""
    with suppress(InputError):
        found = run_verdict(experiment.recipe.folder)
        return {"verdict": found.text, "more": found.more, "shipped": found.shipped}
    return {}


def _title(experiment: Experiment) -> str:
    systems, indexes = len(experiment.systems), len(experiment.indexes)
    return (
        f"{experiment.recipe.name}: {systems} system{'s' if systems > 1 else ''}, "
        f"{indexes} index{'es' if indexes > 1 else ''}"
    )


def _meaning(index: ComparedIndex) -> str:
    """The structure of an index, and how it is searched."""
    if index.backend == "faiss":
        return retrieval.describe_faiss(index)
    if index.collection:
        return f"collection {index.collection} as it stands"
    if index.backend == "exact":
        return "every query against every passage: misses nothing"
    if index.backend != "weaviate":
        return f"plug-in {index.backend}"
    meaning = KINDS[index.kind].meaning
    return f"{meaning}, ef {index.ef}" if index.ef else meaning


def _cells(experiment: Experiment, draws: Mapping[str, int]) -> list[Cell]:
    columns = {
        (name, metric): [values[query] for query in experiment.qrels]
        for name, metrics in experiment.metrics.items()
        for metric, values in metrics.items()
    }
    # The same resamples for all, so that equal values have equal intervals.
    intervals = retrieval.bootstrap_mean(np.array(list(columns.values())).T, **draws)
    means: dict[tuple[str, str], dict[str, Figure]] = {}
    for (name, metric), interval in zip(columns, np.array(intervals).T.tolist(), strict=True):
        means.setdefault(name, {})[metric] = Figure(*interval)
    return [
        Cell(
            system=label,
            index=index,
            figures=means.get((label, index), {}),
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
        "passage id, the larger first, and a query without results counts as zero",
        "intervals are 95%, by bootstrap over queries; p is of a paired randomisation test over "
        "the exact index, corrected by Holm for all pairs",
    ]
    notes += experiment.pipeline.judged_notes()
    if any(index.backend == "weaviate" for index in experiment.indexes):
        notes.append(
            "Weaviate has no IVF-PQ: its hnsw+pq answers the same need for little memory, its "
            "hfresh that for lists on disk; FAISS shows the real one"
        )
    if any(system.reranks for system in experiment.systems.values()):
        notes.append("reranked systems are measured over the exact index alone")
    facts = experiment.pipeline.corpus.facts
    notes += [
        f"{facts[name]:,} judgements, of all splits, {name.replace('_', ' ')}: they count, as what "
        "none can find"
        for name in ("of_unknown_queries", "of_unknown_passages")
        if facts[name]
    ]
    return notes + experiment.systems.notes + experiment.notes


def _forgetting(experiment: Experiment) -> Forgetting | None:
    """Base and adapted model on the out-of-domain collection, over the exact index."""
    recipe, section, systems = experiment.recipe, experiment.recipe.evaluation, experiment.systems
    base, adapted = systems.last(BaseSystem), systems.last(AdaptedSystem)
    if not (section.out_of_domain_path and base and adapted):
        return None
    corpus = CorpusSection(path=section.out_of_domain_path, test_split=section.out_of_domain_split)
    second = Pipeline(replace(recipe, runs_dir=str(recipe.folder), name="second", corpus=corpus))
    judged = read_judged(
        second.corpus,
        section.out_of_domain_split,
        leave_out=section.leave_out,
        unanswerable=section.unanswerable,
    )
    queries, qrels = judged.queries, judged.qrels
    if not qrels:
        raise InputError(
            f"{section.out_of_domain_path} has no judgements {section.out_of_domain_split!r}"
        )
    both: list[list[float]] = []
    for system in (base, adapted):
        index = retrieval.ExactIndex()
        index.build(second.passages.ids, system.embedded(second))
        values = retrieval.search_and_measure(
            system.encoder, index, queries, qrels, [section.primary_metric]
        )[section.primary_metric]
        both.append([values[query] for query in sorted(qrels)])
    before, after = both
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
    """The adapted model's metrics by epoch, on the validation queries."""
    model = existing(experiment.recipe.folder / "model")
    if model is None or not experiment.systems.last(AdaptedSystem):
        return []
    curve: list[dict[str, float]] = read_json(model.file("history.json"))
    return curve


def _margins(experiment: Experiment) -> Margins | None:
    """Score margins on the run's synthetic queries, if its adapted model is compared."""
    triplets = existing(experiment.recipe.folder / "triplets")
    targets = existing(experiment.recipe.folder / "targets")
    if triplets is None or targets is None or not experiment.systems.last(AdaptedSystem):
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
    for name in _VERSIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
