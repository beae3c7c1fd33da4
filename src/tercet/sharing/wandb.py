"""Runs on Weights & Biases, where a team looks at all of them: train.py's, and eval.py's."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from tercet import retrieval
from tercet.config.parsing import flatten
from tercet.config.recipe import Recipe
from tercet.core.console import console
from tercet.core.files import digest, read_json, write_json
from tercet.core.schema import InputError
from tercet.evaluation.analysis import changes, excerpt
from tercet.evaluation.results import Changes, Results
from tercet.modeling.hub import CARD
from tercet.modeling.training.model_selection import Step
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.report import Report
from tercet.retrieval.significance import Interval
from tercet.sharing.hub import model_files

try:
    import wandb
except ImportError:
    raise InputError("wandb is not installed: pip install 'tercet[wandb]'") from None

#: In a run's folder: the id on W&B of each plan that was trained there, and what is logged of it.
RUNS = "wandb.json"
#: Seconds that the end of a run waits for a network that went away; `wandb sync` sends the rest.
PATIENCE = 1_800.0


class TrainingRun:
    """A run of train.py, opened when there is something to log.

    What is trained in one folder with the same settings and inputs is one run there, and goes on
    under its id when it was killed. What has been logged is not logged again.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.recipe = pipeline, pipeline.recipe
        self._file = self.recipe.folder / RUNS
        self._opened: Any = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Points of the curves; what W&B has of them when a run goes on is not logged again."""
        # In the order of W&B's own steps an evaluation comes after its step's loss.
        place = 2 * step + any(name.startswith("eval/") for name in values)
        if place >= self._run().starting_step:
            points = {**values, "train/global_step": step}
            self._run().log(points, step=place, commit=True)

    def finish(self, report: Report) -> None:
        """Log what the run came to: figures, tables, plots and the model."""
        summary, noted = summary_of(report), self._noted()
        outcome = digest([self.pipeline.model.digest, summary])
        if self._opened is None and noted.get("logged") == outcome:
            return
        run = self._run()
        if not noted:  # it was trained before W&B was asked for
            for row in report.history:
                figures = {f"eval/{k}": v for k, v in row.items() if k not in ("epoch", "step")}
                self.log({**figures, "train/epoch": row["epoch"]}, int(row["step"]))
        run.summary.update(summary)
        after = 2 * self.pipeline.model.facts["steps"] + 2
        run.log(self._media(report), step=max(run.step, after), commit=True)
        run.log_artifact(self._artifact(report, summary))
        run.finish()
        if not run.disabled:
            self._note(logged=outcome)

    def _run(self) -> Any:
        if self._opened is None:
            id = self._noted().get("id") or secrets.token_hex(8)
            self._note(id=id)
            settings = flatten(asdict(self.recipe))
            self._opened = _open(self.recipe, self.recipe.name, "training", settings, id=id)
            self._opened.define_metric("train/global_step")
            self._opened.define_metric("*", step_metric="train/global_step")
        return self._opened

    @cached_property
    def _plan(self) -> str:
        return digest(self.pipeline.stage("model").plan)

    def _read(self) -> dict[str, dict[str, str]]:
        return read_json(self._file) if self._file.exists() else {}

    def _noted(self) -> dict[str, str]:
        return self._read().get(self._plan, {})

    def _note(self, **what: str) -> None:
        write_json(self._file, self._read() | {self._plan: self._noted() | what})

    def _media(self, report: Report) -> dict[str, Any]:
        """Tables of examples, and the report's tables and plots."""
        svg = (self.pipeline.targets.path / "calibration.svg").read_text(encoding="utf-8")
        media = {
            "training lists": _table(training_lists(self.pipeline)),
            "changed queries": _table(changed_rows([changed_queries(self.pipeline)])),
            "mixtures": _table(mixture_rows(report.steps)),
            "notes": _table([{"note": note} for note in report.notes]),
            "calibration": wandb.Html(svg, inject=False, data_is_not_path=True),
            "gains of mixtures": _chart(report.steps),
        }
        return {name: found for name, found in media.items() if found is not None}

    def _artifact(self, report: Report, summary: Mapping[str, float]) -> wandb.Artifact:
        """What ships, with its card."""
        told = ("model/", f"test/{self.recipe.evaluation.primary_metric}/")
        figures = {name: value for name, value in summary.items() if name.startswith(told)}
        artifact = wandb.Artifact(
            re.sub(r"[^\w.-]", "_", self.recipe.name, flags=re.ASCII),
            type="model",
            description=report.title,
            metadata={"base": self.recipe.model.name, "seed": self.recipe.seed, **figures},
        )
        files = model_files(self.pipeline.model) | {CARD: self.recipe.folder / CARD}
        for name, path in files.items():
            # The copy that W&B makes is what `wandb sync` finds, whatever is trained here next.
            artifact.add_file(str(path), name, skip_cache=True)
        return artifact


