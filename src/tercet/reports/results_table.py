"""The results of an experiment as terminal tables."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tercet.core.console import console
from tercet.core.text import interval_text
from tercet.evaluation.results import EXACT, Results
from tercet.reports.views import pair_of, ranked

_WIDE = 116  # characters; narrower terminals show fewer metrics


def print_results(results: Results) -> None:
    """Print the verdict, then quality, index and latency tables; gains are green, losses red."""
    if results.verdict:
        console.result(Text(results.verdict, "bold"))
    console.result(_quality(results))
    if any(cell.index != EXACT for cell in results.cells):
        console.print(_indexes(results))
    if any(cell.single for cell in results.cells):
        console.print(_latency(results))
    if results.forgetting:
        f = results.forgetting
        console.print(
            f"  out of domain, on {f.collection} ({f.queries:,} queries): "
            f"{results.primary} {f.before:.4f} -> {f.after:.4f}",
            *_difference(f.difference, f.low, f.high),
        )
    for note in results.notes:
        console.print(f"  {note}", style="dim")


def _quality(results: Results) -> Table:
    """Systems over the exact index, best first, each compared with the baseline."""
    primary = results.primary
    shown = [m for m in ("map@10", "mrr@10", "ndcg@10", "recall@100") if m in results.measures]
    wide = console.width >= _WIDE
    shown = [metric for metric in shown if metric != primary and wide]
    prices = {
        s.name: (s.dollars_per_1000_queries, s.dollars_per_million_passages)
        for s in results.systems
    }
    priced = any(price is not None for both in prices.values() for price in both)
    table = _titled(f"{results.title}, {results.queries:,} queries, exact search")
    table.add_column("system")
    compared = (f"- {results.baseline}", "95% interval", "p (Holm)")
    prices_of = ("$/1,000 q.", "$/M pass.") if priced else ()
    own = ("95% interval",) if wide else ()
    _add_numbers(table, (primary, *own, *compared, *shown, *prices_of))
    for cell in ranked(results):
        metric = cell.figures[primary]
        row: list[str | Text] = [cell.system, f"{metric.mean:.4f}"]
        row += [f"[{metric.low:.4f}, {metric.high:.4f}]"] if wide else []
        pair = pair_of(results, cell.system, results.baseline)
        row += _difference(pair.difference, pair.low, pair.high) if pair else ["", ""]
        row += [f"{pair.p_holm:.4f}" if pair else ""]
        row += [f"{cell.figures[name].mean:.4f}" for name in shown]
        row += ["" if p is None else f"{p:,.4f}" for p in prices[cell.system]] if priced else []
        table.add_row(*row)
    return table


def _difference(difference: float, low: float, high: float) -> list[Text]:
    style = "green" if low > 0 else "red" if high < 0 else "dim"
    return [Text(f"{difference:+.4f}", style), Text(interval_text(low, high), style)]


def _indexes(results: Results) -> Table:
    """Quality, overlap with exact search, and cost of each index."""
    table = _titled("indexes: recall lost and cost")
    table.add_column("index")
    table.add_column("system")
    _add_numbers(table, (results.primary, "recall@10", "build s", "memory MB", "disk MB"))
    for cell in results.cells:
        if cell.refused:
            table.add_row(cell.index, cell.system, Text(f"not supported: {cell.refused}", "yellow"))
            continue
        if cell.build is None and cell.index == EXACT:
            continue  # BM25, hybrids and rerankers have no vectors to index
        build = cell.build
        table.add_row(
            cell.index,
            cell.system,
            f"{cell.figures[results.primary].mean:.4f}",
            "" if cell.overlap is None else f"{cell.overlap:.4f}",
            f"{build.seconds:.1f}" if build else "",
            _megabytes(build.memory, build.note) if build else "",
            _megabytes(build.disk) if build else "",
        )
    return table


def _megabytes(size: int | None, note: str = "") -> str:
    return "" if size is None else f"{'~' if note else ''}{size / 1e6:,.1f}"


def _latency(results: Results) -> Table:
    """Latency in ms from the query's text to the top ten passages, and queries a second."""
    table = _titled("latency: from text to the top ten; ms a query, and queries a second")
    for name in ("system", "index"):
        table.add_column(name)
    _add_numbers(table, ("encode", "search", "p50", "p95", "p99", "q/s", "batched"))
    for cell in results.cells:
        if cell.single is None:
            continue
        phases, total = cell.single.phases, cell.single.total
        table.add_row(
            cell.system,
            cell.index,
            *(_short(phases[n].p50) if n in phases else "" for n in ("encode", "search")),
            *map(_short, (total.p50, total.p95, total.p99)),
            _short(total.per_second),
            _short(cell.batched.total.per_second) if cell.batched else "",
        )
    return table


def _short(value: float) -> str:
    """At least three significant digits."""
    return f"{value:,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def _titled(title: str) -> Table:
    return Table(
        title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )


def _add_numbers(table: Table, names: Iterable[str]) -> None:
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
