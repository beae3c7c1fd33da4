"""After training: how far to go from the model as it came to the trained one, and whether at all.

Held-out synthetic queries choose how far; others of them, which chose nothing, guard the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from tercet.core.schema import Index
from tercet.modeling.training.callbacks import Found, RetrievalEvaluation, means

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Choice:
    """What ships: `weight` of the way from the model as it came (0) to the trained one (1).

    `best` is the weight that the validation queries chose. Where it did not gain on the guard's
    queries, by `gain` on average, the model as it came ships. `found` has each weight's figures;
    `index` what was filled with the shipped model's passages, in the first process.
    """

    weight: float
    best: float
    gain: float
    found: Mapping[float, Found]
    index: Index | None


def choose(
    model: nn.Module, base: Weights, evaluation: RetrievalEvaluation, *, steps: int, measure: str
) -> Choice:
    """Measure the model's weights at each of `steps` even steps from `base`, and load the choice.

    The validation split's mean of `measure` chooses, and of equals the nearest to the base.
    """
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    found: dict[float, Found] = {}
    best, kept = 0.0, None
    for step in range(steps + 1):
        weight = step / steps
        model.load_state_dict(interpolated(base, trained, weight))
        found[weight] = evaluation.measure(zero_shot=weight == 0, keep=True)
        index, evaluation.index = evaluation.index, None
        worse = index
        if step == 0 or _mean(found[weight], measure) > _mean(found[best], measure):
            best, kept, worse = weight, index, kept
        if worse:
            worse.discard()
    gain = _mean(found[best], measure, "guard") - _mean(found[0.0], measure, "guard")
    weight = best if gain > 0 else 0.0
    if weight != best and kept:
        kept.discard()
        kept = None
    model.load_state_dict(interpolated(base, trained, weight))
    return Choice(weight, best, gain, found, kept)


def interpolated(base: Weights, trained: Weights, weight: float) -> dict[str, Tensor]:
    """`weight` of the way from one model's tensors to the other's; exact at both ends."""
    if weight in (0.0, 1.0):
        return dict(trained if weight else base)
    return {
        name: value.lerp(trained[name], weight) if value.is_floating_point() else trained[name]
        for name, value in base.items()
    }


def _mean(found: Found, measure: str, split: str = "validation") -> float:
    return means({measure: found[split][measure]})[measure]
