"""The report of a training run: in the terminal, as report.md and as metrics.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from tercet.core.console import console
from tercet.core.files import write_file, write_json
from tercet.core.text import difference_text, interval_text, seconds_text
from tercet.evaluation.verdict import Verdict
from tercet.forecast.forecast import ComparedForecast
from tercet.modeling.training.model_selection import Step
from tercet.reports.forecast_table import (
    FORECAST_HEADER,
    forecast_notes,
    forecast_rows,
    print_compared,
)
from tercet.reports.markdown import clean, table as markdown_table
from tercet.retrieval.significance import Interval, paired_bootstrap

_PerQuery = Mapping[str, Mapping[str, float]]  # values by metric and query

_HEADER = ("zero-shot", "adapted", "difference", "95% interval")
#: The one column where the base model ships: there is no other model.
_BASE_HEADER = ("base (ships)",)


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems on the same queries: means, and the paired difference."""

    measure: str
    before: float
    after: float
    interval: Interval


@dataclass(frozen=True)
class Hybrid:
    """The primary metric of searches with BM25: alone, and fused with each of both models.

    `comparison` is of the fusion by reciprocal ranks, `weighted` by a weighted sum of scores.
    """

    bm25: float
    comparison: Comparison
    weighted: Comparison


@dataclass(frozen=True)
class Report:
    """The result of a training run, and what is needed to check it."""

    title: str
    verdict: Verdict
    comparisons: Sequence[Comparison]
    hybrid: Hybrid
    #: Qualifications of the metric values, a sentence each.
    notes: Sequence[str]
    #: Interpolations between the base and the trained weights, one of which ships.
    steps: Sequence[Step] = ()
    #: Metric values of each evaluation during training; epoch 0 is zero-shot.
    history: Sequence[Mapping[str, float]] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Counts and other facts from each stage's manifest.
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: str = ""
    #: The forecast compared with the run, if one was made.
    forecast: ComparedForecast | None = None


def compare(before: _PerQuery, after: _PerQuery, *, resamples: int, seed: int) -> list[Comparison]:
    """Compare two systems on each metric, with a paired 95% bootstrap interval over queries."""
    comparisons = []
    for metric, values in before.items():
        b = np.array(list(values.values()))
        a = np.array([after[metric][query] for query in values])
        interval = paired_bootstrap(b, a, resamples=resamples, seed=seed)
        comparisons.append(Comparison(metric, float(b.mean()), float(a.mean()), interval))
    return comparisons


def metric_header(*, base_ships: bool = False) -> tuple[str, ...]:
    """The columns of `metric_rows`."""
    return ("metric", *(_BASE_HEADER if base_ships else _HEADER))


def metric_rows(
    comparisons: Sequence[Comparison], *, base_ships: bool = False
) -> list[tuple[str, ...]]:
    """Table rows: metric, both means, their difference and its interval.

    Where the base model ships both are one, and a row has its mean alone.
    """
    return [(c.measure, *_cells(c, base_ships)) for c in comparisons]


def _cells(c: Comparison, base_ships: bool) -> tuple[str, ...]:
    if base_ships:
        return (f"{c.before:.4f}",)
    return (
        f"{c.before:.4f}",
        f"{c.after:.4f}",
        f"{c.interval.difference:+.4f}",
        interval_text(c.interval.low, c.interval.high),
    )


def _search_rows(report: Report) -> list[tuple[tuple[str, ...], Comparison | None]]:
    """Rows of the primary metric by kind of search, with what they compare."""
    base_ships, hybrid = _base_ships(report), report.hybrid
    dense = next(c for c in report.comparisons if c.measure == hybrid.comparison.measure)
    empty = ("",) * (len(metric_header(base_ships=base_ships)) - 2)
    return [
        (("dense", *_cells(dense, base_ships)), dense),
        (("with BM25, by ranks", *_cells(hybrid.comparison, base_ships)), hybrid.comparison),
        (("with BM25, by scores", *_cells(hybrid.weighted, base_ships)), hybrid.weighted),
        (("BM25 alone", f"{hybrid.bm25:.4f}", *empty), None),
    ]


def _search_header(report: Report) -> tuple[str, ...]:
    measure = report.hybrid.comparison.measure
    return (f"search, {measure}", *metric_header(base_ships=_base_ships(report))[1:])


def _base_ships(report: Report) -> bool:
    return report.verdict.shipped == "base"


def print_report(report: Report) -> None:
    """Print the verdict, the comparisons, the choice of what ships, the notes and the times."""
    print_verdict(report.verdict)
    base_ships = _base_ships(report)
    rows = metric_rows(report.comparisons, base_ships=base_ships)
    table = zip(rows, report.comparisons, strict=True)
    _print_comparison(report.title, metric_header(base_ships=base_ships), table)
    _print_comparison(
        "alone and in a hybrid search",
        _search_header(report),
        _search_rows(report),
    )
    if report.steps:
        _print_steps(report.steps)
    for note in report.notes:
        console.print(f"  {note}")
    parts = ", ".join(f"{name} {seconds_text(value)}" for name, value in report.seconds.items())
    console.print(f"  time: {seconds_text(sum(report.seconds.values()))} ({parts})")
    if report.forecast:
        print_compared(report.forecast)


