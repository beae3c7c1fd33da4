"""All runs in one table, two runs compared, and the queries that a run won or lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tercet.core.artifacts import existing
from tercet.core.schema import InputError
from tercet.core.text import csv_text
from tercet.reports.report import Comparison, compare
from tercet.retrieval import read_figures
from tercet.retrieval.significance import Interval
from tercet.studio.runs import changed, report_of, state

TEXTS = ("run", "state", "changed", "model", "ships", "metric")
COLUMNS = (*TEXTS, *("base", "trained", "difference", "low", "high", "minutes"))
#: What ships, in a column's words.
_SHIPS = {"base": "the base", "mixture": "part of the way", "trained": "adapted"}
_ADAPTED, _ZERO_SHOT = "adapted", "zero-shot"


def results(runs: Sequence[Path]) -> list[list[Any]]:
    """A row of `COLUMNS` for each run, with the recipe's primary metric if it was evaluated."""
    rows = []
    for run in runs:
        report = report_of(run)
        settings = report.get("settings", {})
        row: list[Any] = [
            run.name,
            state(run),
            changed(run),
            Path(settings.get("model.name", "")).name,
            _SHIPS.get(report.get("shipped", ""), ""),
        ]
        metric = settings.get("evaluation.primary_metric", "")
        found = next((c for c in comparisons_of(run) if c.measure == metric), None)
        if found:
            interval = found.interval
            values = [found.before, found.after, interval.difference, interval.low, interval.high]
            # Where the base model ships, there is no other to compare it with.
            known = 1 if ships_base(run) else len(values)
            row += [metric, *(round(value, 4) for value in values[:known])]
            row += [None] * (len(values) - known)
            row += [round(sum(report.get("seconds", {}).values()) / 60, 1)]
        else:
            row += [metric, *[None] * 6]
        rows.append(row)
    return rows


def as_csv(runs: Sequence[Path]) -> str:
    """A CSV of settings and results with a row for each finished run."""
    rows = []
    for run in runs:
        report = report_of(run)
        if not report:
            continue
        row: dict[str, Any] = {"run": run.name, "command": report["command"]}
        row |= {name: report.get(name, "") for name in ("shipped", "verdict")}
        for each in comparisons_of(run):
            name = each.measure
            if ships_base(run):
                row[f"{name} base"] = each.before
                continue
            row |= {f"{name} zero-shot": each.before, f"{name} adapted": each.after}
            row |= {f"{name} {end}": value for end, value in asdict(each.interval).items()}
        row |= {f"seconds of {stage}": took for stage, took in report.get("seconds", {}).items()}
        rows.append(row | report.get("settings", {}))
    return csv_text(rows)


def comparisons_of(run: Path) -> list[Comparison]:
    """Each metric of a finished run, zero-shot against adapted; empty before."""
    return [
        Comparison(each["measure"], each["before"], each["after"], Interval(**each["interval"]))
        for each in report_of(run).get("comparisons", ())
    ]


def ships_base(run: Path) -> bool:
    """Whether a finished run ships the base model unchanged."""
    return report_of(run).get("shipped") == "base"


def _per_query(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """System -> metric -> query id -> value, on the test queries."""
    evaluation = existing(run / "evaluation")
    if evaluation is None:
        raise InputError(f"{run.name} is not evaluated yet")
    return read_figures(evaluation)


@dataclass(frozen=True)
class Compared:
    """Two runs: the settings that differ, and both results with their paired difference."""

    #: (key, value in the first, value in the second).
    settings: Sequence[tuple[str, str, str]]
    #: Of the adapted models, the first run before the second.
    comparisons: Sequence[Comparison]
    note: str


def compare_runs(first: Path, second: Path) -> Compared:
    """Compare both runs' adapted models on the test queries that they share.

    Raises InputError if they share none.
    """
    both = [_per_query(run)[_ADAPTED] for run in (first, second)]
    metrics = [metric for metric in both[0] if metric in both[1]]
    shared = [q for q in both[0][metrics[0]] if q in both[1][metrics[0]]] if metrics else []
    if not shared:
        raise InputError(f"{first.name} and {second.name} were tested on no query in common")
    before, after = ({m: {q: each[m][q] for q in shared} for m in metrics} for each in both)
    comparisons = compare(before, after, resamples=10_000, seed=13)
    note = f"{len(shared):,} test queries, paired, 95% intervals of second minus first"
    if any(len(each[metrics[0]]) > len(shared) for each in both):
        note += "; queries that only one run was tested on are left out"
    return Compared(_differing(first, second), comparisons, note)


def _differing(first: Path, second: Path) -> list[tuple[str, str, str]]:
    before, after = (report_of(run).get("settings", {}) for run in (first, second))
    return [
        (key, str(before.get(key, "")), str(after.get(key, "")))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def wins_and_losses(run: Path, metric: str) -> list[tuple[str, float, float, float]]:
    """(query id, zero-shot, adapted, difference) of every query that changed, losses first."""
    found = _per_query(run)
    if metric not in found[_ADAPTED]:
        raise InputError(f"{run.name} was not evaluated with {metric}")
    before: Mapping[str, float] = found[_ZERO_SHOT][metric]
    after: Mapping[str, float] = found[_ADAPTED][metric]
    rows = [(q, round(before[q], 4), round(after[q], 4)) for q in before]
    changed = [(q, b, a, round(a - b, 4)) for q, b, a in rows if a != b]
    return sorted(changed, key=lambda row: (row[3], row[0]))


def metrics_of(run: Path) -> list[str]:
    """The metrics of a run, the recipe's primary metric first."""
    primary = report_of(run).get("settings", {}).get("evaluation.primary_metric")
    names = [each.measure for each in comparisons_of(run)]
    return sorted(names, key=lambda name: name != primary)
