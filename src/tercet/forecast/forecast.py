"""What a run was expected to take, stage by stage, and beside it what it took.

`train.py RECIPE --forecast` writes it to `forecast.json`; no stage depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact, differences, existing
from tercet.core.files import read_json
from tercet.core.resources import Resources, read_resources

FORECAST = "forecast.json"
#: What is counted of each stage: in words, and the manifest's fact, or the shards whose rows tell.
ROWS = {
    "corpus": ("passages", "passages"),
    "queries": ("queries", "queries"),
    "embeddings": ("vectors", "vectors"),
    "negatives": ("candidates", "candidates"),
    "scores": ("pairs", "pairs_scored"),
    "triplets": ("training queries", "train_queries"),
    "targets": ("lists", "targets-"),
    "model": ("steps", "steps"),
    "evaluation": ("figures", "figures-"),
}
#: Facts that add up to the tokens that a stage's model reads and writes.
TOKENS = ("tokens", "tokens_read", "tokens_written")
#: Sections and keys of a recipe that change neither what a run makes nor what that takes.
ASIDE = ("name", "runs_dir", "tracking", "ingest", "chat")


@dataclass(frozen=True)
class Expected:
    """What one stage is expected to take. `disk` and `peak` (memory of its own) are in bytes.

    `gflops` is the speed of a matrix product when this was measured: see `tercet.core.resources`.
    """

    rows: int
    tokens: int
    seconds: float
    gflops: float
    peak: int | None
    disk: int
    dollars: float = 0.0
    #: Finished and unchanged: nothing of this is left to take.
    done: bool = False
    #: Tokens and seconds by what they are for.
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingSize:
    """How much the student reads in training, beside how large it is."""

    parameters: int
    trained_parameters: int
    tokens: int
    queries: int
    steps: int
    #: Tokens of a query and of two of its passages, on average: a triplet of this corpus.
    tokens_of_a_triplet: float

    @property
    def ratio(self) -> float:
        """Training tokens a parameter."""
        return self.tokens / self.parameters


@dataclass(frozen=True)
class Forecast:
    """All of it, with what it was made from."""

    stages: Mapping[str, Expected]
    size: TrainingSize
    #: Sentences that the figures must not be read without.
    notes: list[str]
    settings: Mapping[str, Any]
    #: Seconds that making it took.
    seconds: float

    @property
    def left(self) -> dict[str, Expected]:
        """Stages that are not done."""
        return {name: stage for name, stage in self.stages.items() if not stage.done}


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings that a forecast is for, as JSON gives them back."""
    settings = {name: value for name, value in asdict(recipe).items() if name not in ASIDE}
    return dict(json.loads(json.dumps(settings)))


def read_forecast(run: Path) -> Forecast | None:
    """The forecast of a run; None where there is none."""
    file = run / FORECAST
    if not file.exists():
        return None
    kept = read_json(file)
    stages = {name: Expected(**kept["stages"][name]) for name in ROWS}
    return Forecast(**kept | {"stages": stages, "size": TrainingSize(**kept["size"])})


@dataclass(frozen=True)
class Amount:
    """One figure, as expected and as it was; None where it cannot be told."""

    expected: float
    fact: float | None


@dataclass(frozen=True)
class Compared:
    """One stage's forecast beside what happened.

    `scaled` are the expected seconds at the speed that the machine had as the stage began.
    """

    rows: Amount
    tokens: Amount
    seconds: Amount
    scaled: float | None
    peak: Amount
    disk: Amount


@dataclass(frozen=True)
class ComparedForecast:
    """A forecast beside the run; or `changed`, the settings that it was not made for."""

    stages: Mapping[str, Compared]
    changed: list[str]


def compare_forecast(recipe: Recipe) -> ComparedForecast | None:
    """Every stage's forecast beside what the recipe's run counted; None where there is none."""
    run, forecast = recipe.folder, read_forecast(recipe.folder)
    if forecast is None:
        return None
    changed = differences(dict(forecast.settings), settings_of(recipe))
    if changed:
        return ComparedForecast({}, changed)
    taken = read_resources(run)
    compared = {}
    for name, expected in forecast.stages.items():
        made, took = existing(run / name), taken.get(name)
        compared[name] = _compared(name, expected, made, took)
    return ComparedForecast(compared, [])


def _compared(
    stage: str, expected: Expected, made: Artifact | None, took: Resources | None
) -> Compared:
    return Compared(
        rows=Amount(expected.rows, _rows(stage, made) if made else None),
        tokens=Amount(expected.tokens, _tokens(made) if made else None),
        seconds=Amount(expected.seconds, took.seconds if took else None),
        scaled=expected.seconds * expected.gflops / took.gflops if took else None,
        peak=Amount(expected.peak or 0, took.peak if took else None),
        disk=Amount(expected.disk, _bytes(stage, made) if made else None),
    )


def _rows(stage: str, made: Artifact) -> int | None:
    _, where = ROWS[stage]
    if not where.endswith("-"):
        return made.facts.get(where)
    files = made.manifest["files"].items()
    return sum(entry.get("rows", 0) for name, entry in files if name.startswith(where))


def _tokens(made: Artifact) -> int | None:
    counted = [made.facts[name] for name in TOKENS if name in made.facts]
    return sum(counted) if counted else None


def _bytes(stage: str, made: Artifact) -> int:
    """Bytes of a stage's files; the checkpoints count as the model's."""
    beside = (made.path.parent / "training").rglob("*") if stage == "model" else ()
    checkpoints = sum(file.stat().st_size for file in beside if file.is_file())
    return checkpoints + sum(entry["bytes"] for entry in made.manifest["files"].values())