def print_verdict(verdict: Verdict) -> None:
    """Print the verdict: red if judged queries contradict it, green if what ships is new."""
    style = "yellow" if verdict.shipped == "base" else "green"
    console.result(Text(verdict.text, "bold red" if verdict.contradicted else f"bold {style}"))
    for sentence in verdict.more:
        console.print(Text(sentence))


def _print_comparison(
    title: str, header: Sequence[str], rows: Iterable[tuple[Sequence[str], Comparison | None]]
) -> None:
    """Print the table: significant gains are green, significant losses red."""
    console.print(Text(title, "bold"))  # a table's own title is no wider than the table
    table = Table()
    table.add_column(header[0])
    for name in header[1:]:
        table.add_column(name, justify="right")
    for row, compared in rows:
        style = "dim"
        if compared and compared.interval.excludes_zero:
            style = "green" if compared.interval.difference > 0 else "red"
        table.add_row(*row[:3], *(Text(text, style) for text in row[3:]))
    console.print(table)


def _print_steps(steps: Sequence[Step]) -> None:
    title = "gain over the base model by trained weight, chosen without labels"
    table = Table(title=title, title_style="bold", title_justify="left")
    header, rows = _steps(steps)
    table.add_column(header[0])
    for name in header[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def write_report(report: Report, folder: Path) -> None:
    """Write metrics.json and report.md to the run's folder."""
    found = asdict(report)
    verdict = found.pop("verdict")
    write_json(folder / "metrics.json", {"verdict": verdict.pop("text"), **verdict, **found})
    write_file(folder / "report.md", _markdown(report).encode())


def _markdown(report: Report) -> str:
    lines = [clean(report.verdict.text), ""]
    lines += [line for sentence in report.verdict.more for line in (clean(sentence), "")]
    lines += [f"# {report.title}", ""]
    lines += comparison_table(report)
    lines += ["", *(f"- {note}" for note in report.notes)]
    if report.steps:
        lines += ["", "## Choice of the weights, without labels, and their test results", ""]
        lines += steps_table(report.steps)
    if report.history:
        lines += ["", "## Evaluations during training, on the validation queries", ""]
        names = [name for name in report.history[0] if name not in ("epoch", "step")]
        evaluations = [
            (f"{e['epoch']:g}", f"{e['step']}", *(f"{e[name]:.4f}" for name in names))
            for e in report.history
        ]
        lines += markdown_table(("epoch", "step", *names), evaluations)
    lines += ["", "## Time", ""]
    times = [(name, seconds_text(value)) for name, value in report.seconds.items()]
    lines += markdown_table(("stage", "time"), times)
    if report.forecast:
        lines += ["", "## Forecast and actual use", "", *forecast_notes(report.forecast), ""]
        lines += markdown_table(FORECAST_HEADER, forecast_rows(report.forecast))
    lines += ["", "## Counts of each stage", ""]
    counts = [
        (stage, name.replace("_", " "), f"{value:,.6g}" if isinstance(value, float) else str(value))
        for stage, facts in report.facts.items()
        for name, value in facts.items()
    ]
    lines += markdown_table(("stage", "quantity", "value"), counts)
    lines += ["", "## Settings", "", f"`{report.command}`", ""]
    lines += markdown_table(
        ("key", "value"), [(f"`{n}`", f"`{v}`") for n, v in report.settings.items()]
    )
    return "\n".join(lines) + "\n"


def comparison_table(report: Report) -> list[str]:
    """The comparisons as lines of two Markdown tables: by metric, and by kind of search."""
    base_ships = _base_ships(report)
    by_metric = metric_rows(report.comparisons, base_ships=base_ships)
    searches = [row for row, _ in _search_rows(report)]
    return [
        *markdown_table(metric_header(base_ships=base_ships), by_metric),
        "",
        *markdown_table(_search_header(report), searches),
    ]


def steps_table(steps: Sequence[Step]) -> list[str]:
    """Gains of each interpolation weight as lines of a Markdown table; `steps` is not empty."""
    return markdown_table(*_steps(steps))


def _steps(steps: Sequence[Step]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: gains over the base model by interpolation weight and split."""
    first = steps[0]
    header = (
        "trained weight",
        f"validation, {first.measure}",
        f"confirmation, {first.measure}",
        f"test, {first.test_measure}",
    )
    gains = [map(_gain, (step.validation, step.guard, step.test)) for step in steps]
    return header, [(f"{s.weight:g}", *cells) for s, cells in zip(steps, gains, strict=True)]


def _gain(interval: Interval | None) -> str:
    if interval is None:
        return "not measured on these queries"
    return difference_text(interval.difference, interval.low, interval.high)
