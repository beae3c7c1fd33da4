"""After training: how far to go from the model as it came to the trained one, and whether at all.

Held-out synthetic queries choose how far; others of them, which chose nothing, guard the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from tercet.core.artifacts import Artifact, Writer
from tercet.core.schema import Index
from tercet.modeling.training.retrieval_evaluation import Found, RetrievalEvaluation, means
from tercet.retrieval.significance import Interval, paired_bootstrap

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


#: Weight of the trained model -> split -> measure -> query id -> figure.
FoundByWeight = Mapping[float, Mapping[str, Mapping[str, Mapping[str, float]]]]


@dataclass(frozen=True)
class Step:
    """One mixture of the model as it came (weight 0) and as trained (1): gains over the former.

    `validation`, of the held-out queries that chose, and `guard`, of those that guarded, are in the
    known-item `measure`; `test` is in `test_measure`, and None where the test queries are others by
    now, or were not measured so.
    """

    weight: float
    measure: str
    validation: Interval
    guard: Interval
    test_measure: str
    test: Interval | None


def write_choices(writer: Writer, found: FoundByWeight) -> None:
    """One row for each weight, split, measure and query."""
    rows = [
        {"weight": weight, "split": split, "measure": measure, "query_id": query, "figure": figure}
        for weight, splits in found.items()
        for split, measures in splits.items()
        for measure, values in measures.items()
        for query, figure in values.items()
    ]
    writer.shard("choices", 0, pa.Table.from_pylist(rows))


def read_choices(
    artifact: Artifact,
    measure: str,
    test_measure: str,
    tested_on: str,
    *,
    resamples: int,
    seed: int,
) -> list[Step]:
    """What `write_choices` wrote, as gains with their 95% intervals, by rising weight.

    `tested_on` identifies the test queries of today: the artefact says which it was measured on.
    """
    table = artifact.dataset("choices").to_pandas()
    known = set(table["measure"]) if artifact.facts["tested_on"] == tested_on else set()

    def figures(weight: float, split: str, measure: str) -> np.ndarray:
        return np.array(list(_figures(table, weight, split, measure).values()))

    def gain(weight: float, split: str, measure: str) -> Interval:
        pair = figures(0.0, split, measure), figures(weight, split, measure)
        return paired_bootstrap(*pair, resamples=resamples, seed=seed)

    return [
        Step(
            weight,
            measure,
            gain(weight, "validation", measure),
            gain(weight, "guard", measure),
            test_measure,
            gain(weight, "test", test_measure) if test_measure in known else None,
        )
        for weight in sorted(set(table["weight"]) - {0.0})
    ]


def read_mixture(artifact: Artifact, weight: float, split: str, measure: str) -> dict[str, float]:
    """Query id -> figure, by rising id, of `weight` of the way to the trained model."""
    return _figures(artifact.dataset("choices").to_pandas(), weight, split, measure)


def _figures(table: Any, weight: float, split: str, measure: str) -> dict[str, float]:
    rows = table[(table["weight"] == weight) & (table["split"] == split)]
    rows = rows[rows["measure"] == measure].sort_values("query_id")
    return dict(zip(rows["query_id"], rows["figure"], strict=True))
