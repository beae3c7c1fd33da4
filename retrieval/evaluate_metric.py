"""The metrics as a module of HuggingFace's `evaluate`; no network is needed.

    metric = evaluate.load("/path/to/retrieval/evaluate_metric.py")
    metric.compute(predictions=[["d3", "d1"]], references=[["d1"]], k=(1, 10), measures=("map",))

Below, each import has a line of its own: `evaluate` scans the lines for the module's requirements.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from tercet.core.metric_names import METRICS
from tercet.core.schema import InputError
from tercet.retrieval.metrics import evaluate as evaluate_run, mean

_DESCRIPTION = "MAP, MRR, nDCG, recall, precision and hit rate at k, by trec_eval's rules."
_INPUTS = """
predictions: for each query the ids of the retrieved passages, as strings, best first.
references: for each query the ids of its relevant passages.
grades: for each query the grades of its references, in their order; all 1 unless given.
k: the cut-offs. measures: which of map, mrr, ndcg, recall, precision and hit.
Returns the mean of every metric at every cut-off over all queries, under names such as "map@10".
"""
_CITATION = ""


class RetrievalMetric(evaluate.Metric):
    """Means over queries; one without references counts as zero."""

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]],
        k: Sequence[int] = (1, 5, 10),
        measures: Sequence[str] = METRICS,
        grades: Sequence[Sequence[int]] | None = None,
    ) -> dict[str, float]:
        if grades is None:
            grades = [[1] * len(relevant) for relevant in references]
        elif list(map(len, grades)) != list(map(len, references)):
            raise InputError("the grades are not as many as the references: give each its grade")
        qrels, run = {}, {}
        for number, relevant in enumerate(references):
            query, found = str(number), predictions[number]
            if len(set(relevant)) < len(relevant):
                raise InputError(f"references {number} hold a passage twice: list each once")
            qrels[query] = dict(zip(relevant, grades[number], strict=True))
            run[query] = [(passage, -float(rank)) for rank, passage in enumerate(found)]
        names = [f"{measure}@{cutoff}" for measure in measures for cutoff in k]
        return mean(evaluate_run(qrels, run, names))
