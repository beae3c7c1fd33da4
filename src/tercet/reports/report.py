"""Figures -> what people read: a table in the terminal, report.md, metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from tercet.core.console import console
from tercet.core.files import write_file, write_json
from tercet.forecast.forecast import ComparedForecast
from tercet.modeling.training.model_selection import Step
from tercet.reports.forecast_table import HEADER, comparison_notes, comparison_rows, print_compared
from tercet.reports.markdown import table as markdown_table
from tercet.retrieval.metrics import mean
from tercet.retrieval.significance import Interval, paired_bootstrap

PerQuery = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Comparison:
    """One measure of two systems on the same queries."""

    measure: str
    before: float
    after: float
    interval: Interval


@dataclass(frozen=True)
class Report:
    """A run's result, with all that a sceptic asks for."""

    title: str
    comparisons: Sequence[Comparison]
    #: Sentences that the figures must not be read without.
    notes: Sequence[str]
    #: Mixtures of the model as it came and as trained, one of which ships.
    steps: Sequence[Step] = ()
    #: One row of figures for each evaluation in training, epoch 0 being zero-shot.
    history: Sequence[Mapping[str, float]] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: What each stage counted.
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: str = ""
    #: What was expected before the run, where anything was, beside what happened.
    forecast: ComparedForecast | None = None


def compare(before: PerQuery, after: PerQuery, *, resamples: int, seed: int) -> list[Comparison]:
    """Each measure's means, and the paired 95% interval of their difference over queries."""
    comparisons = []
    for measure, values in before.items():
        b = np.array(list(values.values()))
        a = np.array([after[measure][query] for query in values])
        interval = paired_bootstrap(b, a, resamples=resamples, seed=seed)
        comparisons.append(Comparison(measure, float(b.mean()), float(a.mean()), interval))
    return comparisons


def print_report(report: Report) -> None:
    """The comparison as a coloured table, and what it must not be read without."""
    print_comparison(report.title, report.comparisons)
    if report.steps:
        _print_steps(report.steps)
    for note in report.notes:
        console.print(f"  {note}")
    parts = ", ".join(f"{name} {_clock(value)}" for name, value in report.seconds.items())
    console.print(f"  time: {_clock(sum(report.seconds.values()))} ({parts})")
    if report.forecast:
        print_compared(report.forecast)


def print_comparison(title: str, comparisons: Sequence[Comparison]) -> None:
    """A coloured table: green where a gain's interval excludes zero, red where a loss's does."""
    table = Table(title=title, title_style="bold", title_justify="left")
    table.add_column("measure")
    for name in ("zero-shot", "adapted", "difference", "95% interval"):
        table.add_column(name, justify="right")
    for c in comparisons:
        style = "dim"
        if c.interval.excludes_zero:
            style = "green" if c.interval.difference > 0 else "red"
        difference, span = f"{c.interval.difference:+.4f}", _span(c.interval)
        table.add_row(
            c.measure,
            f"{c.before:.4f}",
            f"{c.after:.4f}",
            Text(difference, style),
            Text(span, style),
        )
    console.print(table)


def _print_steps(steps: Sequence[Step]) -> None:
    """What chose and what guarded, beside the test: gains over the model as it came."""
    table = Table(title="chosen without labels", title_style="bold", title_justify="left")
    table.add_column("trained part")
    first = steps[0]
    for name in (f"validation {first.measure}", f"guard {first.measure}"):
        table.add_column(name, justify="right")
    table.add_column(f"test {first.test_measure}", justify="right")
    for step in steps:
        table.add_row(f"{step.weight:g}", *map(_gain, (step.validation, step.guard, step.test)))
    console.print(table)


def print_means(title: str, figures: PerQuery) -> None:
    """One system's means as a table."""
    table = Table("measure", "mean", title=title, title_style="bold", title_justify="left")
    for measure, value in mean(figures).items():
        table.add_row(measure, f"{value:.4f}")
    console.print(table)


def write_report(report: Report, folder: Path) -> None:
    """`metrics.json` and `report.md` in the run's folder."""
    write_json(folder / "metrics.json", asdict(report))
    write_file(folder / "report.md", markdown(report).encode())


def markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = [f"# {report.title}", "", *comparison_table(report.comparisons)]
    lines += ["", *(f"- {note}" for note in report.notes)]
    if report.steps:
        lines += ["", "## What was chosen without labels, and what the test queries say of it", ""]
        lines += steps_table(report.steps)
    if report.history:
        lines += ["", "## Every evaluation, on the validation queries", ""]
        names = [name for name in report.history[0] if name not in ("epoch", "step")]
        evaluations = [
            (f"{e['epoch']:g}", f"{e['step']}", *(f"{e[name]:.4f}" for name in names))
            for e in report.history
        ]
        lines += markdown_table(("epoch", "step", *names), evaluations)
    lines += ["", "## Time", ""]
    lines += markdown_table(("stage", "time"), [(n, _clock(v)) for n, v in report.seconds.items()])
    if report.forecast:
        lines += ["", "## Forecast and fact", "", *comparison_notes(report.forecast), ""]
        lines += markdown_table(HEADER, comparison_rows(report.forecast))
    lines += ["", "## What the stages counted", ""]
    counts = [
        (stage, name.replace("_", " "), f"{value:,.6g}" if isinstance(value, float) else str(value))
        for stage, facts in report.facts.items()
        for name, value in facts.items()
    ]
    lines += markdown_table(("stage", "what", "value"), counts)
    lines += ["", "## Settings", "", f"`{report.command}`", ""]
    lines += markdown_table(
        ("key", "value"), [(f"`{n}`", f"`{v}`") for n, v in report.settings.items()]
    )
    return "\n".join(lines) + "\n"


def comparison_table(comparisons: Sequence[Comparison]) -> list[str]:
    """Lines of a Markdown table: both means of each metric, and the interval of the difference."""
    header = ("metric", "zero-shot", "adapted", "difference", "95% interval")
    return markdown_table(header, metric_rows(comparisons))


def metric_rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Table rows: metric, both means, their difference and its interval."""
    return [
        (
            c.measure,
            f"{c.before:.4f}",
            f"{c.after:.4f}",
            f"{c.interval.difference:+.4f}",
            _span(c.interval),
        )
        for c in comparisons
    ]


def steps_table(steps: Sequence[Step]) -> list[str]:
    """Lines of a Markdown table: what chose and what guarded, beside the test."""
    first = steps[0]
    header = (
        "trained weights' part",
        f"validation, {first.measure}",
        f"guard, {first.measure}",
        f"test, {first.test_measure}",
    )
    gains = [map(_gain, (step.validation, step.guard, step.test)) for step in steps]
    rows = [(f"{s.weight:g}", *cells) for s, cells in zip(steps, gains, strict=True)]
    return markdown_table(header, rows)


def _gain(interval: Interval | None) -> str:
    if interval is None:
        return "not measured on these queries"
    return f"{interval.difference:+.4f} {_span(interval)}"


def _span(interval: Interval) -> str:
    return f"[{interval.low:+.4f}, {interval.high:+.4f}]"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
