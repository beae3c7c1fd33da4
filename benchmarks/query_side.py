"""Queries alone, or both towers? And a closed model's space: how much of it can be had back?

    python benchmarks/query_side.py FOLDER [FOLDER ...] [--queries 2000]

Each FOLDER is a collection in BEIR's layout. One table compares the model as it came with a query
adapter, its query encoder trained alone and both towers, on the same lists. Another takes the
passages' vectors of bge-small, withholds its query encoder, and puts a projected MiniLM in its
place: regressed on the passages alone, then distilled. Settings follow from held-out synthetic
queries; the test queries are measured and choose nothing. Writes `query_side.json` under
`runs/query_side/`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from tercet import retrieval
from tercet.config.loading import load_recipe
from tercet.core.console import console
from tercet.core.files import write_json
from tercet.core.resources import read_times
from tercet.modeling.training.model_selection import read_mixture
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.significance import Interval, paired_bootstrap

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import precompute_vectors as precompute  # noqa: E402

NDCG, MRR = "ndcg@10", "mrr@10"
BEFORE = ("corpus", "queries", "embeddings", "negatives", "scores", "triplets", "targets")
#: What the closed space shares: candidates and the teacher's scores know of no space.
TEXTS = ("corpus", "queries", "negatives", "scores")
WAYS = {
    "query adapter": ["--model.train=query_adapter"],
    "query encoder": ["--model.train=query_encoder", "--training.num_train_epochs=3"],
    "both towers": [],
}


@dataclass(frozen=True)
class Row:
    """A way on a collection: gains over the model as it starts, and what the guard made of it.

    `seconds` are those of training with all its evaluations.
    """

    way: str
    seconds: float
    weight: float
    held_out: float
    guard: float
    shipped: bool
    chosen: Interval
    after: float


def trained(options: Sequence[str], base: Pipeline, names: Sequence[str]) -> Pipeline:
    """A run whose first stages are another's."""
    pipeline = Pipeline(load_recipe("recipes/beir.yaml", options))
    pipeline.reuse(base, *names)
    pipeline.check()
    _ = pipeline.model
    return pipeline


def row(way: str, pipeline: Pipeline) -> Row:
    """What came of a run."""
    facts, model = pipeline.model.facts, pipeline.model
    weight = facts["best_weight"]
    before, after = (read(pipeline, w, "test", NDCG) for w in (0.0, weight))
    held = [read(pipeline, w, "validation", MRR).mean() for w in (0.0, weight)]
    return Row(
        way,
        read_times(model.path.parent)["model"],
        weight,
        float(held[1] - held[0]),
        facts["guard_gain"],
        not facts["base_kept"],
        paired_bootstrap(before, after, resamples=10_000, seed=13),
        float(after.mean()),
    )


def read(pipeline: Pipeline, weight: float, split: str, measure: str) -> np.ndarray:
    """Figures of each query in the order of their ids."""
    found = read_mixture(pipeline.model, weight, split, measure)
    return np.array([found[query] for query in sorted(found)])


def closed(name: str, common: Sequence[str], runs: Path, base: Pipeline) -> dict[str, Any]:
    """A student in bge-small's space: its figures, and bge-small's own."""
    files = runs / name
    passages = base.passages
    queries, qrels, _ = base.measured("test")
    paths = files / "bge-passages.parquet", files / "bge-queries.parquet"
    if not paths[0].exists():
        precompute.write(
            paths[0], list(passages.ids), precompute.encode(list(passages.contents), f"{name}")
        )
        asked = [precompute.QUERY_PROMPT + query.text for query in queries]
        precompute.write(
            paths[1], [q.id for q in queries], precompute.encode(asked, f"{name}'s queries")
        )
    options = [
        *common,
        f"--name={name}-closed",
        "--model.train=query_encoder",
        f"--model.passage_vectors={paths[0]}",
    ]
    options += ["--training.num_train_epochs=3"]
    pipeline = trained(options, base, TEXTS)
    index = pipeline.run.new_index()
    index.build(passages.ids, pipeline.vectors)
    theirs, _ = retrieval.read_parquet_vectors(paths[1], [q.id for q in queries], "queries")
    run = dict(zip([q.id for q in queries], index.search(theirs, retrieval.TOP), strict=True))
    own = retrieval.evaluate(qrels, run, [NDCG])[NDCG]
    theirs_own = np.array([own[query] for query in sorted(own)])
    regressed, distilled = (read(pipeline, w, "test", NDCG) for w in (0.0, 1.0))
    times = read_times(pipeline.recipe.folder)
    return {
        "own": float(theirs_own.mean()),
        "regressed": float(regressed.mean()),
        "distilled": asdict(row("distilled", pipeline)),
        "as_trained": float(distilled.mean()),
        "student": pipeline.student.facts,
        "seconds": {stage: times[stage] for stage in ("student", "model")},
    }


