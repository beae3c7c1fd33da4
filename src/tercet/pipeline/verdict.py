"""The verdict of a run in words: what ships, on what evidence, and what to do next.

Held-out synthetic queries decide what ships, and judged ones too where they gate; the judged
queries that are reported only say whether they agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tercet.core.text import difference_text
from tercet.retrieval.significance import Interval, paired_bootstrap, queries_needed

Shipped = Literal["base", "mixture", "trained"]
#: Weight of the trained model in a mixture -> split -> metric -> query id -> value.
MetricsByWeight = Mapping[float, Mapping[str, Mapping[str, Mapping[str, float]]]]

#: The smallest mean difference of a metric that is worth finding.
SMALLEST = 0.01
#: Fewer queries than these show neither a difference of that size nor its absence.
_FEWEST = 50
_PARTS = {0.25: "a quarter", 0.5: "half", 0.75: "three quarters"}


@dataclass(frozen=True)
class Verdict:
    """What a run ships and why, for every view of it. `str()` is its first line."""

    shipped: Shipped
    #: The first line: what ships, what judged queries say, what to do next.
    text: str
    reason: str
    next: str
    #: Whether the reported queries contradict what ships.
    contradicted: bool = False
    #: Further sentences.
    more: Sequence[str] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Evidence:
    """A model's mean difference from the base model on some queries."""

    metric: str
    queries: int
    interval: Interval
    #: Queries with which a difference as large, or of `SMALLEST`, would be found.
    needed: int

    @classmethod
    def of(cls, metric: str, before: Mapping[str, float], after: Mapping[str, float]) -> Evidence:
        """Compare the values of the same queries, with a 95% interval."""
        b, a = (np.array([values[query] for query in before]) for values in (before, after))
        interval = paired_bootstrap(b, a)
        worth = max(abs(interval.difference), SMALLEST)
        (needed,) = queries_needed((a - b)[:, None], worth).tolist() if len(b) > 1 else (0.0,)
        return cls(metric, len(b), interval, _rounded(max(needed, _FEWEST)))

    @property
    def text(self) -> str:
        """The metric and its difference with the interval."""
        found = self.interval
        return f"{self.metric} {difference_text(found.difference, found.low, found.high)}"

    @property
    def unchanged(self) -> bool:
        """Whether no query's value differs."""
        return self.interval.low == self.interval.high == 0


@dataclass(frozen=True)
class Selection:
    """What the held-out queries chose, those that gate among them.

    `best` is the mixture that the validation queries chose and `weight` the one that ships.
    """

    weight: float
    best: float
    #: Of `best`, on the confirmation queries; None where it is the base model.
    confirmation: Evidence | None
    #: Of the trained weights, on all held-out queries.
    trained: Evidence
    #: On the gating queries, of the mixture that was chosen but for them; None: they agree.
    turned_down: Evidence | None = None

    @classmethod
    def of(
        cls, metrics: MetricsByWeight, weight: float, best: float, metric: str, gate: str
    ) -> Selection:
        """Read it from the metric values of all mixtures; `gate` is the gating queries' metric."""

        def values(weight: float, split: str, metric: str = metric) -> Mapping[str, float]:
            return metrics[weight][split][metric]

        def both(weight: float) -> dict[str, float]:
            return {**values(weight, "validation"), **values(weight, "guard")}

        ungated = best
        if "gate" in metrics[0.0]:
            means = {w: np.mean([*values(w, "validation").values()]) for w in sorted(metrics)}
            ungated = max(means, key=means.__getitem__)  # the first of equals, as in the choice
        return cls(
            weight,
            best,
            Evidence.of(metric, values(0.0, "guard"), values(best, "guard")) if best else None,
            Evidence.of(metric, both(0.0), both(max(metrics))),
            Evidence.of(gate, values(0.0, "gate", gate), values(ungated, "gate", gate))
            if ungated != best
            else None,
        )

    @property
    def shipped(self) -> Shipped:
        """What ships, in one word."""
        return "trained" if self.weight == 1 else "mixture" if self.weight else "base"


@dataclass(frozen=True)
class Reported:
    """The queries that are reported, which chose nothing: of what ships, or could have.

    `split` is the name of their judgements, "" for held-out synthetic queries.
    """

    evidence: Evidence
    split: str

    @property
    def who(self) -> str:
        """The queries with their number."""
        return _count(self.evidence.queries, "judged" if self.split else "held-out test")


def verdict_of(
    chosen: Selection, reported: Reported | None = None, *, gate: str = "", more: Sequence[str] = ()
) -> Verdict:
    """The verdict of a run; without `reported`, before its evaluation, of held-out queries alone.

    Where the base model ships, `reported` is of the trained weights. `gate` is the split that
    gates, "" if none does.
    """
    make = _of_trained if chosen.weight else _of_base
    return replace(make(chosen, reported, gate), more=tuple(more))


