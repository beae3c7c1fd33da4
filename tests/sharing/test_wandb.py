"""W&B, TensorBoard and Trackio, kept on this machine: what is in their files, and no secret."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from programs import killed_at, run_program
from recipes import tiny_recipe

from tercet import Recipe
from tercet.config.loading import load_recipe
from tercet.core.artifacts import only_existing
from tercet.core.extras import check_installed
from tercet.core.schema import InputError
from tercet.evaluation.results import Cell, Change, Changes, Figure, Hit, Results
from tercet.modeling import training_arguments
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.run_report import run_report
from tercet.retrieval.latency import Phase, Timing

pytest.importorskip("wandb")
from tercet.sharing.wandb import TrainingRun, track  # noqa: E402

pytestmark = pytest.mark.slow

HERE = [name for name in ("wandb", "tensorboard", "trackio") if importlib.util.find_spec(name)]
SECRETS = {
    "WANDB_API_KEY": "c4nary" * 7,
    "HF_TOKEN": "hf_canaryOfTheHub",
    "COHERE_API_KEY": "canary-of-cohere",
    "CO_API_KEY": "canary-of-cohere-too",
    "WEAVIATE_API_KEY": "canary-of-weaviate",
    "OPENAI_API_KEY": "sk-canary-of-openai",
}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """No settings of W&B's but these, no key in a .netrc, and nobody at the Hub or at W&B."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "TENSORBOARD_"))}
    given |= {"HOME": str(folder), "NETRC": str(folder / "netrc"), "HF_HUB_OFFLINE": "1"}
    given |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "TRACKIO_DIR": str(folder / "trackio")}
    return given | more


def no_secret_in(folder: Path) -> None:
    for file in (file for file in folder.rglob("*") if file.is_file()):
        written = file.read_bytes()
        assert not [name for name, secret in SECRETS.items() if secret.encode() in written], file


