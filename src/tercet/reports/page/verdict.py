"""What an experiment says, in words that its figures bear."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from tercet.reports.page.numbers import FILTERS

EXACT = "exact"
ALPHA = 0.05

_NAMES = {"ndcg": "nDCG", "map": "MAP", "mrr": "MRR", "hit": "hit rate"}


def measure_name(measure: str) -> str:
    """A measure as the field writes it: ndcg@10 is nDCG@10."""
    name, _, cutoff = measure.partition("@")
    return f"{_NAMES.get(name, name)}@{cutoff}" if cutoff else measure


def ranked(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Each system's cell over the exact index, the best on the primary measure first."""
    primary = results["primary"]
    cells = [
        cell
        for cell in results["cells"]
        if cell["index"] == EXACT and not cell["refused"] and primary in cell["figures"]
    ]
    return sorted(cells, key=lambda cell: (-cell["figures"][primary]["mean"], cell["system"]))


def gap(results: dict[str, Any], system: str, other: str) -> dict[str, Any] | None:
    """Their pair as seen from `system`: differences are its figure minus the other's.

    `beyond_chance` is True or False where the interval and the corrected test agree, else None.
    """
    for pair in results["pairs"]:
        if (pair["first"], pair["second"]) == (system, other):
            seen = dict(pair)
        elif (pair["first"], pair["second"]) == (other, system):
            seen = pair | {
                "difference": pair["difference"].negative(),
                "low": pair["high"].negative(),
                "high": pair["low"].negative(),
                "wins": pair["losses"],
                "losses": pair["wins"],
            }
        else:
            continue
        signs = seen["low"] > 0 or seen["high"] < 0, seen["p_holm"] < ALPHA
        return seen | {"beyond_chance": signs[0] if signs[0] == signs[1] else None}
    return None


def verdict(results: dict[str, Any]) -> tuple[Markup, list[Markup]]:
    """One sentence on who is best and whether that is beyond chance, and what else to know."""
    cells, baseline = ranked(results), results["baseline"]
    if not cells:
        return Markup("No system was measured over the exact index."), []
    best, others = cells[0]["system"], [cell["system"] for cell in cells[1:]]
    say = Markup("{}{} is {}, with {} {}")
    mean = FILTERS["figure"](cells[0]["figures"][results["primary"]]["mean"])
    role, rank = ", the baseline," if best == baseline else "", "highest" if others else "alone"
    top = say.format(_name(best), role, rank, measure_name(results["primary"]), mean)
    if not others:
        return top + ": there is nothing to compare it with.", []
    rival = others[0] if best == baseline else baseline
    known = [best, rival]
    more = [_evidence(results, best, rival)]
    if others[0] not in known:
        known.append(others[0])
        more.append(_beside(results, others[0], best))
    kinds = {system["name"]: system["kind"] for system in results["systems"]}
    for name in [s for s in others if kinds.get(s) == "adapted" and s != baseline]:
        if name not in known[:2]:
            known.append(name)
            more.append(_beside(results, name, baseline))
    more += [
        _beside(results, name, baseline)
        for name in others
        if name not in known and _clearly_below(results, name, baseline)
    ]
    return top + _claim(results, best, rival), more


def _clearly_below(results: dict[str, Any], system: str, other: str) -> bool:
    seen = gap(results, system, other)
    return bool(seen and seen["beyond_chance"] and seen["difference"] < 0)


def _name(system: str) -> Markup:
    return Markup("<b>{}</b>").format(system)


def _claim(results: dict[str, Any], best: str, rival: str) -> Markup:
    """The end of the sentence: how far ahead of the rival, and whether that means anything."""
    seen = gap(results, best, rival)
    whom = _name(rival)
    if rival == results["baseline"]:
        whom = Markup("the baseline {}").format(whom)
    if seen is None:
        return Markup("; it was not compared with {}.").format(whom)
    words = {
        True: Markup(": {} above {}, which is beyond chance."),
        False: Markup(", but its lead of {} over {} may be chance."),
        None: Markup(": {} above {}, which may or may not be chance."),
    }
    lead = FILTERS["figure"](seen["difference"])
    return words[seen["beyond_chance"]].format(lead, whom)


def _evidence(results: dict[str, Any], best: str, rival: str) -> Markup:
    seen = gap(results, best, rival)
    if seen is None:
        return Markup("")
    say = Markup("The difference is {}. This many queries would likely show a true one of {}.")
    return say.format(_figures(seen), FILTERS["figure"](seen["detectable"]))


def _beside(results: dict[str, Any], system: str, other: str) -> Markup:
    """A sentence: above or below another by how much, and whether that is more than chance."""
    seen = gap(results, system, other)
    if seen is None:
        return Markup("{} was not compared with {}.").format(_name(system), _name(other))
    difference = seen["difference"]
    side = "above" if difference > 0 else "below" if difference < 0 else "level with"
    chance = {True: "beyond chance", False: "which may be chance", None: _OPEN}
    return Markup("{} is {} {}: {}, {}.").format(
        _name(system), side, _name(other), _figures(seen), chance[seen["beyond_chance"]]
    )


_OPEN = "which is open, as the interval and the corrected test disagree"


def _figures(seen: dict[str, Any]) -> Markup:
    change, p = FILTERS["change"], FILTERS["p"]
    return Markup("{} [{}, {}], p {} (Holm)").format(
        change(seen["difference"]), change(seen["low"]), change(seen["high"]), p(seen["p_holm"])
    )
