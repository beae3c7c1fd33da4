"""Logs the runs of train.py and eval.py to Weights & Biases."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tercet import retrieval
from tercet.config.parsing import flatten
from tercet.config.recipe import Recipe
from tercet.core.borders import border
from tercet.core.console import console
from tercet.core.disk import free_space
from tercet.core.extras import missing
from tercet.core.files import digest, kept, write_json
from tercet.core.text import excerpt, one_line
from tercet.data.judgements import texts_of
from tercet.evaluation.analysis import changes
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
    raise missing("wandb", "wandb") from None

#: In a run's folder: W&B ids by training plan, and the digest of the results that were logged.
_RUNS = "wandb.json"
_TIMEOUT = 1_800.0  # seconds to wait for the network at the end; `wandb sync` sends the rest
_ROOM = 1 << 20  # free bytes below which a log may not be whole
_LISTS, _NEGATIVES = 20, 4  # training lists shown, and negatives of each
_CHANGED = 10  # queries with the largest gains, and with the largest losses
_EXCERPT = 300  # characters of a passage


class TrainingRun:
    """A run of train.py on W&B, opened when there is something to log.

    Training with the same settings and inputs in the same folder continues the same W&B run, also
    after it was killed. Nothing is logged twice.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.recipe = pipeline, pipeline.recipe
        self._file = self.recipe.folder / _RUNS
        self._opened: Any = None
        self._failed = False

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log points of the curves, unless a resumed run has them already."""
        # W&B's steps only increase, and an evaluation follows the loss of the same step.
        place = 2 * step + any(name.startswith("eval/") for name in values)
        with self._aside():
            if not self._failed and place >= self._run().starting_step:
                points = {**values, "train/global_step": step}
                self._run().log(points, step=place, commit=True)

    def finish(self, report: Report) -> None:
        """Log the results: metric values, tables, plots and the model. Ends the W&B run."""
        with self._aside():
            self._finish(report)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """A log that cannot be written is said once; it does not end the run."""
        try:
            yield
            if self._opened is None or free_space(Path(self._opened.dir)) >= _ROOM:
                return
            why = "the disk is full"  # W&B does not say so
        except (OSError, wandb.Error) as error:
            why = one_line(str(error))
        if not self._failed:
            console.warn(f"W&B: {why}: its log is not whole, and the run goes on without it")
        self._failed = True

    def _finish(self, report: Report) -> None:
        summary, noted = _summary(report), self._noted()
        outcome = digest([self.pipeline.model.digest, summary])
        if self._opened is None and noted.get("logged") == outcome:
            return
        run = self._run()
        if not noted:  # the model was trained without W&B
            for entry in report.history:
                metrics = {f"eval/{k}": v for k, v in entry.items() if k not in ("epoch", "step")}
                self.log({**metrics, "train/epoch": entry["epoch"]}, int(entry["step"]))
        run.summary.update(summary)
        after = 2 * self.pipeline.model.facts["steps"] + 2
        run.log(self._media(report), step=max(run.step, after), commit=True)
        run.log_artifact(self._artifact(report, summary))
        run.finish()
        if not run.disabled and not self._failed:
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
        return kept(self._file, lambda noted: {plan: dict(of) for plan, of in noted.items()}) or {}

    def _noted(self) -> dict[str, str]:
        return self._read().get(self._plan, {})

    def _note(self, **values: str) -> None:
        write_json(self._file, self._read() | {self._plan: self._noted() | values})

    def _media(self, report: Report) -> dict[str, Any]:
        """The tables and plots of a training run, by name."""
        svg = self.pipeline.targets.file("calibration.svg").read_text(encoding="utf-8")
        media = {
            "training lists": _table(_training_lists(self.pipeline)),
            "changed queries": _table(self._changed_queries(report)),
            "interpolation": _table(_interpolation(report.steps)),
            "notes": _table([{"note": note} for note in report.notes]),
            "calibration": wandb.Html(svg, inject=False, data_is_not_path=True),
            "gain by interpolation": _chart(report.steps),
        }
        return {name: found for name, found in media.items() if found is not None}

    def _changed_queries(self, report: Report) -> list[dict[str, Any]]:
        """None where the base model ships: nothing has changed."""
        if report.verdict.shipped == "base":
            return []
        return _changed_queries([_test_changes(self.pipeline)])

    def _artifact(self, report: Report, summary: Mapping[str, Any]) -> wandb.Artifact:
        """The model that ships, with its card."""
        kept = ("shipped", "model/", f"test/{self.recipe.evaluation.primary_metric}/")
        metrics = {name: value for name, value in summary.items() if name.startswith(kept)}
        artifact = wandb.Artifact(
            re.sub(r"[^\w.-]", "_", self.recipe.name, flags=re.ASCII),
            type="model",
            description=report.verdict.text,
            metadata={"base": self.recipe.model.name, "seed": self.recipe.seed, **metrics},
        )
        files = model_files(self.pipeline.model) | {CARD: self.recipe.folder / CARD}
        for name, path in files.items():
            # W&B copies the files, so a later `wandb sync` finds them after another training.
            artifact.add_file(str(path), name, skip_cache=True)
        return artifact


def track(recipe: Recipe, results: Results, page: Path) -> None:
    """Log an experiment's metric values, tables, plots and page as a run of type "evaluation"."""
    run = _open(recipe, f"{recipe.name}-eval", "evaluation", dict(results.settings))
    try:
        run.summary.update(
            {
                f"{cell.system}/{metric}": value.mean
                for cell in results.cells
                if cell.index == "exact"
                for metric, value in cell.figures.items()
            }
        )
        cells = _table(_cells(results))
        title = f"{results.primary} against latency"
        media = {
            "cells": cells,
            "pairs": _table([asdict(pair) for pair in results.pairs]),
            "changed queries": _table(_changed_queries(results.changes)),
            "quality against latency": wandb.plot.scatter(
                cells, "p50 ms", results.primary, title=title
            ),
            "report": wandb.Html(page.read_text(encoding="utf-8"), inject=False),
        }
        run.log({name: found for name, found in media.items() if found is not None})
    finally:
        run.finish()