def show(name: str, zero_shot: float, rows: Sequence[Row]) -> None:
    """One collection's ways."""
    table = Table(title=f"{name}: {NDCG} {zero_shot:.4f} as it came", title_justify="left")
    for column in ("way", NDCG, "gain", "95% interval", "held out", "guard", "ships", "seconds"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for each in rows:
        gain = each.chosen
        table.add_row(
            each.way,
            f"{each.after:.4f}",
            f"{gain.difference:+.4f}",
            f"[{gain.low:+.4f}, {gain.high:+.4f}]",
            f"{each.held_out:+.4f}",
            f"{each.guard:+.4f}",
            f"{each.weight:g} of the way" if each.shipped else "as it came",
            f"{each.seconds:.0f}",
        )
    console.print(table)


def show_closed(found: Mapping[str, Any]) -> None:
    """Shares of the closed model's own figure, by collection."""
    table = Table(title=f"bge-small's space, its query encoder withheld: {NDCG}")
    columns = ("collection", "bge-small", "regressed", "share", "distilled", "share", "ships")
    for column in columns:
        table.add_column(column, justify="left" if column == "collection" else "right")
    for name, one in found.items():
        own, regressed, distilled = one["own"], one["regressed"], one["distilled"]["after"]
        table.add_row(
            name,
            f"{own:.4f}",
            f"{regressed:.4f}",
            f"{regressed / own:.1%}",
            f"{distilled:.4f}",
            f"{distilled / own:.1%}",
            f"{one['distilled']['weight']:g} of the way" if one["distilled"]["shipped"] else "no",
        )
    console.print(table)


def main() -> None:
    """Every collection, one after another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--queries", type=int, default=2_000, help="synthetic queries")
    parser.add_argument("--runs", type=Path, default=Path("runs/query_side"))
    parser.add_argument("--ways", nargs="+", default=[*WAYS, "closed"])
    options, more = parser.parse_known_args()
    found: dict[str, Any] = {}
    spaces: dict[str, Any] = {}
    for folder in options.folders:
        name = folder.name
        console.rule(name)
        common = [f"--corpus.path={folder}", f"--runs_dir={options.runs}"]
        common += [f"--queries.count={options.queries}", *more]
        # What is said of the query side's model is not said of both towers.
        plain = [option for option in common if not option.startswith("--model.")]
        base = Pipeline(load_recipe("recipes/beir.yaml", [*plain, f"--name={name}"]))
        base.check()
        given = {stage: getattr(base, stage) for stage in BEFORE}
        rows = []
        for way in [w for w in options.ways if w in WAYS]:
            slug = way.replace(" ", "-")
            run = trained(folder, [*common, f"--name={name}-{slug}", *WAYS[way]], given)
            rows.append(row(way, run))
            zero_shot = float(read(run, 0.0, "test", NDCG).mean())
            found[name] = {"zero_shot": zero_shot, "rows": [asdict(each) for each in rows]}
        if rows:
            show(name, zero_shot, rows)
        if "closed" in options.ways:
            spaces[name] = closed(name, common, options.runs, base)
            show_closed(spaces)
        write_json(options.runs / "query_side.json", {"ways": found, "closed": spaces})
    for way in WAYS:
        gains = [
            r["chosen"]["difference"] for o in found.values() for r in o["rows"] if r["way"] == way
        ]
        if gains:
            console.print(f"{way}: mean gain {np.mean(gains):+.4f} over {len(gains)} collections")


if __name__ == "__main__":
    main()
