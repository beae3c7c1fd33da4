"""What a run is at: its stages with rate and time left, and the curves of its training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from tercet.core.artifacts import MANIFEST, existing
from tercet.core.console import CURVES
from tercet.core.resources import read_times
from tercet.reports.run_report import STAGES
from tercet.studio.runs import PROGRESS, find, tail

ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Stage:
    """One row of the progress."""

    name: str
    state: str
    seconds: float | None = None
    #: From 0 to 1, where it is known.
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
        artifact = existing(run / name)
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
    """A stage that is being made, as the log or, of training, the last logged step tells."""
    steps = _rows(run)
    if name == "model" and steps:
        return _trained(steps)
    for line in reversed(tail(run)):
        if line.startswith(("make ", "reuse ")):
            break
        if found := PROGRESS.match(line):
            done, total = (int((found[k] or "0").replace(",", "")) for k in ("done", "total"))
            part = done / total if total else None
            rate = f"{found['rate']} {found['unit']}/s"
            return Stage(name, "at work", None, part, rate, found["left"] or "")
    return Stage(name, "at work")


def _trained(rows: list[dict[str, Any]]) -> Stage:
    last = rows[-1]
    step, steps = int(last["step"]), int(last["max_steps"])
    since = [row for row in rows if row["began"] == last["began"]]
    passed = since[-1]["time"] - since[0]["time"]
    rate = (step - since[0]["step"]) / passed if passed > 0 else 0.0
    left = str(timedelta(seconds=round((steps - step) / rate))) if rate else ""
    said = f"{rate:.2g} steps/s" if rate else ""
    return Stage(
        "model", "at work", None, step / max(steps, 1), said, left, f"step {step} of {steps}"
    )


def _counted(facts: dict[str, Any]) -> str:
    said = [
        f"{value:,} {name.replace('_', ' ')}"
        for name, value in facts.items()
        if value and isinstance(value, int) and not isinstance(value, bool)
    ]
    return ", ".join(said[:3])


def _rows(run: Path) -> list[dict[str, Any]]:
    """What the Trainer logged, line by line; a line that is being written is left out."""
    try:
        text = (run / "training" / CURVES).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def curves(run: Path, measures: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Points of step, value and series, as "loss" and as "measures"; zero-shot is a level line.

    Where a run was resumed, the later value of a step counts.
    """
    loss: dict[int, float] = {}
    found: dict[tuple[str, int], float] = {}
    for row in _rows(run):
        step = int(row["step"])
        if "loss" in row:
            loss[step] = row["loss"]
        for measure in measures:
            if f"eval_{measure}" in row:
                found[measure, step] = row[f"eval_{measure}"]
    points = []
    last = max([0, *loss, *(step for _, step in found)])
    for (measure, step), value in sorted(found.items()):
        points.append({"step": step, "value": value, "series": measure})
        if step == 0:
            line = f"{measure}, {ZERO_SHOT}"
            points += [{"step": at, "value": value, "series": line} for at in (0, max(last, 1))]
    losses = [{"step": s, "value": v, "series": "loss"} for s, v in sorted(loss.items())]
    return {"loss": losses, "measures": points}