def _of_trained(chosen: Selection, reported: Reported | None, gate: str) -> Verdict:
    assert chosen.confirmation
    ships, held = "the adapted model", chosen.confirmation
    if chosen.shipped == "mixture":
        part = _PARTS.get(chosen.weight, f"{chosen.weight:.0%}")
        ships = f"part of the way ({part} of the trained weights)"
    reason = f"{_count(held.queries, 'held-out synthetic')} gain: {held.text}"
    if not held.interval.excludes_zero:
        reason += ", which may be chance"
    if chosen.turned_down:
        reason += f"; queries of split {gate} turned more down: {chosen.turned_down.text}"
    if reported is None:
        return Verdict(chosen.shipped, f"Ships: {ships}. {reason}.", reason, "evaluate it")
    found, who = reported.evidence, reported.who
    if found.interval.high < 0:
        advice = "do not deploy; judge more queries, or take another teacher"
        if reported.split and not gate:
            advice = f"do not deploy; gate with evaluation.gate: {reported.split}"
        text = f"{who} contradict the held-out ones: {found.text}. Ships all the same: {ships}"
        text = f"{text}; {reason}. Next: {advice}."
        return Verdict(chosen.shipped, text, reason, advice, contradicted=True)
    if found.interval.low > 0:
        says, advice = f"{who} agree: {found.text}", "deploy it"
    elif found.unchanged:
        says, advice = f"{who} find what they found before", "judge harder queries"
    else:
        says, advice = f"{who} leave it open: {found.text}", "judge more queries"
        if found.needed > found.queries:
            says += f", and about {found.needed:,} in all would decide"
    if not reported.split:
        advice = "judge some queries of your users, none has tested it"
    text = f"Ships: {ships}. {says}. {reason}. Next: {advice}."
    return Verdict(chosen.shipped, text, reason, advice)


def _of_base(chosen: Selection, reported: Reported | None, gate: str) -> Verdict:
    reason, advice = _why_base(chosen, gate)
    ships = f"the base model, unchanged: {reason}"
    if reported is None or reported.evidence.unchanged:
        return Verdict("base", f"Ships: {ships}. Next: {advice}.", reason, advice)
    found = f"{reported.who} say of the trained weights: {reported.evidence.text}"
    if reported.evidence.interval.low > 0:
        advice = "write synthetic queries as your users do (queries.generators)"
        text = f"{reported.who} contradict the choice: the trained weights gain on them, "
        text += f"{reported.evidence.text}. Ships all the same: {ships}. Next: {advice}."
        return Verdict("base", text, reason, advice, contradicted=True)
    return Verdict("base", f"Ships: {ships}. {found}. Next: {advice}.", reason, advice)


def _why_base(chosen: Selection, gate: str) -> tuple[str, str]:
    """The reason, and what to do next."""
    trained, held = chosen.trained, chosen.confirmation or chosen.trained
    who, down = _count(held.queries, "held-out synthetic"), chosen.turned_down
    if down and not chosen.best:
        reason = f"{_count(down.queries, 'gating')} of split {gate} turned down what held-out ones "
        reason += f"chose, {down.text}"
        return reason, "write queries as your users do (queries.generators), or another teacher"
    for evidence in (trained, held):
        if evidence.interval.high < 0:
            harmed = _count(evidence.queries, "held-out synthetic")
            reason = f"training did harm, {evidence.text} on {harmed}"
            advice = "lower training.learning_rate or take another teacher; the audit tells what "
            return reason, advice + "it knows"
    if trained.unchanged:
        advice = "raise training.learning_rate, or train longer"
        return f"training changed nothing that {who} find", advice
    if held.needed > held.queries:
        advice = f"raise queries.count {math.ceil(held.needed / held.queries)}-fold"
        return f"{who} cannot decide, {held.text}, and about {held.needed:,} would", advice
    if held.interval.low > 0:  # all of them gain, and those that choose do not
        return f"{who} do not agree, {held.text}", "raise queries.count, a part of it is held out"
    advice = "take another teacher or other synthetic queries, more of the same will not help"
    return f"{who} show no gain, {held.text}", advice


def _count(number: int, kind: str) -> str:
    return f"{number:,} {kind} quer{'y' if number == 1 else 'ies'}"


def _rounded(number: float) -> int:
    """Two significant digits, upwards."""
    unit = 10.0 ** max(0, math.floor(math.log10(number)) - 1)
    return int(math.ceil(number / unit) * unit)
