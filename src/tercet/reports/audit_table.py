"""The audit of a teacher as terminal tables."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from tercet.core.console import console
from tercet.core.text import difference_text
from tercet.evaluation.audit import Audit, HeadRoom, ListStatistics, Outlook
from tercet.evaluation.results import Margins

_ROWS = 20  # of the printed histogram
_BAR = 24  # characters
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_audit(audit: Audit) -> None:
    """Print tables, the histogram of margins, examples and the coloured verdict."""
    console.print(Text(f"audit of the teacher {audit.teacher}", "bold"))
    if audit.scorers:
        console.print(_scorers_table(audit))
    if audit.head_room:
        console.print(_head_room_table(audit.head_room))
    if audit.lists:
        console.print(_lists_table(audit.lists))
        console.print(_histogram(audit.lists.margins))
        _print_examples(audit.lists)
    colour = {Outlook.GOOD: "green", Outlook.UNKNOWN: "yellow", Outlook.BAD: "red"}
    console.print(Text(audit.verdict, f"bold {colour[audit.outlook]}"))


def _head_room_table(h: HeadRoom) -> Table:
    sample = "" if h.queries == h.judged else f"a sample of {h.queries:,} of "
    table = _titled(
        f"head-room: the model's top {h.depth} reranked by the teacher, {sample}{h.judgements}"
    )
    for name in ("metric", "model", "teacher", "difference", "won", "lost", "tied"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    counts = (f"{count:,}" for count in (h.wins, h.losses, h.ties))
    table.add_row(
        h.measure,
        f"{h.model:.4f}",
        f"{h.teacher:.4f}",
        difference_text(h.difference, h.low, h.high),
        *counts,
    )
    return table


def _scorers_table(audit: Audit) -> Table:
    """Each scorer by itself, then their mixture."""
    table = _titled("the scorers, each alone, and their mixture with the model's own scores")
    table.add_column("scorer")
    for name in ("weight", "head-room", "source's rank", "not first", "correlation"):
        table.add_column(name, justify="right")
    for one in audit.scorers:
        agreement = f"{one.rank:.2f}", f"{one.not_first:.1%}", f"{one.correlation:.2f}"
        table.add_row(one.scorer, f"{one.weight:.2f}", _room(one.head_room), *agreement)
    if lists := audit.lists:
        agreement = f"{lists.rank:.2f}", f"{lists.not_first:.1%}", f"{lists.correlation:.2f}"
        table.add_row("mixture", "", _room(audit.head_room), *agreement)
    return table


def _room(h: HeadRoom | None) -> str:
    return difference_text(h.difference, h.low, h.high) if h else "unknown"


def _lists_table(lists: ListStatistics) -> Table:
    table = _titled(f"{lists.queries:,} synthetic queries with their candidates")
    table.add_column("by the teacher")
    table.add_column("", justify="right")
    table.add_row("mean rank of the query's source passage", f"{lists.rank:.2f}")
    table.add_row("  in a list of", f"{lists.length:.1f}")
    table.add_row("mean logit of the query's source passage", f"{lists.logit:+.2f}")
    table.add_row("queries whose source passage is not first", f"{lists.not_first:.1%}")
    table.add_row(
        f"likely false negatives: over {lists.amount:.2f} logits above it",
        f"{lists.false_negatives:.1%}",
    )
    table.add_row("correlation with the model's scores within lists", f"{lists.correlation:.2f}")
    if lists.without_candidates:
        table.add_row("queries without candidates, excluded", f"{lists.without_candidates:,}")
    return table


def _histogram(margins: Margins) -> Table:
    """Histogram of the margins; bins are merged into about 20 rows, and a row begins at zero."""
    table = _titled(f"source passage minus candidate; teacher's margins x {margins.scale:.3g}")
    table.add_column("from", justify="right")
    table.add_column("teacher", min_width=_BAR)
    table.add_column("model", min_width=_BAR)
    zero = min(range(len(margins.edges)), key=lambda i: abs(margins.edges[i]))
    step = max(1, len(margins.teacher) // _ROWS)
    starts = sorted({0, *range(zero % step, len(margins.teacher), step)})
    ends = [*starts[1:], len(margins.teacher)]
    bars = []
    for counts in (margins.teacher, margins.student):
        rows = [sum(counts[a:b]) for a, b in zip(starts, ends, strict=True)]
        bars.append([_bar(count / max(rows)) for count in rows])
    for start, *both in zip(starts, *bars, strict=True):
        table.add_row(f"{margins.edges[start]:+.3f}" if start else "below", *both)
    return table


def _bar(share: float) -> str:
    eighths = math.ceil(share * _BAR * 8)  # any share above zero is visible
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _print_examples(lists: ListStatistics) -> None:
    if lists.examples:
        console.print(Text("likely false negatives, largest difference first", "bold"))
    for e in lists.examples:
        console.print(Text(f"  {e.query}", "cyan"))
        console.print(Text(f"    source     {e.positive_logit:+6.2f}  {e.positive_text}", "dim"))
        console.print(Text(f"    candidate  {e.candidate_logit:+6.2f}  {e.candidate_text}"))


def _titled(title: str) -> Table:
    return Table(title=Text(title), title_style="bold", title_justify="left")
