"""Which targets, which loss? Every method on the same lists, three seeds each, on real judgements.

    python benchmarks/grid.py FOLDER [FOLDER ...] [--queries 2000] [--seeds 3] [--towers 3]

Each FOLDER is a collection in BEIR's layout. A query adapter is trained towards each method's
targets while the passages' vectors stand still: seconds, where both towers take minutes. --towers
trains those too, with Tercet's defaults and as plain GPL, with so many seeds (one number for all
collections, or one for each). Everything is chosen on held-out synthetic queries; the test queries
are measured and choose nothing. Writes `grid.json` and `grid.html`, with three curves, under
`runs/grid/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from grid_tables import DEFAULT_TOWERS, Row, page, show, summary

from tercet import Recipe, modeling, retrieval
from tercet.config.loading import load_recipe
from tercet.core.console import console, progress
from tercet.core.files import write_file, write_json
from tercet.core.resources import read_times
from tercet.core.schema import Query
from tercet.data.mixture import anchored, best_of
from tercet.data.targets import Method, calibrate
from tercet.evaluation.audit import measure_head_room
from tercet.modeling.training.adapter_trial import METRIC, known_items
from tercet.modeling.training.losses import all_pairs_margin_mse, listwise_kl, margin_mse
from tercet.modeling.training.model_selection import read_mixture
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.significance import holm, paired_bootstrap, randomisation_test

NDCG, DEPTH, LARGEST_RERANK = "ndcg@10", 30, 2_000
#: Lambdas, the teacher's parts of the target, that are tried.
LAMBDAS = (0.15, 0.3, 0.5, 0.7, 1.0)
SHARED = ("corpus", "queries", "embeddings", "negatives", "scores", "triplets")
_kl = partial(listwise_kl, temperature=0.05)


@dataclass(frozen=True)
class Way:
    """How the targets are made, and how far from them is measured. `weight` None: chosen."""

    calibration: Method
    weight: float | None
    loss: Callable[..., Any]


METHODS = {
    "plain GPL": Way("none", 1.0, margin_mse),
    "calibrated, no anchor": Way("std_ratio", 1.0, margin_mse),
    "anchored, margin-MSE": Way("std_ratio", None, margin_mse),
    "anchored, all pairs": Way("std_ratio", None, all_pairs_margin_mse),
    "anchored, KL": Way("std_ratio", None, _kl),
    "anchored by slope, all pairs": Way("least_squares", None, all_pairs_margin_mse),
    "CADET's targets": Way("clipped", 1.0, partial(_kl, teacher_temperature=0.3)),
}


class Bench:
    """One collection: its lists, and both kinds of queries that an adapter is measured on."""

    def __init__(self, recipe: Recipe) -> None:
        self.pipeline = pipeline = Pipeline(recipe)
        pipeline.check()
        lists = pipeline.triplets.dataset("lists")
        of_train = np.flatnonzero(np.array(lists["split"]) == "train")
        columns = lists.select(of_train)[:]
        rows = pipeline.passages.rows(id for ids in columns["passages"] for id in ids)
        self.vectors = np.asarray(pipeline.vectors)
        self.lists = [np.array([rows[p] for p in passages]) for passages in columns["passages"]]
        self.teacher, self.student = (
            [np.array(x, np.float32) for x in columns[name]] for name in ("teacher", "student")
        )
        self.calibration = calibrate(self.teacher, self.student)
        self.asked = pipeline.starting_model.encode_queries(columns["query"])
        self.index = retrieval.ExactIndex()
        self.index.build(pipeline.passages.ids, self.vectors)
        self.held_out, self.known, _ = pipeline.split("validation")
        self.test, self.qrels, what = pipeline.split("test")
        self.held_out_vectors = self._encoded(self.held_out)
        self.test_vectors = self._encoded(self.test)
        console.print(f"  {len(self.lists):,} lists, {len(self.held_out):,} held out, {what}")
        self.before = self.known_items(self.held_out_vectors), self.figures(self.test_vectors)

    def _encoded(self, queries: Sequence[Query]) -> np.ndarray:
        return self.pipeline.starting_model.encode_queries([query.text for query in queries])

    def known_items(self, vectors: np.ndarray) -> np.ndarray:
        """MRR@10 of each held-out synthetic query."""
        return known_items(self.index, self.held_out, self.known, vectors)

    def figures(self, vectors: np.ndarray) -> np.ndarray:
        """nDCG@10 of each judged test query, by id."""
        rankings = self.index.search(vectors, retrieval.deeper(self.test, retrieval.TOP))
        run = retrieval.measured(self.test, rankings, retrieval.TOP)
        found = retrieval.evaluate(self.qrels, run, [NDCG])[NDCG]
        return np.array([found[query] for query in sorted(self.qrels)])

    def targets(self, calibration: Method, weight: float) -> list[np.ndarray]:
        """Of each training list."""
        scaled = self.calibration.scaled(self.teacher, calibration)
        return anchored(scaled, self.student, 1 - weight)

    def adapt(
        self,
        way: Way,
        weight: float,
        seed: int,
        *,
        queries: int | None = None,
        candidates: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each held-out query's gain and each test query's figure of an adapter that learnt so."""
        most = slice(queries)
        # The positive, then every so many-th candidate: the retrievers' best stand first.
        kept = [
            np.r_[0, np.unique(np.linspace(1, len(x) - 1, candidates or len(x) - 1).astype(int))]
            for x in self.lists[most]
        ]
        targets = self.targets(way.calibration, weight)[most]
        adapter = modeling.train_adapter(
            self.asked[most],
            self.vectors,
            [rows[k] for rows, k in zip(self.lists[most], kept, strict=True)],
            [target[k] for target, k in zip(targets, kept, strict=True)],
            way.loss,
            normalize=self.pipeline.starting_model.normalize,
            seed=seed,
        )
        held_out = self.known_items(adapter.apply_to(self.held_out_vectors))
        return held_out - self.before[0], self.figures(adapter.apply_to(self.test_vectors))

    def head_room(self) -> float:
        """The teacher's rerank of the zero-shot first 30, less the zero-shot figure."""
        rankings = self.index.search(self.test_vectors, 100)
        found = measure_head_room(
            self.pipeline.components.teacher(),
            self.test,
            self.qrels,
            {query.id: ranking for query, ranking in zip(self.test, rankings, strict=True)},
            self.pipeline.passages.texts(p for ranking in rankings for p, _ in ranking),
            "test",
            depth=DEPTH,
            sample=LARGEST_RERANK,
        )
        return found.difference


