"""After training: choose how much of it ships, and whether any of it does.

Training can overshoot: weights between the base model's and the trained model's often search
better than either. So every mixture `base + weight x (trained - base)`, for `weight` 0 to 1 in even
steps, searches the corpus with held-out synthetic queries, whose source passage is the one to find.

Two disjoint sets of these queries decide. The *validation* queries choose the mixture with the best
mean. A maximum over several mixtures is optimistic about the one that it picks, so the
*confirmation* queries (split "guard" on disk), which took no part in the choice, guard it: unless
the chosen mixture also beats the base model on them, the base model ships. The test queries decide
nothing; their metrics are stored for the report.

Judged queries may *gate* (split "gate"): a mixture whose mean on them is below the base model's is
no candidate. The sign of the mean decides and not an interval below zero: with the few judged
queries that there are, an interval of 95% would let most real losses pass. Where shipping a loss
costs as much as missing a gain of that size, the sign errs at the least cost; and the gain that
held-out queries see is still needed beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from tercet.core.artifacts import Artifact, Writer
from tercet.core.files import kept, write_json
from tercet.core.processes import is_main_process
from tercet.core.schema import Index
from tercet.modeling.distributed import from_first_process
from tercet.modeling.training.retrieval_evaluation import RetrievalEvaluation, SplitMetrics
from tercet.retrieval.significance import Interval, paired_bootstrap

#: Weight of the trained model in a mixture -> its metrics.
MetricsByWeight = Mapping[float, SplitMetrics]

_Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Choice:
    """The weights that ship, and the metrics that decided.

    `best` is the mixture that the validation queries chose, 0 being the base model and 1 the
    trained one. `weight` is the one that ships: `best`, or 0 if the mean `gain` of `best` over the
    base model on the confirmation queries is not positive. `index` holds the passages of the model
    that ships, in the first process; None if the base model ships against the choice.
    """

    weight: float
    best: float
    gain: float
    metrics: MetricsByWeight
    index: Index | None


def choose(
    model: nn.Module,
    base: _Weights,
    evaluation: RetrievalEvaluation,
    *,
    steps: int,
    metric: str,
    gate: str | None = None,
    measured: MeasuredMixtures | None = None,
    report: Callable[[str, Mapping[str, float]], None] | None = None,
) -> Choice:
    """Evaluate the mixtures of `base` and `model` at `steps` even steps, and load the choice.

    The validation split's mean of `metric` chooses; among equals the nearest to the base wins.
    `gate` is the metric of the gating queries, if there are any. Mixtures that are `measured` are
    not searched again: of these there is no index.
    `report` gets each mixture's name and its means on that split.
    """
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    metrics: dict[float, SplitMetrics] = {}
    best, kept = 0.0, None
    for step in range(steps + 1):
        weight = step / steps
        model.load_state_dict(interpolated(base, trained, weight))
        name = f"mixture {step} of {steps}" if step else "before training"
        known = measured.read(weight) if measured else None
        metrics[weight] = known or evaluation.measure(name, zero_shot=weight == 0, keep=True)
        if measured and not known:
            measured.keep(metrics)
        if report:
            report(name, {m: _mean(metrics[weight], m) for m in metrics[weight]["validation"]})
        index, evaluation.index = evaluation.index, None
        worse = index
        passes = gate is None or not turned_down(metrics, weight, gate)
        if step == 0 or (passes and _mean(metrics[weight], metric) > _mean(metrics[best], metric)):
            best, kept, worse = weight, index, kept
        if worse:
            worse.discard()
    gain = _mean(metrics[best], metric, "guard") - _mean(metrics[0.0], metric, "guard")
    weight = best if gain > 0 else 0.0
    if weight != best and kept:
        kept.discard()
        kept = None
    model.load_state_dict(interpolated(base, trained, weight))
    return Choice(weight, best, gain, metrics, kept)


class MeasuredMixtures:
    """The metric values of mixtures, kept in a file: a run that is resumed searches only the rest.

    `of` identifies what they follow from; the values of anything else are written over.
    """

    def __init__(self, file: Path, of: str) -> None:
        self._file, self._of = file, of
        self._values = from_first_process(self._read)

    def _read(self) -> Any:
        return kept(self._file, self._values_of) or {}

    def _values_of(self, noted: Any) -> dict[str, Any]:
        return dict(json.loads(noted["values"])) if noted["of"] == self._of else {}

    def read(self, weight: float) -> SplitMetrics | None:
        """The values of a mixture, in every process; None if it is not measured."""
        return self._values.get(repr(weight))

    def keep(self, metrics: MetricsByWeight) -> None:
        """Keep the values of all mixtures so far."""
        if is_main_process():
            # As one text: the order of splits, metrics and queries is that of the shipped rows.
            values = json.dumps({repr(weight): splits for weight, splits in metrics.items()})
            write_json(self._file, {"of": self._of, "values": values})


def turned_down(metrics: MetricsByWeight, weight: float, gate: str) -> bool:
    """Whether the gating queries' mean of a mixture is below the base model's."""
    return _mean(metrics[weight], gate, "gate") < _mean(metrics[0.0], gate, "gate")


def interpolated(base: _Weights, trained: _Weights, weight: float) -> dict[str, Tensor]:
    """`base + weight x (trained - base)`, tensor by tensor; exact at 0 and 1."""
    if weight in (0.0, 1.0):
        return dict(trained if weight else base)
    return {
        name: value.lerp(trained[name], weight) if value.is_floating_point() else trained[name]
        for name, value in base.items()
    }


def _mean(metrics: SplitMetrics, metric: str, split: str = "validation") -> float:
    return float(np.mean(list(metrics[split][metric].values())))


@dataclass(frozen=True)
class Step:
    """One mixture of the base model (weight 0) and the trained one (1): its gains over the base.

    `validation` (the queries that chose) and `guard` (those that confirmed) are in the known-item
    metric `measure`; `test` is in `test_measure`, and None if the test queries have changed since
    or that metric was not computed.
    """

    weight: float
    measure: str
    validation: Interval
    guard: Interval
    test_measure: str
    test: Interval | None


def write_choices(writer: Writer, metrics: MetricsByWeight) -> None:
    """Write one row for each weight, split, metric and query."""
    rows = [
        {"weight": weight, "split": split, "measure": metric, "query_id": query, "figure": value}
        for weight, splits in metrics.items()
        for split, by_metric in splits.items()
        for metric, values in by_metric.items()
        for query, value in values.items()
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
    """Return the gains in what `write_choices` wrote, with 95% intervals, by rising weight.

    `tested_on` identifies the current test queries; the artifact records those it was tested on.
    """
    table = artifact.dataset("choices").to_pandas()
    known = set(table["measure"]) if artifact.facts["tested_on"] == tested_on else set()

    def values(weight: float, split: str, metric: str) -> np.ndarray:
        return np.array(list(_values(table, weight, split, metric).values()))

    def gain(weight: float, split: str, metric: str) -> Interval:
        pair = values(0.0, split, metric), values(weight, split, metric)
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


def read_metrics(artifact: Artifact) -> dict[float, dict[str, dict[str, dict[str, float]]]]:
    """What `write_choices` wrote: weight -> split -> metric -> query id -> value."""
    metrics: dict[float, dict[str, dict[str, dict[str, float]]]] = {}
    table = artifact.dataset("choices").to_pandas()
    for (weight, split, metric), rows in table.groupby(["weight", "split", "measure"], sort=False):
        values = dict(zip(rows["query_id"], rows["figure"], strict=True))
        metrics.setdefault(weight, {}).setdefault(split, {})[metric] = values
    return metrics


def read_mixture(artifact: Artifact, weight: float, split: str, metric: str) -> dict[str, float]:
    """Query id -> value of `metric`, by rising id, for the mixture of this `weight`."""
    return _values(artifact.dataset("choices").to_pandas(), weight, split, metric)


def _values(table: Any, weight: float, split: str, metric: str) -> dict[str, float]:
    rows = table[(table["weight"] == weight) & (table["split"] == split)]
    rows = rows[rows["measure"] == metric].sort_values("query_id")
    return dict(zip(rows["query_id"], rows["figure"], strict=True))
