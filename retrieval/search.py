"""Evaluate an encoder with an index; store metric values as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tercet.core.artifacts import Artifact, Writer
from tercet.core.metric_names import parse_metric
from tercet.core.schema import Encoder, Index, Qrels, Query, Ranking
from tercet.retrieval.metrics import evaluate
from tercet.retrieval.retrievers import FUSED, fuse

#: System -> metric -> query id -> value.
_Figures = Mapping[str, Mapping[str, Mapping[str, float]]]


def search_and_measure(
    encoder: Encoder, index: Index, queries: Sequence[Query], qrels: Qrels, metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Search to the largest cutoff of the metrics: metric -> query id -> value."""
    depth = max(k for _, k in map(parse_metric, metrics))
    rankings = index.search(encoder.encode_queries([query.text for query in queries]), depth)
    run = {query.id: ranking for query, ranking in zip(queries, rankings, strict=True)}
    return evaluate(qrels, run, metrics)


def search_and_measure_both(
    encoder: Encoder,
    index: Index,
    lexical: Sequence[Ranking],
    queries: Sequence[Query],
    qrels: Qrels,
    metrics: Sequence[str],
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """As `search_and_measure`, and the same of its fusion with the queries' `lexical` rankings."""
    depth = max(k for _, k in map(parse_metric, metrics))
    vectors = encoder.encode_queries([query.text for query in queries])
    dense = index.search(vectors, depth)
    # An approximate index may find others with larger k.
    deep = dense if depth == FUSED else index.search(vectors, FUSED)
    fused = [fuse(pair, depth) for pair in zip(lexical, deep, strict=True)]
    ids = [query.id for query in queries]
    both = (dict(zip(ids, rankings, strict=True)) for rankings in (dense, fused))
    found, of_fused = (evaluate(qrels, run, metrics) for run in both)
    return found, of_fused


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
