"""All runs in one table, two of them side by side, and each query that won or lost."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tercet.core.artifacts import existing
from tercet.core.schema import InputError
from tercet.retrieval import paired_bootstrap, read_figures
from tercet.studio.runs import changed, report_of, state

TEXTS = ("run", "state", "changed", "model", "measure")
COLUMNS = (
    *TEXTS,
    *("zero-shot", "adapted", "difference", "low", "high", "minutes"),
)
ADAPTED, ZERO_SHOT = "adapted", "zero-shot"


def results(runs: Sequence[Path]) -> list[list[Any]]:
    """A row for each run, with the recipe's primary measure where there are figures."""
    rows = []
    for run in runs:
        report = report_of(run)
        settings = report.get("settings", {})
        row: list[Any] = [
            run.name,
            state(run),
            changed(run),
            Path(settings.get("model.name", "")).name,
        ]
        measure = settings.get("evaluation.primary_metric", "")
        found = next((c for c in report.get("comparisons", ()) if c["measure"] == measure), None)
        if found:
            interval = found["interval"]
            figures = [found["before"], found["after"], interval["difference"]]
            figures += [interval["low"], interval["high"]]
            row += [measure, *(round(figure, 4) for figure in figures)]
            row += [round(sum(report["seconds"].values()) / 60, 1)]
        else:
            row += [measure, *[None] * 6]
        rows.append(row)
    return rows


def as_csv(runs: Sequence[Path]) -> str:
    """Hyperparameters and results, one row for each run that has any."""
    rows = []
    for run in runs:
        report = report_of(run)
        if not report:
            continue
        row: dict[str, Any] = {"run": run.name, "command": report["command"]}
        for each in report["comparisons"]:
            name, interval = each["measure"], each["interval"]
            row |= {f"{name} zero-shot": each["before"], f"{name} adapted": each["after"]}
            row |= {f"{name} {end}": interval[end] for end in ("difference", "low", "high")}
        row |= {f"seconds of {stage}": took for stage, took in report["seconds"].items()}
        rows.append(row | report["settings"])
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is kept a text."""
    formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if formula else value


def figures_of(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """System -> measure -> query id -> figure, on the test queries."""
    evaluation = existing(run / "evaluation")
    if evaluation is None:
        raise InputError(f"{run.name} has no figures yet")
    return read_figures(evaluation)


@dataclass(frozen=True)
class Compared:
    """Two runs: what was set otherwise, and the paired difference of what they came to."""

    #: (key, in the first, in the second).
    settings: Sequence[tuple[str, str, str]]
    #: (measure, first, second, difference, low, high) of the adapted models.
    figures: Sequence[tuple[str, float, float, float, float, float]]
    note: str


def compare_runs(first: Path, second: Path) -> Compared:
    """Both runs' adapted models on the queries that both were tested on.

    Raises InputError where they have no such queries.
    """
    before, after = figures_of(first)[ADAPTED], figures_of(second)[ADAPTED]
    measures = [measure for measure in before if measure in after]
    shared = [q for q in before[measures[0]] if q in after[measures[0]]] if measures else []
    if not shared:
        raise InputError(f"{first.name} and {second.name} were tested on no query in common")
    rows = []
    for measure in measures:
        a, b = ([each[measure][q] for q in shared] for each in (before, after))
        interval = paired_bootstrap(a, b)
        figures = (sum(a) / len(a), sum(b) / len(b), interval.difference)
        rows.append((measure, *figures, interval.low, interval.high))
    left = {len(each[measures[0]]) - len(shared) for each in (before, after)} - {0}
    note = f"{len(shared):,} test queries, paired, 95% intervals of second minus first"
    note += "; each was asked others too, which are left out" if left else ""
    return Compared(_differing(first, second), rows, note)


def _differing(first: Path, second: Path) -> list[tuple[str, str, str]]:
    before, after = (report_of(run).get("settings", {}) for run in (first, second))
    return [
        (key, str(before.get(key, "")), str(after.get(key, "")))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def wins_and_losses(run: Path, measure: str) -> list[tuple[str, float, float, float]]:
    """(query id, zero-shot, adapted, difference) of every query that changed, losses first."""
    found = figures_of(run)
    if measure not in found[ADAPTED]:
        raise InputError(f"{run.name} did not measure {measure}")
    before: Mapping[str, float] = found[ZERO_SHOT][measure]
    after: Mapping[str, float] = found[ADAPTED][measure]
    rows = [(q, round(before[q], 4), round(after[q], 4)) for q in before]
    changed = [(q, b, a, round(a - b, 4)) for q, b, a in rows if a != b]
    return sorted(changed, key=lambda row: (row[3], row[0]))


def measures_of(run: Path) -> list[str]:
    """What a run measured, the recipe's primary measure first."""
    report = report_of(run)
    names = [each["measure"] for each in report.get("comparisons", ())]
    primary = report.get("settings", {}).get("evaluation.primary_metric")
    return sorted(names, key=lambda name: name != primary)
