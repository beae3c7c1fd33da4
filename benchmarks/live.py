"""An epoch's evaluation on a live Weaviate collection whose passages are never encoded again.

    python benchmarks/live.py [PASSAGES]

Passages are 768-dimensional vectors in clusters, as an encoder's are, and queries are passages with
noise. The collection is laid out as Weaviate lays one out by itself, written once, and searched as
it stands, by an encoder that refuses to encode a passage. Needs a server (`make weaviate`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
from beside import gigaflops
from rich.table import Table

from tercet.core.console import console
from tercet.core.schema import Query, Ranking
from tercet.retrieval.exact_index import ExactIndex
from tercet.retrieval.retrievers import DenseRetriever
from tercet.retrieval.vector_files import KnownQueries
from tercet.retrieval.weaviate.index import WeaviateIndex
from tercet.retrieval.weaviate.live import LiveCollection

PASSAGES, QUERIES, WIDTH, K, COMPARED, ROUNDS = 200_000, 1_000, 768, 100, 10, 3
#: Numbers that an encoder's vectors really vary in, and passages that are about one thing.
INNER, CLUSTER = 64, 100
AT_ONCE = 250  # queries that exact search compares at a time
DEFAULTS = {"ef": -1, "ef_construction": 128, "max_connections": 32}


def main() -> None:
    """Write the collection, search it as each epoch would, and compare with exact search."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PASSAGES
    ids = [f"{row}#0" for row in range(count)]
    passages, queries = make(count)
    with WeaviateIndex.connect("hnsw", collection="Tercet_bench_live", **DEFAULTS) as writer:
        start = time.perf_counter()
        writer.build(ids, passages)
        console.print(f"written in {time.perf_counter() - start:,.0f} s")
        assert writer.collection_name
        try:
            rounds, rankings = evaluate(writer.collection_name, ids, passages, queries)
        finally:
            writer.drop(writer.collection_name)
    show(count, rounds, overlap(rankings, exact(ids, passages, queries)))


def make(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors: passages, float32 [count, 768], and queries, float32 [1000, 768]."""
    random = np.random.default_rng(13)
    centres = random.standard_normal((max(1, count // CLUSTER), INNER), dtype=np.float32)
    outer = random.standard_normal((INNER, WIDTH), dtype=np.float32)
    inner = random.standard_normal((count, INNER), dtype=np.float32)
    inner += centres[random.integers(len(centres), size=count)]
    asked = inner[random.choice(count, QUERIES, replace=False)]
    asked = asked + 0.5 * random.standard_normal(asked.shape, dtype=np.float32)
    return unit(inner @ outer), unit(asked @ outer)


def unit(rows: np.ndarray) -> np.ndarray:
    """At length 1, in place."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def evaluate(
    collection: str, ids: Sequence[str], passages: np.ndarray, queries: np.ndarray
) -> tuple[list[tuple[float, float]], list[Ranking]]:
    """Seconds of each round, to make sure of the collection and to search it; and the rankings."""
    asked = [Query(str(row), f"query {row}") for row in range(len(queries))]
    texts = [query.text for query in asked]
    live = LiveCollection.connect(collection)
    retriever = DenseRetriever(KnownQueries("queries alone", asked, queries), live)
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        live.build(ids, passages)
        checked = time.perf_counter()
        rankings = retriever.search(texts, K)
        rounds.append((checked - start, time.perf_counter() - checked))
    live.discard()
    return rounds, rankings


def exact(ids: Sequence[str], passages: np.ndarray, queries: np.ndarray) -> list[Ranking]:
    """What misses nothing, some queries at a time."""
    index = ExactIndex()
    index.build(ids, passages)
    blocks = (queries[start : start + AT_ONCE] for start in range(0, len(queries), AT_ONCE))
    return [ranking for block in blocks for ranking in index.search(block, COMPARED)]


def overlap(rankings: Sequence[Ranking], expected: Sequence[Ranking]) -> float:
    """The mean share of the true first ten that are among the first ten found."""
    shares = [
        len({id for id, _ in one[:COMPARED]} & {id for id, _ in other}) / len(other)
        for one, other in zip(rankings, expected, strict=True)
    ]
    return float(np.mean(shares))


def show(count: int, rounds: Sequence[tuple[float, float]], share: float) -> None:
    """The table: a row for each evaluation."""
    table = Table(
        "evaluation",
        "checked s",
        "searched s",
        "queries/s",
        f"top-{COMPARED} overlap",
        title=f"{QUERIES:,} queries, {K} results, {count:,} x {WIDTH} in Weaviate",
        caption=f"overlap with exact search; float32 matrix product: {gigaflops():,.0f} GFLOP/s",
    )
    for number, (checked, searched) in enumerate(rounds, 1):
        rate = f"{QUERIES / searched:,.0f}"
        table.add_row(f"{number}", f"{checked:.2f}", f"{searched:.2f}", rate, f"{share:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
