"""Which settings adapt best? Every arm of a grid that was committed before its results.

    python benchmarks/arms.py GRID.yaml FOLDER [FOLDER ...] [--runs runs/arms] [--seeds 1]

GRID names a recipe and its arms, each a change of the recipe's keys; `default` is the arm that the
others are compared with. Each FOLDER is a collection in BEIR's layout. A cell, one arm on one
collection with one seed, is a run of its own; what it has in common with another cell's, such as
queries and scores, is taken from there. Finished cells are kept, so the command is repeated until
all are done. Each result has the SHA-256 of the grid that it was made from: those of another grid,
and arms that this one does not name, are listed as explored. Test queries choose nothing.

Writes a JSON file for each cell and `arms.json`, under `--runs`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table

from tercet.config.loading import load_recipe
from tercet.core.artifacts import existing
from tercet.core.console import console
from tercet.core.files import read_json, write_json
from tercet.core.resources import read_times
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.steps.evaluation import ADAPTED, BASE, HYBRID
from tercet.pipeline.steps.model import tested_on
from tercet.retrieval import paired_bootstrap, read_figures
from tercet.retrieval.significance import Interval, holm, randomisation_test, smallest_detectable

RESAMPLES, SEED = 10_000, 13
#: Systems of a cell's result; `TRAINED` is all of the way, whatever ships: the guard off.
TRAINED, SHIPPED = "trained", "shipped"
HYBRID_BASE, HYBRID_SHIPPED = HYBRID.format(BASE), HYBRID.format("shipped")


@dataclass(frozen=True)
class Grid:
    """A recipe, and arms: names -> changes of its keys, beside the `common` ones."""

    recipe: Path
    default: str
    metric: str
    common: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Grid:
        """Of a YAML file, whose changes have keys as the command line has them."""
        content = path.read_bytes()
        given = yaml.safe_load(content)
        grid = cls(
            path.parent / given["recipe"],
            given["default"],
            given.get("metric", "ndcg@10"),
            given.get("common", {}),
            given["arms"],
            hashlib.sha256(content).hexdigest(),
        )
        if grid.default not in grid.arms:
            raise SystemExit(f"{path}: the default {grid.default!r} is none of its arms")
        return grid


@dataclass(frozen=True)
class Cell:
    """One arm on one collection with one seed."""

    collection: Path
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its run."""
        return f"{self.arm}-{self.seed}"


def result(grid: Grid, cell: Cell, runs: Path) -> dict[str, Any]:
    """The cell's values by system and query: kept, or of a run that is made now."""
    file = runs / "results" / cell.collection.name / f"{cell.name}.json"
    if file.exists() and (found := read_json(file))["grid"] == grid.sha256:
        return dict(found)
    pipeline = Pipeline(load_recipe(grid.recipe, [*_options(grid, cell, runs)]))
    pipeline.check()
    for name in pipeline.steps:
        _take(pipeline, name)
        pipeline.artifact(name)
    values = read_figures(pipeline.evaluation)
    model = pipeline.model
    rows = model.dataset("choices").to_pandas()
    test = rows[(rows["split"] == "test") & (rows["measure"] == grid.metric)]
    whole = test[test["weight"] == test["weight"].max()]
    assert model.facts["tested_on"] == tested_on(pipeline.inputs("model"))
    systems = {
        BASE: values[BASE][grid.metric],
        SHIPPED: values[ADAPTED][grid.metric],
        TRAINED: dict(zip(whole["query_id"], whole["figure"], strict=True)),
        HYBRID_BASE: values[HYBRID.format(BASE)][grid.metric],
        HYBRID_SHIPPED: values[HYBRID.format(ADAPTED)][grid.metric],
    }
    facts = {name: model.facts[name] for name in ("weight", "best_weight", "guard_gain", "verdict")}
    made = {"grid": grid.sha256, "arm": cell.arm, "seed": cell.seed, "facts": facts}
    made |= {"changes": grid.arms[cell.arm], "seconds": read_times(pipeline.recipe.folder)}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, made | {"systems": systems})
    return made | {"systems": systems}


def _options(grid: Grid, cell: Cell, runs: Path) -> Iterator[str]:
    yield f"--name={cell.name}"
    yield f"--runs_dir={runs / cell.collection.name}"
    yield f"--corpus.path={cell.collection}"
    yield f"--seed={cell.seed}"
    for key, value in {**grid.common, **grid.arms[cell.arm]}.items():
        yield f"--{key}={json.dumps(value)}"