# ── W&B's offline files ──────────────────────────────────────────────────────────────────────────


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format after a header of seven bytes.

    A killed process leaves its last record torn, which ends them.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    log, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(log):
        if 32768 - place % 32768 < 7:  # too little of a block for a header
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(log[place + 4 : place + 6], "little"), log[place + 6]
        if not kind or place + 7 + size > len(log):
            return
        parts += log[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


@dataclass
class Logged:
    """What one process logged of a run."""

    id: str
    group: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    artifacts: dict[str, list[str]]  # type and name: files
    files: Path


def name_of(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def read(folder: Path) -> Logged:
    (file,) = folder.glob("*.wandb")
    found = Logged("", "", {}, [], {}, {}, folder / "files")
    for record in records(file):
        if record.HasField("run"):
            found.id, found.group = record.run.run_id, record.run.run_group
            items = record.run.config.update
            found.config |= {name_of(item): json.loads(item.value_json) for item in items}
        elif record.HasField("history"):
            row = {name_of(item): json.loads(item.value_json) for item in record.history.item}
            found.history.append(row)
        elif record.HasField("summary"):
            items = record.summary.update
            found.summary |= {name_of(item): json.loads(item.value_json) for item in items}
        elif record.HasField("artifact"):
            artifact = record.artifact
            paths = [entry.path for entry in artifact.manifest.contents]
            found.artifacts[f"{artifact.type} {artifact.name}"] = paths
    return found


def tables(logged: Logged) -> dict[str, dict[str, Any]]:
    files = logged.files.glob("media/table/*.table.json")
    return {path.name.split("_")[0]: json.loads(path.read_text()) for path in files}


# ── a run of train.py, killed and given again ────────────────────────────────────────────────────


@dataclass
class Tracked:
    """A tiny run, killed after its first epoch, and finished."""

    recipe: Path
    run: Path
    environment: dict[str, str]
    first: Logged
    second: Logged

    def parts(self) -> list[Path]:
        return sorted((self.run / "wandb").glob("offline-run-*"))


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Tracked:
    folder = tmp_path_factory.mktemp("tracked")
    run, log = folder / "runs" / "tiny", folder / "killed.log"
    recipe = tiny_recipe(
        folder,
        corpus=tiny_beir_path,
        queries={"shard_passages": 16},
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": 128, "student_weight": 0.5},
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 3, "learning_rate": 1e-3, "logging_steps": 1},
        tracking={"report_to": HERE, "project": "lighthouses"},
    )
    given = environment(folder, WANDB_MODE="offline", **SECRETS)
    given["WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL"] = "0.1"  # s; 15 are more than this run takes
    with patch.dict(os.environ, given, clear=True):
        killed_at(["training/checkpoint-*/checkpoint.json"], run, log, "train.py", recipe)
        assert "killed at" in log.read_text(), log.read_text()
        again = run_program("train.py", recipe)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resumed from checkpoint" in again.stdout
    first, second = (read(part) for part in sorted((run / "wandb").glob("offline-run-*")))
    (folder / "resumed.log").write_text(again.stdout + again.stderr)
    return Tracked(recipe, run, given, first, second)


def test_a_killed_run_goes_on_under_the_same_id(tracked: Tracked) -> None:
    first, second = tracked.first, tracked.second
    assert first.id == second.id
    assert first.group == second.group == "tiny"
    assert first.config == {k: second.config[k] for k in first.config}
    places = [[row["_step"] for row in logged.history] for logged in (first, second)]
    assert all(own == sorted(set(own)) for own in places)
    # The second has all that the first has, with the same values, and goes on.
    again = {row["_step"]: row for row in second.history}
    for row in first.history:
        for name in row.keys() - {"_timestamp", "_runtime"}:
            assert row[name] == pytest.approx(again[row["_step"]][name]), name
    assert 0 < len(first.history) < len(second.history)


def test_every_epoch_has_its_figures_and_zero_shot_is_the_first(tracked: Tracked) -> None:
    rows = [row for row in tracked.second.history if "eval/map@10" in row]
    history = json.loads((tracked.run / "model" / "history.json").read_text())
    assert [row["train/epoch"] for row in rows] == [0, 1, 2, 3]
    for row, entry in zip(rows, history, strict=True):
        names = {name.removeprefix("eval/"): row[name] for name in row if name.startswith("eval/")}
        assert {"epoch": row["train/epoch"], "step": row["train/global_step"], **names} == entry
    losses = [row["train/global_step"] for row in tracked.second.history if "train/loss" in row]
    assert losses == list(range(1, 1 + history[-1]["step"]))


def test_settings_figures_and_tables_are_the_run_s(tracked: Tracked) -> None:
    logged = tracked.second
    metrics = json.loads((tracked.run / "metrics.json").read_text())
    assert {k: logged.config[k] for k in metrics["settings"]} == metrics["settings"]
    (compared,) = (c for c in metrics["comparisons"] if c["measure"] == "ndcg@10")
    assert [logged.summary[name] for name in ("verdict", "shipped")] == [
        *(metrics["verdict"], metrics["shipped"])
    ]
    interval = compared["interval"]
    known = {"zero-shot": compared["before"], **interval}
    if metrics["shipped"] == "base":
        known = {"base": compared["before"]}
        assert not [name for name in logged.summary if "adapted" in name]
    assert {k: logged.summary[f"test/ndcg@10/{k}"] for k in known} == known
    found = tables(logged)
    assert found.keys() >= {"training lists", "interpolation", "notes"}
    columns = ["query", "passage", "text", "teacher", "student", "target"]
    assert found["training lists"]["columns"] == columns
    changed = found.get("changed queries", {"data": []})["data"]
    for system, _, before, after, difference, relevant in changed:
        assert (system, after - before) == ("adapted", difference) and difference and relevant
    (svg,) = logged.files.rglob("calibration*.html")
    assert svg.read_text() == (tracked.run / "targets" / "calibration.svg").read_text()


def test_what_ships_is_the_run_s_one_model(tracked: Tracked) -> None:
    models = {
        name: files
        for logged in (tracked.first, tracked.second)
        for name, files in logged.artifacts.items()
        if name.startswith("model ")
    }
    assert list(models) == ["model tiny"]
    manifest = json.loads((tracked.run / "model" / "manifest.json").read_text())
    of_the_run = ("choices-", "history.json")
    shipped = {name for name in manifest["files"] if not name.startswith(of_the_run)}
    assert set(models["model tiny"]) == shipped | {"README.md"}


@pytest.mark.fault("secrets")
def test_no_secret_is_written_or_said(tracked: Tracked) -> None:
    no_secret_in(tracked.recipe.parent)


def test_what_is_tracked_changes_no_stage_and_is_not_logged_twice(tracked: Tracked) -> None:
    options = ["--tracking.project", "other", "--training.trackio_space_id", "you/space"]
    manifest = json.loads((tracked.run / "model" / "manifest.json").read_text())
    other = load_recipe(tracked.recipe, [*options, "--tracking.report_to", "[]"])
    assert Pipeline(other).stage("model").plan == manifest["plan"]
    same, before = Pipeline(load_recipe(tracked.recipe)), tracked.parts()
    with only_existing():
        TrainingRun(same).finish(run_report(same))
    assert tracked.parts() == before


def test_tensorboard_has_the_curves_of_both_parts_in_one_place(tracked: Tracked) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tracked.run / "training" / "tensorboard"))
    events.Reload()
    history = json.loads((tracked.run / "model" / "history.json").read_text())
    found = {event.step: event.value for event in events.Scalars("eval/map@10")}
    assert found == {row["step"]: pytest.approx(row["map@10"]) for row in history}


