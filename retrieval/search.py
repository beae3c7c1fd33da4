"""Queries through an encoder and an index to figures, and the figures as an artefact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tercet.core.artifacts import Artifact, Writer
from tercet.core.schema import Encoder, Index, Qrels, Query
from tercet.retrieval.metrics import evaluate, parse_measure

#: System -> measure -> query id -> figure.
Figures = Mapping[str, Mapping[str, Mapping[str, float]]]


def search_and_measure(
    encoder: Encoder, index: Index, queries: Sequence[Query], qrels: Qrels, measures: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Measure -> query id -> figure, for every query of the qrels, as deep as the measures ask."""
    depth = max(k for _, k in map(parse_measure, measures))
    rankings = index.search(encoder.encode_queries([query.text for query in queries]), depth)
    run = {query.id: ranking for query, ranking in zip(queries, rankings, strict=True)}
    return evaluate(qrels, run, measures)


def write_figures(writer: Writer, figures: Figures) -> None:
    """One row for each system, measure and query."""
    rows = [
        {"system": system, "measure": measure, "query_id": query, "figure": figure}
        for system, measures in figures.items()
        for measure, values in measures.items()
        for query, figure in values.items()
    ]
    writer.shard("figures", 0, pa.Table.from_pylist(rows))


def read_figures(artifact: Artifact) -> dict[str, dict[str, dict[str, float]]]:
    """What `write_figures` wrote."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for row in artifact.dataset("figures"):
        measures = figures.setdefault(row["system"], {})
        measures.setdefault(row["measure"], {})[row["query_id"]] = row["figure"]
    return figures