def run(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    """Every method; the weight of those that leave it open is chosen on held-out queries."""
    rows, columns = [], []
    with progress("adapters", len(METHODS), "methods") as advance:
        for name, way in METHODS.items():
            weight = way.weight
            if weight is None:
                weight = best_of({w: bench.adapt(way, w, seeds[0])[0] for w in LAMBDAS}, 0.5)
            outcomes = [bench.adapt(way, weight, seed) for seed in seeds]
            after = np.mean([figures for _, figures in outcomes], axis=0)
            columns.append(after - bench.before[1])
            held_out = float(np.mean([gains for gains, _ in outcomes]))
            interval = paired_bootstrap(bench.before[1], after, resamples=10_000, seed=13)
            rows.append(Row(name, weight, held_out, interval, 1.0))
            advance(1)
    ps = randomisation_test(np.array(columns).T, permutations=10_000, seed=13)
    corrected = holm(ps)
    return [
        replace(row, p=float(p), p_holm=float(q))
        for row, p, q in zip(rows, ps, corrected, strict=True)
    ]


def curves(bench: Bench, seeds: Sequence[int], weight: float) -> dict[str, list[tuple[float, ...]]]:
    """How the default's gain grows: (x, held-out gain, test gain), means over the seeds."""
    way = METHODS["anchored, all pairs"]

    def point(x: float, w: float, **part: int) -> tuple[float, float, float]:
        found = [bench.adapt(way, w, seed, **part) for seed in seeds]
        held = float(np.mean([gains for gains, _ in found]))
        test = float(np.mean([figures.mean() for _, figures in found]) - bench.before[1].mean())
        return x, held, test

    most = len(bench.lists)
    counts = [n for n in (75, 150, 300, 600, 1200, 2400) if n < most] + [most]
    longest = max(map(len, bench.lists)) - 1
    return {
        "queries": [point(n, weight, queries=n) for n in counts],
        "candidates": [point(n, weight, candidates=n) for n in (1, 2, 4, 8, 16) if n < longest]
        + [point(longest, weight)],
        "weight": [point(w, w) for w in (0.1, *LAMBDAS[:4], 0.85, 1.0)],
    }


def at(pipeline: Pipeline, weight: float) -> tuple[float, dict[str, float]]:
    """`weight` of the way to the trained model: its gain on held-out queries, its test figures."""
    model = pipeline.model
    before, after = (
        np.mean(list(read_mixture(model, step, "validation", METRIC).values()))
        for step in (0.0, weight)
    )
    return float(after - before), read_mixture(model, weight, "test", NDCG)


def towers(bench: Bench, seeds: Sequence[int]) -> list[Row]:
    """Both towers: the defaults as they ship, and plain GPL as trained, whatever was chosen."""
    plain = {"calibration": "none"}
    ways: Mapping[str, Mapping[str, Any]] = {DEFAULT_TOWERS: {}, "both towers, plain GPL": plain}
    rows = []
    for name, changes in ways.items():
        columns, held, seconds, weight = [], [], [], 0.0
        for seed in seeds:
            recipe = bench.pipeline.recipe
            run_name = f"{recipe.name}-{'gpl' if changes else 'default'}-{seed}"
            recipe = replace(recipe, name=run_name, seed=seed)
            recipe = replace(recipe, triplets=replace(recipe.triplets, **changes))
            if changes:
                recipe = replace(recipe, teacher=replace(recipe.teacher, student_weight=0.0))
                recipe = replace(recipe, loss=replace(recipe.loss, kind="margin_mse"))
            trained = Pipeline(recipe)
            trained.reuse(bench.pipeline, *SHARED)
            gains, after = at(trained, 1.0 if changes else trained.model.facts["weight"])
            held.append(gains)
            columns.append([after[query] for query in sorted(bench.qrels)])
            weight = 1 - float(trained.targets.facts["student_weight"])
            shared = read_times(bench.pipeline.recipe.folder)
            own = read_times(recipe.folder)
            seconds.append(sum(own.values()) + sum(shared[stage] for stage in SHARED))
        after_mean = np.mean(columns, axis=0)
        interval = paired_bootstrap(bench.before[1], after_mean, resamples=10_000, seed=13)
        p = randomisation_test(
            (after_mean - bench.before[1])[:, None], permutations=10_000, seed=13
        )
        row = Row(name, weight, float(np.mean(held)), interval, float(p[0]), float(p[0]))
        rows.append(replace(row, seconds=float(np.mean(seconds))))
    return rows


def main() -> None:
    """Every collection, one after another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--queries", type=int, help="synthetic queries, if not the recipe's")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each method")
    parser.add_argument(
        "--towers", type=int, nargs="+", default=[0], help="seeds of both towers: minutes each"
    )
    parser.add_argument("--recipe", type=Path, default=Path("recipes/beir.yaml"))
    parser.add_argument("--runs", type=Path, default=Path("runs/grid"))
    options = parser.parse_args()
    seeds, found = list(range(13, 13 + options.seeds)), {}
    runs = options.runs
    if len(options.towers) not in (1, len(options.folders)):
        parser.error("--towers takes one number, or one for each collection")
    of_towers = options.towers * (len(options.folders) if len(options.towers) == 1 else 1)
    for folder, count in zip(options.folders, of_towers, strict=True):
        given = [f"--corpus.path={folder}", f"--name={folder.name}", f"--runs_dir={runs}"]
        if options.queries:
            given.append(f"--queries.count={options.queries}")
        recipe = load_recipe(options.recipe, given)
        console.rule(folder.name)
        bench = Bench(recipe)
        rows = run(bench, seeds)
        room = bench.head_room()
        zero_shot = float(bench.before[1].mean())
        show(folder.name, zero_shot, bench.calibration, rows, room)
        if count:
            rows += towers(bench, list(range(13, 13 + count)))
            show(folder.name, zero_shot, bench.calibration, rows[-2:], room)
        default = next(row for row in rows if row.method == "anchored, all pairs")
        found[folder.name] = {
            "zero_shot": zero_shot,
            "head_room": room,
            "calibration": asdict(bench.calibration),
            "rows": [asdict(row) for row in rows],
            "curves": curves(bench, seeds, default.weight),
        }
        write_json(runs / "grid.json", found)
        write_file(runs / "grid.html", page(found).encode())
    if any(of_towers):
        console.print(summary(found))
    console.print(f"{runs / 'grid.json'}, {runs / 'grid.html'}")


if __name__ == "__main__":
    main()
