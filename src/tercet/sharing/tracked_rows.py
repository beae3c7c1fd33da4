"""What a run shows of itself where it is tracked, as figures and rows: nothing here tracks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tercet import retrieval
from tercet.evaluation.analysis import changes, excerpt
from tercet.evaluation.results import Changes, Results
from tercet.modeling.training.choices import Step
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.report import Report
from tercet.retrieval.significance import Interval

#: Lists that are shown, the negatives shown of each, and the queries either way that changed most.
LISTS, NEGATIVES, CHANGED = 20, 4, 10


def training_lists(pipeline: Pipeline) -> list[dict[str, Any]]:
    """A row for each passage of a few training lists, drawn by the recipe's seed.

    First the query's own, then the negatives that are to score most.
    """
    lists = pipeline.triplets.dataset("lists")
    of_split = np.flatnonzero(np.array(lists["split"]) == "train")
    few = np.sort(np.random.default_rng(pipeline.recipe.seed).permutation(of_split)[:LISTS])
    chosen = lists.select(few)[:]
    wanted = pipeline.targets.dataset("targets").select(few)["target"][:]
    texts = pipeline.passages.texts(id for ids in chosen["passages"] for id in ids)
    rows = []
    for i, query in enumerate(chosen["query"]):
        hardest = 1 + np.argsort(-np.array(wanted[i][1:]), kind="stable")[:NEGATIVES]
        for place in (0, *hardest.tolist()):
            scores = {name: chosen[name][i][place] for name in ("teacher", "student")}
            text = excerpt(texts[chosen["passages"][i][place]])
            which = "negative" if place else "its own"
            rows.append({"query": query, "passage": which, "text": text, **scores})
            rows[-1]["target"] = wanted[i][place]
    return rows


def changed_queries(pipeline: Pipeline) -> Changes:
    """The test queries that gained and lost most on the primary measure, with what is relevant."""
    figures = retrieval.read_figures(pipeline.evaluation)
    queries, qrels, _ = pipeline.measured("test")
    measure, systems = pipeline.recipe.evaluation.primary, ("zero-shot", "adapted")
    return changes(
        "adapted",
        "zero-shot",
        {system: figures[system][measure] for system in systems},
        dict.fromkeys(systems, {}),  # what each query found is not kept
        queries,
        qrels,
        pipeline.passages.texts(passage for grades in qrels.values() for passage in grades),
        most=CHANGED,
    )


def changed_rows(changes: Iterable[Changes]) -> list[dict[str, Any]]:
    """A row for each query that a system gained or lost most, beside the baseline."""
    return [
        {
            "system": each.system,
            "query": change.query,
            "before": change.before,
            "after": change.after,
            "difference": change.after - change.before,
            "relevant": "\n".join(hit.text for hit in change.relevant),
        }
        for each in changes
        for change in (*each.gained, *each.lost)
    ]


def summary_of(report: Report) -> dict[str, float]:
    """The test's figures with their intervals, and what the stages counted."""
    summary: dict[str, float] = {}
    for c in report.comparisons:
        figures = {"zero-shot": c.before, "adapted": c.after, **asdict(c.interval)}
        summary |= {f"test/{c.measure}/{name}": value for name, value in figures.items()}
    for stage, facts in report.facts.items():
        counted = {f"{stage}/{k}": v for k, v in facts.items() if isinstance(v, int | float)}
        summary |= counted
    return summary


def gains(step: Step) -> dict[str, Interval]:
    """Of a mixture: by what chose, by what guarded, and by the test as far as it was asked."""
    found = {
        f"validation {step.measure}": step.validation,
        f"guard {step.measure}": step.guard,
        f"test {step.test_measure}": step.test,
    }
    return {name: interval for name, interval in found.items() if interval}


def mixture_rows(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """A row for each mixture and each kind of query that it was measured on."""
    return [
        {"trained part": step.weight, "of": name, **asdict(interval)}
        for step in steps
        for name, interval in gains(step).items()
    ]


def cell_rows(results: Results) -> list[dict[str, Any]]:
    """A row for each system over each index, but for what an index refused."""
    rows = []
    for cell in results.cells:
        if cell.refused:
            continue
        total = cell.single.total if cell.single else None
        rows.append(
            {
                "system": cell.system,
                "index": cell.index,
                **{measure: cell.figures[measure].mean for measure in results.measures},
                "recall@10 of the index": cell.overlap,
                "build s": cell.build and cell.build.seconds,
                "memory bytes": cell.build and cell.build.memory,
                "p50 ms": total and total.p50,
                "p95 ms": total and total.p95,
                "queries/s": total and total.per_second,
                "batched queries/s": cell.batched and cell.batched.total.per_second,
            }
        )
    return rows
