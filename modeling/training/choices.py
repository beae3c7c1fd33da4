"""What was chosen without labels, beside what the test queries say of it: the guard's evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tercet.core.artifacts import Artifact, Writer
from tercet.retrieval.significance import Interval, paired_bootstrap

#: Weight of the trained model -> split -> measure -> query id -> figure.
Found = Mapping[float, Mapping[str, Mapping[str, Mapping[str, float]]]]


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


def write_choices(writer: Writer, found: Found) -> None:
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
