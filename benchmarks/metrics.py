"""Milliseconds for MAP and MRR at 1, 5 and 10, beside pytrec_eval, on 3,000 queries x 100 results.

python benchmarks/metrics.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytrec_eval
from rich.table import Table

from tercet.console import console
from tercet.retrieval import evaluate

QUERIES, RESULTS, ROUNDS = 3000, 100, 5
CUTOFFS = (1, 5, 10)


def main() -> None:
    """Time both on one random run, in turns."""
    random = np.random.default_rng(13)
    qrels = {f"q{q}": {f"d{d}": 1 for d in random.integers(0, 300, 5)} for q in range(QUERIES)}
    run = {
        f"q{q}": [(f"d{d}", float(s)) for d, s in zip(order, scores, strict=True)]
        for q in range(QUERIES)
        for order, scores in [(random.permutation(300)[:RESULTS], random.random(RESULTS))]
    }
    as_dicts = {query: dict(ranking) for query, ranking in run.items()}
    measures = [f"{name}@{k}" for name in ("map", "mrr") for k in CUTOFFS]
    names = {"map_cut." + ",".join(map(str, CUTOFFS)), "recip_rank"}
    contenders: dict[str, Callable[[], object]] = {
        "pytrec_eval (MRR uncut)": lambda: pytrec_eval.RelevanceEvaluator(qrels, names).evaluate(
            as_dicts
        ),
        "tercet": lambda: evaluate(qrels, run, measures),
    }
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    table = Table("", "ms", "ratio", title=f"{QUERIES:,} queries, {RESULTS} results each")
    first = next(iter(best.values()))
    for name, seconds in best.items():
        table.add_row(name, f"{1000 * seconds:.1f}", f"{first / seconds:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
