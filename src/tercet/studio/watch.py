"""The state of a run: its stages with rate and time left, and its training curves."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tercet.core.artifacts import MANIFEST, existing
from tercet.core.console import CURVES
from tercet.core.resources import read_times
from tercet.core.schema import InputError
from tercet.reports.run_report import STAGES
from tercet.studio.runs import PROGRESS, find, tail

ZERO_SHOT = "zero-shot"
_NUMBERS = {"step", "max_steps", "began", "time"}  # of every row of the Trainer's log
_LARGEST = 1e12


@dataclass(frozen=True)
class Stage:
    """A stage of a run: its state, the seconds it took, its progress."""

    name: str
    state: str
    seconds: float | None = None
    #: Finished part, from 0 to 1, if known.
    part: float | None = None
    rate: str = ""
    left: str = ""
    counted: str = ""


def stages(run: Path) -> list[Stage]:
    """Every stage of a run: done, at work, or waiting."""
    times, at_work = read_times(run), find(run) is not None
    found = []
    for name in (*STAGES, "evaluation"):
        partial = run / f"{name}.partial"
        try:
            artifact = existing(run / name)
        except InputError:  # its manifest is damaged
            found.append(Stage(name, "damaged"))
            continue
        if partial.is_dir() and not (partial / MANIFEST).exists():
            found.append(_at_work(run, name) if at_work else Stage(name, "interrupted"))
        elif artifact:
            found.append(
                Stage(name, "done", times.get(name), 1.0, counted=_counted(artifact.facts))
            )
        else:
            found.append(Stage(name, "waiting"))
    return found


def _at_work(run: Path, name: str) -> Stage:
    """The stage in progress, read from the log, or from the last logged step in training."""
    steps = _rows(run)
    if name == "model" and steps:
        return _in_training(steps)
    for line in reversed(tail(run)):
        if line.startswith(("make ", "reuse ")):
            break
        if found := PROGRESS.match(line):
            done, total = (int((found[k] or "0").replace(",", "")) for k in ("done", "total"))
            part = done / total if total else None
            rate = f"{found['rate']} {found['unit']}/s"
            return Stage(name, "at work", None, part, rate, found["left"] or "")
    return Stage(name, "at work")


def _in_training(rows: list[dict[str, Any]]) -> Stage:
    last = rows[-1]
    step, steps = int(last["step"]), int(last["max_steps"])
    since = [row for row in rows if row["began"] == last["began"]]
    passed = since[-1]["time"] - since[0]["time"]
    rate = (step - since[0]["step"]) / passed if passed > 0 else 0.0
    seconds = (steps - step) / rate if rate else math.inf
    left = str(timedelta(seconds=round(seconds))) if abs(seconds) < _LARGEST else ""
    speed = f"{rate:.2g} steps/s" if rate else ""
    return Stage(
        "model", "at work", None, step / max(steps, 1), speed, left, f"step {step} of {steps}"
    )


def _counted(facts: dict[str, Any]) -> str:
    counts = [
        f"{value:,} {name.replace('_', ' ')}"
        for name, value in facts.items()
        if value and isinstance(value, int) and not isinstance(value, bool)
    ]
    return ", ".join(counts[:3])


def _rows(run: Path) -> list[dict[str, Any]]:
    """The rows logged by the Trainer, without a line that is damaged or half written."""
    try:
        text = (run / "training" / CURVES).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
            if all(abs(row[name]) <= _LARGEST for name in _NUMBERS):  # and no NaN
                rows.append(row)
        except (AttributeError, LookupError, TypeError, ValueError):
            continue
    return rows


def curves(run: Path, metrics: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Points of step, value and series under "loss" and "metrics"; zero-shot is a level line.

    If a resumed run logged a step twice, its later value counts.
    """
    loss: dict[int, float] = {}
    found: dict[tuple[str, int], float] = {}
    for row in _rows(run):
        step = int(row["step"])
        if "loss" in row:
            loss[step] = row["loss"]
        for metric in metrics:
            if f"eval_{metric}" in row:
                found[metric, step] = row[f"eval_{metric}"]
    points = []
    last = max([0, *loss, *(step for _, step in found)])
    for (metric, step), value in sorted(found.items()):
        points.append({"step": step, "value": value, "series": metric})
        if step == 0:
            line = f"{metric}, {ZERO_SHOT}"
            points += [{"step": at, "value": value, "series": line} for at in (0, max(last, 1))]
    losses = [{"step": s, "value": v, "series": "loss"} for s, v in sorted(loss.items())]
    return {"loss": losses, "metrics": points}
