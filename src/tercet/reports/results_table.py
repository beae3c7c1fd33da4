"""Results -> tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from tercet.core.console import console
from tercet.evaluation.results import EXACT, Cell, Pair, Results

_WIDE = 116  # columns; a narrower terminal gets fewer figures, and the files hold them all


def print_results(results: Results) -> None:
    """Who is better, over which index, how fast: green for a gain beyond chance, red for a loss."""
    console.print(_quality(results))
    if any(cell.index != EXACT for cell in results.cells):
        console.print(_indexes(results))
    if any(cell.single for cell in results.cells):
        console.print(_clock(results))
    if results.forgetting:
        f = results.forgetting
        text, style = _difference(f.difference, f.low, f.high)
        console.print(
            f"  on {f.collection}, which nothing was adapted to ({f.queries:,} queries): "
            f"{results.primary} {f.before:.4f} -> {f.after:.4f} ",
            Text(text, style),
        )
    for note in results.notes:
        console.print(f"  {note}", style="dim")


def _quality(results: Results) -> Table:
    """Systems over the exact index, the best first, each beside the baseline."""
    primary = results.primary
    shown = [m for m in ("map@10", "mrr@10", "ndcg@10", "recall@100") if m in results.measures]
    wide = console.width >= _WIDE
    shown = [measure for measure in shown if measure != primary and wide]
    prices = {
        s.name: (s.dollars_per_1000_queries, s.dollars_per_million_passages)
        for s in results.systems
    }
    priced = any(price is not None for both in prices.values() for price in both)
    table = _titled(f"{results.title}, {results.queries:,} queries, exact search")
    table.add_column("system")
    beside = (f"- {results.baseline}", "95% interval", "p (Holm)")
    prices_of = ("$/1,000 q.", "$/M pass.") if priced else ()
    own = ("95% interval",) if wide else ()
    _add_figures(table, (primary, *own, *beside, *shown, *prices_of))
    for cell in _ranked(results):
        figure = cell.figures[primary]
        row: list[str | Text] = [cell.system, f"{figure.mean:.4f}"]
        row += [_span(figure.low, figure.high)] if wide else []
        row += _beside_baseline(results, cell.system)
        row += [f"{cell.figures[measure].mean:.4f}" for measure in shown]
        row += ["" if p is None else f"{p:,.4f}" for p in prices[cell.system]] if priced else []
        table.add_row(*row)
    return table


def _ranked(results: Results) -> list[Cell]:
    cells = [cell for cell in results.cells if cell.index == EXACT and not cell.refused]
    return sorted(cells, key=lambda cell: (-cell.figures[results.primary].mean, cell.system))


def _beside_baseline(results: Results, system: str) -> list[str | Text]:
    for pair in results.pairs:
        if {pair.first, pair.second} == {system, results.baseline}:
            sign = 1 if pair.first == system else -1
            low, high = sorted((sign * pair.low, sign * pair.high))
            text, style = _difference(sign * pair.difference, low, high)
            difference, _, span = text.partition(" ")
            return [Text(difference, style), Text(span, style), _p(pair)]
    return ["", "", ""]


def _p(pair: Pair) -> str:
    return f"{pair.p_holm:.4f}"


def _difference(difference: float, low: float, high: float) -> tuple[str, str]:
    style = "green" if low > 0 else "red" if high < 0 else "dim"
    return f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]", style


def _indexes(results: Results) -> Table:
    """What an index costs, and what it loses."""
    table = _titled("indexes: what each loses and costs")
    table.add_column("index")
    table.add_column("system")
    _add_figures(table, (results.primary, "recall@10", "build s", "memory MB", "disk MB"))
    for cell in results.cells:
        if cell.refused:
            table.add_row(cell.index, cell.system, Text(f"not possible: {cell.refused}", "yellow"))
            continue
        if cell.build is None and cell.index == EXACT:
            continue  # BM25 and what is made of others have no vectors of their own
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


def _clock(results: Results) -> Table:
    """Milliseconds from the query's text to the ten best passages."""
    table = _titled("the clock: from text to the ten best; ms by query, and queries a second")
    for name in ("system", "index"):
        table.add_column(name)
    _add_figures(table, ("encode", "search", "p50", "p95", "p99", "q/s", "batched"))
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
    """Three figures or more."""
    return f"{value:,.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def _titled(title: str) -> Table:
    """A table whose names wrap where the terminal is narrow, and whose figures never do."""
    return Table(
        title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )


def _add_figures(table: Table, names: Iterable[str]) -> None:
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)


def _span(low: float, high: float) -> str:
    return f"[{low:.4f}, {high:.4f}]"
