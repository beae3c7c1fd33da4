"""Views of an experiment's results that the terminal tables and the page share."""

from __future__ import annotations

from dataclasses import replace

from tercet.evaluation.results import EXACT, Cell, Pair, Results

_ALPHA = 0.05  # significance level of the corrected test


def ranked(results: Results) -> list[Cell]:
    """Each system's cell over the exact index, sorted by the primary metric, best first."""
    primary = results.primary
    cells = [
        cell
        for cell in results.cells
        if cell.index == EXACT and not cell.refused and primary in cell.figures
    ]
    return sorted(cells, key=lambda cell: (-cell.figures[primary].mean, cell.system))


def pair_of(results: Results, system: str, other: str) -> Pair | None:
    """The comparison of two systems with `system` first: differences are `system` minus `other`."""
    for pair in results.pairs:
        if (pair.first, pair.second) == (system, other):
            return pair
        if (pair.first, pair.second) == (other, system):
            return replace(
                pair,
                first=system,
                second=other,
                difference=-pair.difference,
                low=-pair.high,
                high=-pair.low,
                wins=pair.losses,
                losses=pair.wins,
            )
    return None


def beyond_chance(pair: Pair) -> bool | None:
    """Whether a difference is significant; None where interval and corrected test disagree."""
    excludes_zero = pair.low > 0 or pair.high < 0
    return excludes_zero if excludes_zero == (pair.p_holm < _ALPHA) else None
