"""Turns results into sentences that claim no more than the significance tests support."""

from __future__ import annotations

from markupsafe import Markup

from tercet.evaluation.results import Pair, Results
from tercet.reports.page.numbers import FILTERS
from tercet.reports.views import beyond_chance, pair_of, ranked

_NAMES = {"ndcg": "nDCG", "map": "MAP", "mrr": "MRR", "hit": "hit rate"}


def metric_name(metric: str) -> str:
    """A metric as papers write it: nDCG@10 for ndcg@10."""
    name, _, cutoff = metric.partition("@")
    return f"{_NAMES.get(name, name)}@{cutoff}" if cutoff else metric


def verdict(results: Results) -> tuple[Markup, list[Markup]]:
    """The run's verdict, or else the comparison's main finding; and further sentences."""
    finding, more = _finding(results)
    if not results.verdict:
        return finding, more
    said = [Markup("{}").format(sentence) for sentence in results.more]
    return Markup("{}").format(results.verdict), [*said, finding, *more]


def _finding(results: Results) -> tuple[Markup, list[Markup]]:
    """The main finding in one sentence (the best system, and whether its lead is significant).

    The list has further sentences: the difference with its interval, and other systems compared.
    """
    cells, baseline = ranked(results), results.baseline
    if not cells:
        return Markup("No system was evaluated over the exact index."), []
    best, others = cells[0].system, [cell.system for cell in cells[1:]]
    mean = FILTERS["metric"](cells[0].figures[results.primary].mean)
    role = ", the baseline," if best == baseline else ""
    rank = "has the highest" if others else "is the only system evaluated, with"
    top = Markup("{}{} {} {}: {}").format(
        _name(best), role, rank, metric_name(results.primary), mean
    )
    if not others:
        return top + ".", []
    rival = others[0] if best == baseline else baseline
    known = [best, rival]
    more = [_evidence(results, best, rival)]
    if others[0] not in known:
        known.append(others[0])
        more.append(_comparison(results, others[0], best))
    kinds = {system.name: system.kind for system in results.systems}
    for name in [s for s in others if kinds.get(s) == "adapted" and s != baseline]:
        if name not in known[:2]:
            known.append(name)
            more.append(_comparison(results, name, baseline))
    more += [
        _comparison(results, name, baseline)
        for name in others
        if name not in known and _clearly_below(results, name, baseline)
    ]
    return top + _claim(results, best, rival), more


def _clearly_below(results: Results, system: str, other: str) -> bool:
    pair = pair_of(results, system, other)
    return bool(pair and beyond_chance(pair) and pair.difference < 0)


def _name(system: str) -> Markup:
    return Markup("<b>{}</b>").format(system)


def _claim(results: Results, best: str, rival: str) -> Markup:
    """The end of the main sentence: the lead over the rival, and whether it is significant."""
    pair = pair_of(results, best, rival)
    other = _name(rival)
    if rival == results.baseline:
        other = Markup("the baseline {}").format(other)
    if pair is None:
        return Markup("; it was not compared with {}.").format(other)
    claims = {
        True: Markup(", {} above {}, a significant difference."),
        False: Markup(", but its lead of {} over {} may be due to chance."),
        None: Markup(
            ", {} above {}; whether that is significant is open, because the interval and the "
            "corrected test disagree."
        ),
    }
    return claims[beyond_chance(pair)].format(FILTERS["metric"](pair.difference), other)


def _evidence(results: Results, best: str, rival: str) -> Markup:
    pair = pair_of(results, best, rival)
    if pair is None:
        return Markup("")
    return Markup(
        "The difference is {}. With this many queries, a true difference of {} would probably be "
        "detected."
    ).format(_difference(pair), FILTERS["metric"](pair.detectable))


def _comparison(results: Results, system: str, other: str) -> Markup:
    """A sentence: above or below another system by how much, and whether that is significant."""
    pair = pair_of(results, system, other)
    if pair is None:
        return Markup("{} was not compared with {}.").format(_name(system), _name(other))
    side = "above" if pair.difference > 0 else "below" if pair.difference < 0 else "level with"
    significance = {
        True: "significant",
        False: "which may be due to chance",
        None: "significance open: the interval and the corrected test disagree",
    }
    return Markup("{} is {} {}: {}, {}.").format(
        _name(system), side, _name(other), _difference(pair), significance[beyond_chance(pair)]
    )


def _difference(pair: Pair) -> Markup:
    change, p = FILTERS["change"], FILTERS["p"]
    return Markup("{} [{}, {}], p {} (Holm)").format(
        change(pair.difference), change(pair.low), change(pair.high), p(pair.p_holm)
    )
