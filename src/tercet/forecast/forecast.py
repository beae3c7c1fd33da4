"""The forecast of a run, stage by stage, and its comparison with the run.

`tercet forecast RECIPE` writes it to `forecast.json`; no stage depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact, differences, existing
from tercet.core.environment import recorded
from tercet.core.files import kept, slug, typed
from tercet.core.resources import Resources, read_resources

FORECAST = "forecast.json"
#: Rows of each stage: their name, and the manifest's fact or the prefix of the shards (ending in -)
#: that counts them.
ROWS = {
    "corpus": ("passages", "passages"),
    "queries": ("queries", "queries"),
    "embeddings": ("vectors", "vectors"),
    "negatives": ("candidates", "candidates"),
    "scores": ("pairs", "pairs_scored"),
    "triplets": ("training queries", "train_queries"),
    "targets": ("lists", "targets-"),
    "model": ("steps", "steps"),
    "evaluation": ("metric values", "figures-"),
}
#: Facts whose sum is the number of tokens that a stage's model reads and writes.
_TOKENS = ("tokens", "tokens_read", "tokens_written")
#: Sections and keys of a recipe that affect neither the artifacts nor the cost of a run.
_IGNORED = ("name", "runs_dir", "time_budget", "tracking", "ingest", "chat", "checkpoints")


@dataclass(frozen=True)
class Expected:
    """The forecast of one stage. `disk` and `peak` (memory) are in bytes.

    `gflops` is the speed of a matrix product during the probe: see `tercet.core.resources`.
    """

    rows: int
    tokens: int
    seconds: float
    gflops: float
    peak: int | None
    disk: int
    dollars: float = 0.0
    #: The stage is finished and up to date.
    done: bool = False
    #: Tokens and seconds by purpose.
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingSize:
    """Training tokens and parameters of the student."""

    parameters: int
    trained_parameters: int
    tokens: int
    queries: int
    steps: int
    #: Mean tokens of a query and two of its passages.
    tokens_of_a_triplet: float

    @property
    def ratio(self) -> float:
        """Training tokens per parameter."""
        return self.tokens / self.parameters


@dataclass(frozen=True)
class Forecast:
    """The forecast of all stages, and what it was made from."""

    stages: Mapping[str, Expected]
    size: TrainingSize
    #: Qualifications of the forecast, a sentence each.
    notes: list[str]
    settings: Mapping[str, Any]
    #: Seconds for making the forecast.
    seconds: float

    @property
    def total(self) -> float:
        """Seconds of the stages that are not finished."""
        return sum(stage.seconds for stage in self.left.values())

    @property
    def left(self) -> dict[str, Expected]:
        """Stages that are not finished."""
        return {name: stage for name, stage in self.stages.items() if not stage.done}


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """The settings of a recipe that a forecast depends on, as JSON values."""
    settings = {name: value for name, value in asdict(recipe).items() if name not in _IGNORED}
    return dict(json.loads(json.dumps(recorded(settings))))


def read_forecast(run: Path) -> Forecast | None:
    """The forecast in a run's folder, or None."""
    return kept(run / FORECAST, _forecast_of)


def _forecast_of(found: Any) -> Forecast:
    """The forecast of a JSON object. Raises TypeError or KeyError for anything else."""
    stages = {name: typed(Expected, found["stages"][name]) for name in ROWS}
    return typed(Forecast, found | {"stages": stages, "size": typed(TrainingSize, found["size"])})


@dataclass(frozen=True)
class Amount:
    """A forecast value and the actual one; None if unknown."""

    expected: float
    fact: float | None


@dataclass(frozen=True)
class ComparedStage:
    """The forecast of one stage compared with the run.

    `scaled` is the forecast of seconds corrected for the machine's speed when the stage began.
    """

    rows: Amount
    tokens: Amount
    seconds: Amount
    scaled: float | None
    peak: Amount
    disk: Amount


@dataclass(frozen=True)
class ComparedForecast:
    """A forecast compared with the run; no stages if settings have `changed` since."""

    stages: Mapping[str, ComparedStage]
    changed: list[str]


def compare_forecast(recipe: Recipe) -> ComparedForecast | None:
    """The forecast of every stage compared with the recipe's run; None without a forecast."""
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
        if name == "scores" and took:
            within = [taken[step] for step in scored_by(recipe) if step in taken]
            took = replace(took, seconds=took.seconds + sum(each.seconds for each in within))
        compared[name] = _compared(name, expected, made, took)
    return ComparedForecast(compared, [])


def scored_by(recipe: Recipe) -> list[str]:
    """The steps within which several scorers score."""
    mining = {retriever.model for retriever in recipe.negatives.retrievers}
    models = [each.model or "" for each in recipe.scorer_encoders.values()]
    names = recipe.teacher.names if recipe.teacher.scorers else []
    own = [f"embeddings_{slug(model)}" for model in models if model not in mining]
    return [*own, *(f"scores_{slug(name)}" for name in names)]


def _compared(
    stage: str, expected: Expected, made: Artifact | None, took: Resources | None
) -> ComparedStage:
    return ComparedStage(
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
    counted = [made.facts[name] for name in _TOKENS if name in made.facts]
    return sum(counted) if counted else None


def _bytes(stage: str, made: Artifact) -> int:
    """Bytes of a stage's files; the model stage includes the checkpoints."""
    beside = (made.path.parent / "training").rglob("*") if stage == "model" else ()
    checkpoints = sum(file.stat().st_size for file in beside if file.is_file())
    return checkpoints + sum(entry["bytes"] for entry in made.manifest["files"].values())
