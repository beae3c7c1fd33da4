"""Runs whose bookkeeping is damaged, finished and killed ones: they go on to the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import DAMAGE
from programs import Finished, hashes, killed_at, made, run_here
from recipes import tiny_recipe

from tercet.commands.info import info
from tercet.studio.compare import as_csv, results
from tercet.studio.pages import report
from tercet.studio.watch import curves, stages

pytestmark = [pytest.mark.slow, pytest.mark.fault("damaged bookkeeping")]
#: What a run keeps for itself, beside its steps: nothing that ships depends on it.
OWN = (
    *("resources.json", "forecast.json", "choices.json", "metrics.json", "studio/process.json"),
    *("training/curves.jsonl", "training/mixtures.json", "results/metrics.json"),
)


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Path:
    """A recipe with two runs: one is whole and evaluated, one was killed as it trained."""
    folder = tmp_path_factory.mktemp("bookkeeping")
    recipe = tiny_recipe(
        folder,
        corpus=tiny_beir_path,
        queries={"count": 40, "shard_passages": 16},
        negatives={"candidates": 6},
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": 64, "student_weight": 0.5},
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 2, "learning_rate": 1e-3},
        evaluation={"latency_queries": 0, "interpolation_steps": 1},
    )
    assert train(recipe, "whole").returncode == 0
    assert run_here("eval.py", recipe, "--name", "whole").returncode == 0
    log = folder / "killed.log"
    moments = ["scores.partial/pairs-00001.arrow"]
    killed_at(moments, folder / "runs" / "killed", log, "train.py", recipe, "--name", "killed")
    moments = ["training/checkpoint-*/checkpoint.json"]
    shutil.copytree(folder / "runs" / "killed", folder / "runs" / "trained")
    killed_at(moments, folder / "runs" / "trained", log, "train.py", recipe, "--name", "trained")
    assert log.read_text().count("killed at") == 2
    return recipe


def train(recipe: Path, name: str) -> Finished:
    return run_here("train.py", recipe, "--name", name)


def copied(recipe: Path, name: str, damage: Callable[[bytes], bytes]) -> Path:
    """A copy of a run, whose bookkeeping is damaged; a file that is not there is damaged, too."""
    runs = recipe.parent / "runs"
    run = runs / "copy"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(runs / name, run)
    for file in [*(run / name for name in OWN), *run.glob("*.partial/plan.json")]:
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(damage(file.read_bytes() if file.exists() else b'{"of": "none"}'))
    return run


def check_shown(run: Path) -> None:
    """The studio's tables and pages, and `tercet info`, show the run as far as it can be read."""
    assert results([run])[0][0] == run.name
    as_csv([run])
    stages(run)
    curves(run, ("ndcg@10",))
    report(run)
    assert info(str(run))["run"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_finished_run_is_reused_and_evaluated_as_before(recipe: Path, damage: str) -> None:
    run, whole = copied(recipe, "whole", DAMAGE[damage]), recipe.parent / "runs" / "whole"
    check_shown(run)
    again = train(recipe, "copy")
    assert again.returncode == 0, again.stderr
    assert not made(again.stdout) and hashes(run) == hashes(whole)
    check_shown(run)
    if damage in ("cut", "a list"):
        assert run_here("eval.py", recipe, "--name", "copy").returncode == 0
        for file in whole.glob("results/runs/*.trec"):
            assert (run / "results" / "runs" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_killed_run_goes_on_to_the_same_bytes(recipe: Path, damage: str) -> None:
    run = copied(recipe, "killed", DAMAGE[damage])
    check_shown(run)
    assert train(recipe, "copy").returncode == 0
    assert hashes(run) == hashes(run.with_name("whole"))


def test_a_training_that_was_killed_names_the_plan_that_is_damaged(recipe: Path) -> None:
    run = copied(recipe, "trained", lambda data: data)
    plan = run / "training" / "_plan.json"
    plan.write_bytes(DAMAGE["garbage"](plan.read_bytes()))
    refused = train(recipe, "copy")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "checkpoints of unknown settings: give --restart" in refused.stderr
    again = run_here("train.py", recipe, "--name", "copy", "--restart")
    assert again.returncode == 0, again.stderr
    assert hashes(run) == hashes(run.with_name("whole"))


def test_a_checkpoint_and_a_shard_that_are_damaged_are_made_again(recipe: Path) -> None:
    run = copied(recipe, "trained", lambda data: data)
    (checkpoint,) = run.glob("training/checkpoint-*")
    (checkpoint / "optimizer.pt").write_bytes(b"")
    again = train(recipe, "copy")
    assert again.returncode == 0, again.stderr
    assert f"{checkpoint} is not whole: put aside" in again.stdout
    assert hashes(run) == hashes(run.with_name("whole"))
    assert not (run / "training" / "_aside").exists(), "training's end removes it"
    run = copied(recipe, "killed", lambda data: data)
    shard = run / "scores.partial" / "pairs-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-8])
    again = train(recipe, "copy")
    assert f"{shard} is not whole: made again" in again.stdout
    assert hashes(run) == hashes(run.with_name("whole"))