def _take(pipeline: Pipeline, name: str) -> None:
    """Take the step's artifact from another cell of the collection that has made the same."""
    stage, folder = pipeline.stage(name), pipeline.recipe.folder
    if stage.finished()[0] or name in ("model", "evaluation"):
        return  # what is trained stays its own: files of the run name its folder
    for other in sorted(folder.parent.glob(f"*/{name}")):
        made = existing(other)
        if made and made.manifest["plan"] == stage.plan:
            console.print(f"take  {name} of {other.parent.name}")
            pipeline.take(name, made)
            return


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def mean_values(found: Sequence[Mapping[str, Any]], system: str) -> np.ndarray:
    """A system's value of each query, by id, as the mean over the seeds."""
    return np.mean(
        [[each["systems"][system][q] for q in sorted(each["systems"][BASE])] for each in found],
        axis=0,
    )


def show(name: str, grid: Grid, arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Print a collection's table; each arm's differences with intervals."""
    table = Table(title=f"{name}, {grid.metric}", title_justify="left", title_style="bold")
    table.add_column("arm")
    columns = ("seeds", "ships", "trained", f"shipped - {grid.default}", "with BM25", "minutes")
    for column in columns:
        table.add_column(column, justify="right")
    rows: dict[str, Any] = {}
    for arm, found in arms.items():
        pairs = {
            "ships": (BASE, SHIPPED),
            "trained": (BASE, TRAINED),
            "with BM25": (HYBRID_BASE, HYBRID_SHIPPED),
        }
        rows[arm] = {
            what: _interval(mean_values(found, before), mean_values(found, after))
            for what, (before, after) in pairs.items()
        }
        rows[arm]["seeds"] = _seeds(found)
        rows[arm]["p"] = _p(mean_values(found, BASE), mean_values(found, SHIPPED))
        if grid.default in arms:
            default = mean_values(arms[grid.default], SHIPPED)
            rows[arm]["default"] = _interval(default, mean_values(found, SHIPPED))
            rows[arm]["detectable"] = _detectable(default, mean_values(found, SHIPPED))
        minutes = np.mean([sum(each["seconds"].values()) for each in found]) / 60
        cells = (rows[arm].get(what) for what in ("ships", "trained", "default", "with BM25"))
        table.add_row(arm, str(len(found)), *map(_text, cells), f"{minutes:.0f}")
    console.print(table)
    return rows


def _interval(before: np.ndarray, after: np.ndarray) -> Interval:
    return paired_bootstrap(before, after, resamples=RESAMPLES, seed=SEED)


def _p(before: np.ndarray, after: np.ndarray) -> float:
    found = randomisation_test((after - before)[:, None], permutations=RESAMPLES, seed=SEED)
    return float(found[0])


def _detectable(before: np.ndarray, after: np.ndarray) -> float:
    return float(smallest_detectable((after - before)[:, None])[0])


def _seeds(found: Sequence[Mapping[str, Any]]) -> list[float]:
    """The mean gain of what each seed ships."""
    return [float(np.mean(mean_values([x], SHIPPED) - mean_values([x], BASE))) for x in found]


def _text(found: Interval | None) -> str:
    if found is None:
        return ""
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def summary(grid: Grid, found: Mapping[str, Mapping[str, Any]]) -> Table:
    """The arms over all collections: mean gains, the worst, and p corrected by Holm."""
    table = Table(title="over the collections", title_justify="left", title_style="bold")
    for column in ("arm", "collections", "mean gain", "worst", "significant gains (Holm)"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm in grid.arms:
        rows = [each[arm] for each in found.values() if arm in each]
        if not rows:
            continue
        gains = [row["ships"].difference for row in rows]
        better = (holm(np.array([row["p"] for row in rows])) < 0.05) & (np.array(gains) > 0)
        table.add_row(
            arm,
            str(len(rows)),
            f"{np.mean(gains):+.4f}",
            f"{min(gains):+.4f}",
            f"{int(better.sum())} of {len(rows)}",
        )
    return table


def explored(grid: Grid, runs: Path) -> list[str]:
    """Results under `runs` that this grid did not announce."""
    return [
        str(file.relative_to(runs / "results"))
        for file in sorted((runs / "results").rglob("*.json"))
        if (made := read_json(file))["grid"] != grid.sha256 or made["arm"] not in grid.arms
    ]


def main() -> None:
    """Every cell, one after another; tables at the end of each collection."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("grid", type=Path, metavar="GRID")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--runs", type=Path, default=Path("runs/arms"))
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each arm: 1, 2, ...")
    parser.add_argument("--arms", nargs="+", help="these alone")
    options = parser.parse_args()
    grid = Grid.read(options.grid)
    arms = options.arms or [*grid.arms]
    found: dict[str, Any] = {}
    for folder in options.folders:
        console.rule(folder.name)
        of = {
            arm: [
                result(grid, Cell(folder, arm, seed), options.runs)
                for seed in range(1, 1 + options.seeds)
            ]
            for arm in arms
        }
        found[folder.name] = show(folder.name, grid, of)
    console.print(summary(grid, found))
    for name in explored(grid, options.runs):
        console.print(f"explored, not of this grid: {name}")
    text = json.dumps(found, default=asdict)
    write_json(options.runs / "arms.json", json.loads(text))


if __name__ == "__main__":
    main()
