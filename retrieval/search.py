"""Evaluate an encoder with an index; store metric values as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tercet.core.artifacts import Artifact, Writer
from tercet.core.metric_names import parse_metric
from tercet.core.schema import Encoder, Index, Qrels, Query, Ranking, Run, document_of
from tercet.retrieval.fusion import FUSED
from tercet.retrieval.metrics import evaluate

#: System -> metric -> query id -> value.
_Figures = Mapping[str, Mapping[str, Mapping[str, float]]]


def search_and_measure(
    encoder: Encoder, index: Index, queries: Sequence[Query], qrels: Qrels, metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Search to the largest cutoff of the metrics: metric -> query id -> value."""
    depth = max(k for _, k in map(parse_metric, metrics))
    vectors = encoder.encode_queries([query.text for query in queries])
    rankings = index.search(vectors, deeper(queries, depth))
    return evaluate(qrels, measured(queries, rankings, depth), metrics)


def search_deep(
    encoder: Encoder, index: Index, queries: Sequence[Query], depth: int
) -> tuple[list[Ranking], list[Ranking]]:
    """Rankings that `measured` has `depth` passages of, and those of `FUSED` passages to fuse."""
    enough = deeper(queries, depth)
    vectors = encoder.encode_queries([query.text for query in queries])
    dense = index.search(vectors, enough)
    # An approximate index may find others with larger k.
    return dense, dense if enough == FUSED else index.search(vectors, FUSED)


#: Passages that are searched for each document that is ranked, at most.
_PARTS = 10


def deeper(queries: Sequence[Query], depth: int) -> int:
    """The depth to search to so that `measured` has `depth` passages or documents.

    Documents may be fewer if more than ten passages of one are ahead of others.
    """
    own = max((query.own for query in queries), default=0)
    parts = max((query.parts for query in queries), default=0)
    return depth * min(max(parts, 1), _PARTS) + own


def measured(queries: Sequence[Query], rankings: Sequence[Ranking], depth: int | None) -> Run:
    """The first `depth` passages of each query, or documents, without the query itself."""
    return {
        query.id: _measured(query, ranking)[:depth]
        for query, ranking in zip(queries, rankings, strict=True)
    }


def _measured(query: Query, ranking: Ranking) -> Ranking:
    if query.own:
        ranking = [each for each in ranking if query.id not in (each[0], document_of(each[0]))]
    if not query.parts:
        return ranking
    best: dict[str, float] = {}
    for passage, score in ranking:
        document = document_of(passage)
        best[document] = max(score, best.get(document, score))
    return list(best.items())


def write_figures(writer: Writer, figures: _Figures) -> None:
    """Write a row for each system, metric and query."""
    rows = [
        {"system": system, "measure": metric, "query_id": query, "figure": value}
        for system, metrics in figures.items()
        for metric, values in metrics.items()
        for query, value in values.items()
    ]
    writer.shard("figures", 0, pa.Table.from_pylist(rows))


def read_figures(artifact: Artifact) -> dict[str, dict[str, dict[str, float]]]:
    """System -> metric -> query id -> value, as `write_figures` stored them."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for row in artifact.dataset("figures"):
        metrics = figures.setdefault(row["system"], {})
        metrics.setdefault(row["measure"], {})[row["query_id"]] = row["figure"]
    return figures
