"""Results -> tables in the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from tercet.console import console
from tercet.retrieval.results import EXACT, Cell, Pair, Results


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
    shown = [measure for measure in shown if measure != primary]
    table = _titled(f"{results.title}, {results.queries:,} queries, exact search")
    table.add_column("system")
    for name in (primary, "95% interval", f"- {results.baseline}", "95% interval", "p (Holm)"):
        table.add_column(name, justify="right")
    for measure in shown:
        table.add_column(measure, justify="right")
    for cell in _ranked(results):
        figure = cell.figures[primary]
        row: list[str | Text] = [cell.system, f"{figure.mean:.4f}", _span(figure.low, figure.high)]
        row += _beside_baseline(results, cell.system)
        table.add_row(*row, *(f"{cell.figures[measure].mean:.4f}" for measure in shown))
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
    for name in (results.primary, "recall@10", "build s", "memory MB", "disk MB"):
        table.add_column(name, justify="right")
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
    for name in ("encode", "search", "p50", "p95", "p99", "q/s", "batched q/s"):
        table.add_column(name, justify="right")
    for cell in results.cells:
        if cell.single is None:
            continue
        phases, total = cell.single.phases, cell.single.total
        table.add_row(
            cell.system,
            cell.index,
            *(f"{phases[name].p50:.2f}" if name in phases else "" for name in ("encode", "search")),
            *(f"{value:.2f}" for value in (total.p50, total.p95, total.p99)),
            f"{total.per_second:,.0f}",
            f"{cell.batched.total.per_second:,.0f}" if cell.batched else "",
        )
    return table


def _titled(title: str) -> Table:
    return Table(title=title, title_style="bold", title_justify="left")


def _span(low: float, high: float) -> str:
    return f"[{low:.4f}, {high:.4f}]"
