"""The experiment on Weights & Biases, where a team looks at all of its runs."""

from __future__ import annotations

from pathlib import Path

from tercet.recipe import Recipe
from tercet.retrieval.results import Results
from tercet.schema import InputError

try:
    import wandb
except ImportError:
    raise InputError("wandb is not installed: pip install 'tercet[wandb]'") from None


def track(recipe: Recipe, results: Results, page: Path) -> None:
    """Log figures, tables, plots and the page as a run of its own, of type "evaluation".

    WANDB_MODE=offline keeps it on this machine.
    """
    run = wandb.init(
        project=recipe.tracking.project,
        name=f"{recipe.name}-eval",
        job_type="evaluation",
        config=dict(results.settings),
        save_code=False,
    )
    try:
        run.summary.update(_summary(results))
        cells = _cells(results)
        run.log(
            {
                "cells": cells,
                "pairs": _pairs(results),
                "quality against latency": wandb.plot.scatter(
                    cells, "p50 ms", results.primary, title=f"{results.primary} against latency"
                ),
                "report": wandb.Html(page.read_text(encoding="utf-8"), inject=False),
            }
        )
    finally:
        run.finish()


def _summary(results: Results) -> dict[str, float]:
    return {
        f"{cell.system}/{measure}": figure.mean
        for cell in results.cells
        if cell.index == "exact"
        for measure, figure in cell.figures.items()
    }


def _cells(results: Results) -> wandb.Table:
    columns: list[str | int] = ["system", "index", *results.measures]
    columns += ["recall@10 of the index", "build s"]
    columns += ["memory bytes", "p50 ms", "p95 ms", "queries/s", "batched queries/s"]
    table = wandb.Table(columns=columns)
    for cell in results.cells:
        if cell.refused:
            continue
        total = cell.single.total if cell.single else None
        table.add_data(
            cell.system,
            cell.index,
            *(cell.figures[measure].mean for measure in results.measures),
            cell.overlap,
            cell.build and cell.build.seconds,
            cell.build and cell.build.memory,
            total and total.p50,
            total and total.p95,
            total and total.per_second,
            cell.batched and cell.batched.total.per_second,
        )
    return table


def _pairs(results: Results) -> wandb.Table:
    columns: list[str | int] = [
        "first",
        "second",
        "difference",
        "low",
        "high",
        "p",
        "p (Holm)",
        "detectable",
    ]
    columns += ["wins", "losses", "ties"]
    table = wandb.Table(columns=columns)
    for pair in results.pairs:
        figures = (pair.difference, pair.low, pair.high, pair.p, pair.p_holm, pair.detectable)
        table.add_data(pair.first, pair.second, *figures, pair.wins, pair.losses, pair.ties)
    return table
