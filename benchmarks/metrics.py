"""Milliseconds for MAP and MRR at 1, 5 and 10, beside pytrec_eval and ranx, 3,000 queries x 100.

    python benchmarks/metrics.py

Each tool first makes its own objects of the same judgements and run ("construction"): pytrec_eval
its evaluator, ranx its Qrels and its Run, which it sorts, tercet an `IndexedRun`, from ids and from
arrays. Then the figures of every query are timed ("measuring"). pytrec_eval keeps no run: it reads
the dicts anew each time. It cuts no reciprocal rank either: it computes the uncut one, once, which
is less work, and which is cut after its clock has stopped. No two scores of a query are equal, for
the tools break ties differently. ranx compiles before the clock starts.

The contenders take turns, so that a machine that slows down slows all of them; the matrix product
timed beside them says how fast the machine was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytrec_eval
import ranx
from rich.table import Table

from tercet.core.console import console
from tercet.retrieval.metrics import IndexedRun

QUERIES, RESULTS, PASSAGES, JUDGED, ROUNDS = 3000, 100, 300, 5, 9
CUTOFFS = (1, 5, 10)
MEASURES = [f"{name}@{k}" for name in ("map", "mrr") for k in CUTOFFS]


@dataclass
class Contender:
    """How a tool makes its objects, measures them, and what its figures are: [measure, query]."""

    build: Callable[[], Any]
    measure: Callable[[Any], Any]
    figures: Callable[[Any], np.ndarray]
    construction: list[float] = field(default_factory=list)
    measuring: list[float] = field(default_factory=list)

    def take_turn(self) -> np.ndarray:
        """Build and measure once, by the clock."""
        start = time.perf_counter()
        built = self.build()
        between = time.perf_counter()
        measured = self.measure(built)
        self.measuring.append(time.perf_counter() - between)
        self.construction.append(between - start)
        return self.figures(measured)


def main() -> None:
    """Time all on one random run, in turns, and compare their figures."""
    contenders = make()
    contenders["ranx"].take_turn()
    contenders["ranx"].construction.clear()
    contenders["ranx"].measuring.clear()
    gemm, figures = [], {}
    for _ in range(ROUNDS):
        gemm.append(gigaflops())
        for name, contender in contenders.items():
            figures[name] = contender.take_turn()
    show(contenders, figures)
    console.print(f"float32 matrix product: {min(gemm):,.0f} to {max(gemm):,.0f} GFLOP/s")


def make() -> dict[str, Contender]:
    """The contenders, on one collection."""
    random = np.random.default_rng(13)
    codes = np.array([random.permutation(PASSAGES)[:RESULTS] for _ in range(QUERIES)])
    scores = np.array([random.permutation(RESULTS) for _ in range(QUERIES)]) / RESULTS
    relevant = np.array([random.permutation(PASSAGES)[:JUDGED] for _ in range(QUERIES)])
    ids, queries = [f"d{d:03}" for d in range(PASSAGES)], [f"q{q:04}" for q in range(QUERIES)]
    qrels = {query: {ids[d]: 1 for d in row} for query, row in zip(queries, relevant, strict=True)}
    as_dicts = {
        query: {ids[d]: float(s) for d, s in zip(*row, strict=True)}
        for query, *row in zip(queries, codes, scores, strict=True)
    }
    run = {query: list(ranking.items()) for query, ranking in as_dicts.items()}
    judged = np.repeat(np.arange(QUERIES), JUDGED), relevant.ravel(), np.ones(relevant.size, int)
    names = {"map_cut." + ",".join(map(str, CUTOFFS)), "recip_rank"}
    return {
        "pytrec_eval": Contender(
            lambda: pytrec_eval.RelevanceEvaluator(qrels, names),
            lambda evaluator: evaluator.evaluate(as_dicts),
            lambda measured: of_pytrec_eval(measured, queries),
        ),
        "ranx": Contender(
            lambda: (ranx.Qrels(qrels), ranx.Run(as_dicts)),
            lambda pair: ranx.evaluate(*pair, MEASURES, return_mean=False),
            lambda measured: np.array([measured[measure] for measure in MEASURES]),
        ),
        "tercet, ids": Contender(lambda: IndexedRun.from_ids(qrels, run), measure, stacked),
        "tercet, arrays": Contender(lambda: IndexedRun(codes, scores, judged), measure, stacked),
    }


def measure(indexed: IndexedRun) -> dict[str, np.ndarray]:
    """What tercet's clock runs for."""
    return indexed.evaluate(MEASURES)


def stacked(measured: Mapping[str, np.ndarray]) -> np.ndarray:
    """[measure, query]."""
    return np.array([measured[measure] for measure in MEASURES])


def of_pytrec_eval(
    measured: Mapping[str, Mapping[str, float]], queries: Sequence[str]
) -> np.ndarray:
    """[measure, query], the reciprocal rank cut where it should be."""
    rows = [[measured[query][f"map_cut_{k}"] for query in queries] for k in CUTOFFS]
    ranks = np.array([measured[query]["recip_rank"] for query in queries])
    return np.array([*rows, *(np.where(ranks > 1 / (k + 0.5), ranks, 0) for k in CUTOFFS)])


def gigaflops() -> float:
    """Speed of a float32 matrix product of 2,048 x 2,048, in GFLOP/s."""
    a = np.random.default_rng(0).standard_normal((2048, 2048), np.float32)
    start = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 2048**3 / (time.perf_counter() - start) / 1e9


def show(contenders: Mapping[str, Contender], figures: Mapping[str, np.ndarray]) -> None:
    """The table: the best times, ratios to the first contender, and how far figures differ."""
    title = f"{QUERIES:,} queries, {RESULTS} results each"
    table = Table("", "construction ms", "measuring ms", "ratio", "max difference", title=title)
    first = next(iter(contenders))
    for name, contender in contenders.items():
        difference = np.abs(figures[name] - figures[first]).max()
        table.add_row(
            name,
            f"{1000 * min(contender.construction):.1f}",
            f"{1000 * min(contender.measuring):.2f}",
            f"{min(contenders[first].measuring) / min(contender.measuring):.2f}",
            f"{difference:.2g}",
        )
        if difference > 1e-9:
            raise SystemExit(f"{name} gives other figures than {first}, by up to {difference}")
    console.print(table)


if __name__ == "__main__":
    main()