def _open(recipe: Recipe, name: str, kind: str, settings: dict[str, Any], **resumed: Any) -> Any:
    """Start a W&B run; offline in the run's folder if W&B cannot be reached or has no key."""
    mode, reason = _mode()
    with border("W&B", "; WANDB_MODE=offline logs to this machine only"):
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
                finish_timeout=wandb.setup().settings.finish_timeout or _TIMEOUT
            ),
            resume="allow" if resumed else None,
            **resumed,
        )
    if reason:
        folder = Path(run.dir).parent
        console.print(f"      W&B: {reason}: logged offline; send it by `wandb sync {folder}`")
    return run


def _mode() -> tuple[Any, str]:
    """The mode for `wandb.init`, and the reason if it is offline without the user's choice."""
    if wandb.setup().settings.mode != "online":
        return None, ""  # as WANDB_MODE or `wandb offline` says
    try:
        if wandb.login(prompt=False):
            return None, ""
    except wandb.Error as error:  # the key is refused, or the server cannot be reached
        return "offline", one_line(str(error))
    return "offline", "there is no API key (`wandb login`)"


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A W&B table of rows with equal keys; None without rows."""
    if not rows:
        return None
    return wandb.Table(columns=[*rows[0]], data=[[*row.values()] for row in rows])


def _chart(steps: Sequence[Step]) -> Any:
    """Gain over the base model by the weight of the trained parameters."""
    if not steps:
        return None
    names = [*_gains(steps[0])]
    return wandb.plot.line_series(
        xs=[step.weight for step in steps],
        ys=[[_gains(step)[name].difference for step in steps] for name in names],
        keys=names,
        title="gain over the base model",
        xname="trained weight",
    )


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def _training_lists(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The passages of a few training lists, drawn by the recipe's seed.

    Each list has the query's source passage, then the negatives with the highest targets.
    """
    lists = pipeline.triplets.dataset("lists")
    of_split = np.flatnonzero(np.array(lists["split"]) == "train")
    few = np.sort(np.random.default_rng(pipeline.recipe.seed).permutation(of_split)[:_LISTS])
    chosen = lists.select(few)[:]
    targets = pipeline.targets.dataset("targets").select(few)["target"][:]
    texts = pipeline.passages.texts(id for ids in chosen["passages"] for id in ids)
    rows = []
    for i, query in enumerate(chosen["query"]):
        hardest = 1 + np.argsort(-np.array(targets[i][1:]), kind="stable")[:_NEGATIVES]
        for place in (0, *hardest.tolist()):
            scores = {name: chosen[name][i][place] for name in ("teacher", "student")}
            text = excerpt(texts[chosen["passages"][i][place]], _EXCERPT)
            role = "negative" if place else "source"
            row = {"query": query, "passage": role, "text": text, **scores}
            rows.append(row | {"target": targets[i][place]})
    return rows


def _test_changes(pipeline: Pipeline) -> Changes:
    """The test queries with the largest changes of the primary metric."""
    values = retrieval.read_figures(pipeline.evaluation)
    queries, qrels, _ = pipeline.split("test")
    metric, systems = pipeline.recipe.evaluation.primary_metric, ("zero-shot", "adapted")
    return changes(
        "adapted",
        "zero-shot",
        {system: values[system][metric] for system in systems},
        dict.fromkeys(systems, {}),  # the rankings are not kept
        queries,
        qrels,
        texts_of(pipeline.passages, {passage for each in qrels.values() for passage in each}),
        most=_CHANGED,
    )


def _changed_queries(changes: Iterable[Changes]) -> list[dict[str, Any]]:
    """The queries with the largest gains and losses of each system against the baseline."""
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


def _summary(report: Report) -> dict[str, Any]:
    """The verdict, test metric values with their intervals, and the counts of the stages."""
    shipped, hybrid = report.verdict.shipped, report.hybrid.comparison
    summary: dict[str, Any] = {"verdict": report.verdict.text, "shipped": shipped}
    compared = {f"test/{c.measure}": c for c in report.comparisons}
    for place, c in (compared | {f"hybrid/{hybrid.measure}": hybrid}).items():
        values = {"zero-shot": c.before, "adapted": c.after, **asdict(c.interval)}
        if shipped == "base":
            values = {"base": c.before}
        summary |= {f"{place}/{name}": value for name, value in values.items()}
    for stage, facts in report.facts.items():
        summary |= {f"{stage}/{k}": v for k, v in facts.items() if isinstance(v, int | float)}
    return summary


def _gains(step: Step) -> dict[str, Interval]:
    """Gains of an interpolation weight by split; not all weights have confirmation and test."""
    found = {
        f"validation {step.measure}": step.validation,
        f"confirmation {step.measure}": step.guard,
        f"test {step.test_measure}": step.test,
    }
    return {name: interval for name, interval in found.items() if interval}


def _interpolation(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The gains of each interpolation weight, a row for each split."""
    return [
        {"trained weight": step.weight, "metric": name, **asdict(interval)}
        for step in steps
        for name, interval in _gains(step).items()
    ]


def _cells(results: Results) -> list[dict[str, Any]]:
    """Each system over each index that supports it."""
    rows = []
    for cell in results.cells:
        if cell.refused:
            continue
        total = cell.single.total if cell.single else None
        rows.append(
            {
                "system": cell.system,
                "index": cell.index,
                **{metric: cell.figures[metric].mean for metric in results.measures},
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