def track(recipe: Recipe, results: Results, page: Path) -> None:
    """Log an experiment's figures, tables, plots and page as a run of type "evaluation"."""
    run = _open(recipe, f"{recipe.name}-eval", "evaluation", dict(results.settings))
    try:
        run.summary.update(
            {
                f"{cell.system}/{measure}": figure.mean
                for cell in results.cells
                if cell.index == "exact"
                for measure, figure in cell.figures.items()
            }
        )
        cells = _table(cell_rows(results))
        title = f"{results.primary} against latency"
        media = {
            "cells": cells,
            "pairs": _table([asdict(pair) for pair in results.pairs]),
            "changed queries": _table(changed_rows(results.changes)),
            "quality against latency": wandb.plot.scatter(
                cells, "p50 ms", results.primary, title=title
            ),
            "report": wandb.Html(page.read_text(encoding="utf-8"), inject=False),
        }
        run.log({name: found for name, found in media.items() if found is not None})
    finally:
        run.finish()


def _open(recipe: Recipe, name: str, kind: str, settings: dict[str, Any], **resumed: Any) -> Any:
    """A run on W&B, or beside the recipe's own files where nobody is there to take it."""
    mode, why = _mode()
    try:
        run = wandb.init(
            project=recipe.tracking.project,
            group=recipe.name,
            name=name,
            job_type=kind,
            config=settings,
            allow_val_change=True,
            mode=mode,
            dir=None if "WANDB_DIR" in os.environ else recipe.folder,
            save_code=False,
            settings=wandb.Settings(
                finish_timeout=wandb.setup().settings.finish_timeout or PATIENCE
            ),
            resume="allow" if resumed else None,
            **resumed,
        )
    except wandb.Error as error:
        raise InputError(
            f"W&B: {_line(error)}; WANDB_MODE=offline keeps the run on this machine"
        ) from None
    if why:
        here = Path(run.dir).parent
        console.print(escape(f"      W&B: {why}: kept here, to be sent by `wandb sync {here}`"))
    return run


def _mode() -> tuple[Any, str]:
    """The mode to ask for, and why where it is "offline" and nobody asked for that."""
    if wandb.setup().settings.mode != "online":
        return None, ""  # as WANDB_MODE or `wandb offline` says
    try:
        if wandb.login(prompt=False):
            return None, ""
    except wandb.Error as error:  # a key that is refused, or nobody there to ask
        return "offline", _line(error)
    return "offline", "there is no API key (`wandb login`)"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows with the same keys; None for none."""
    if not rows:
        return None
    return wandb.Table(columns=[*rows[0]], data=[[*row.values()] for row in rows])


def _chart(steps: Sequence[Step]) -> Any:
    """Gain over the model as it came, by how far a mixture goes from it."""
    if not steps:
        return None
    names = [*gains(steps[0])]
    return wandb.plot.line_series(
        xs=[step.weight for step in steps],
        ys=[[gains(step)[name].difference for step in steps] for name in names],
        keys=names,
        title="gain over the model as it came",
        xname="trained part",
    )


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
    queries, qrels, _ = pipeline.split("test")
    measure, systems = pipeline.recipe.evaluation.primary_metric, ("zero-shot", "adapted")
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