def test_trackio_has_the_curves_of_both_parts_as_one_run(tracked: Tracked) -> None:
    pytest.importorskip("trackio")
    (database,) = (tracked.recipe.parent / "trackio").glob("*lighthouses*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, metrics FROM metrics ORDER BY id").fetchall()
    assert len({name for name, _ in rows}) == 1
    epochs = [m["train/epoch"] for m in (json.loads(m) for _, m in rows) if "eval/map@10" in m]
    # What Trackio had not yet written when it was killed is lost to it.
    assert epochs[-2:] == [2, 3] and epochs == sorted(set(epochs))


def test_trackio_makes_no_space_unless_the_recipe_names_one(tracked: Tracked) -> None:
    asked = ["--tracking.report_to", "[wandb, trackio]", "--training.push_to_hub", "true"]
    args = training_arguments(load_recipe(tracked.recipe, asked))
    # With None it would make a public one at each push.
    assert (args.trackio_static_space_id, args.trackio_space_id) == (False, None)
    assert (args.report_to, args.project) == (["trackio"], "lighthouses")
    named = [*asked, "--training.trackio_static_space_id", "you/space"]
    assert training_arguments(load_recipe(tracked.recipe, named)).trackio_static_space_id


# ── an experiment of eval.py; no key, no network, no package ─────────────────────────────────────


def log_experiment(folder: Path) -> None:
    phase = Phase(1.0, 2.0, 3.0, 100.0)
    timing = Timing(10, 5, {}, phase)
    figures = {"ndcg@10": Figure(0.5, 0.4, 0.6)}
    cell = Cell("base", "exact", figures, 1.0, single=timing, batched=timing)
    lost = Change("q1", "who built it", 1.0, 0.5, [], [], [Hit(2, "p1", 1, "a lighthouse")])
    page = folder / "page.html"
    page.write_text("<p>the whole page</p>")
    results = Results(
        title="t",
        command="c",
        finished="now",
        corpus="x",
        passages=3,
        queries=2,
        queries_are="q",
        primary="ndcg@10",
        measures=["ndcg@10"],
        baseline="base",
        systems=[],
        indexes=[],
        cells=[cell, Cell("base", "hfresh", refused="no")],
        pairs=[],
        slices=[],
        changes=[Changes("adapted", [], [lost], {"q1": -0.5})],
        notes=[],
        settings={"seed": 13},
    )
    track(Recipe(runs_dir=str(folder)), results, page)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WANDB_MODE": "offline", **SECRETS}, None),
        ({}, "there is no API key"),
        (SECRETS, "127.0.0.1:9"),
    ],
    ids=["asked for", "no key", "no network"],
)
@pytest.mark.fault("no W&B")
def test_an_experiment_is_kept_here_where_nobody_takes_it(
    tmp_path: Path, given: dict[str, str], said: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    # A process of its own, for W&B reads the environment once; forked, it has all that is imported.
    process = multiprocessing.get_context("fork").Process(target=log_experiment, args=(tmp_path,))
    with patch.dict(os.environ, environment(tmp_path, **given), clear=True):
        process.start()
    process.join(120)
    output, errors = capfd.readouterr()
    assert process.exitcode == 0, errors
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    lines = [line for line in output.splitlines() if "wandb sync" in line]
    assert len(lines) == (said is not None)
    assert not said or (said in lines[0] and f"wandb sync {run}" in lines[0])
    logged = read(run)
    assert logged.group == "run" and logged.config["seed"] == 13
    assert logged.summary["base/ndcg@10"] == 0.5
    found = tables(logged)
    assert len(found["cells"]["data"]) == 1
    lost = ["adapted", "who built it", 1.0, 0.5, -0.5, "a lighthouse"]
    assert found["changed queries"]["data"] == [lost]
    assert [p.read_text() for p in run.rglob("*.html")] == ["<p>the whole page</p>"]
    (tmp_path / "said.log").write_text(output + errors)
    no_secret_in(tmp_path)


def test_a_package_that_lacks_is_refused_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed("wandb")
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(InputError, match=r"trackio is not installed: pip install 'tercet\[trackio"):
        check_installed("wandb", "trackio")
