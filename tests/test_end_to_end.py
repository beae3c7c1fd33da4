"""The whole pipeline in subprocesses, with tiny models: trained, reused, killed, resumed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from programs import ROOT, Finished, hashes, killed_at, last_checkpoint, made, run_here, run_program
from recipes import tiny_recipe
from safetensors.torch import load_file

from tercet.modeling.encoders.bi_encoder import BiEncoder

pytestmark = pytest.mark.slow

STAGES = [
    "corpus",
    "embeddings",
    "queries",
    "negatives",
    "scores",
    "triplets",
    "targets",
    "model",
    "evaluation",
]


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    return tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        queries={"shard_passages": 16},
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": 128, "student_weight": 0.5},
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 2, "learning_rate": 1e-3},
    )


def train(recipe: Path, *overrides: str) -> Finished:
    return run_here("train.py", recipe, *overrides)


def test_a_run_ends_with_a_report_and_a_second_one_reuses_everything(recipe: Path) -> None:
    first = run_program("train.py", recipe)
    assert first.returncode == 0, first.stdout + first.stderr
    run = recipe.parent / "runs" / "tiny"
    metrics = json.loads((run / "metrics.json").read_text())
    assert [entry["epoch"] for entry in metrics["history"]] == [0, 1, 2]
    assert "| ndcg@10 |" in (run / "report.md").read_text()
    second = train(recipe)
    assert second.returncode == 0
    assert "make " not in second.stdout
    assert second.stdout.count("reuse ") == 10
    # Another measure is measured anew; it trains nothing.
    third = train(recipe, "--evaluation.primary_metric", "ndcg@5")
    assert third.returncode == 0, third.stderr
    assert made(third.stdout) == ["evaluation"]
    assert "not measured on these queries" in (run / "report.md").read_text()


@pytest.mark.fault("a killed writer of queries", "a killed search for negatives")
@pytest.mark.fault("a killed teacher", "a killed encoder or index")
@pytest.mark.fault("a killed training")
def test_killed_in_every_stage_a_run_resumes_and_ends_with_the_same_bytes(recipe: Path) -> None:
    runs, log = recipe.parent / "runs", recipe.parent / "killed.log"
    assert train(recipe, "--name", "whole").returncode == 0
    moments = [f"{stage}.partial" for stage in STAGES]
    moments.insert(-1, "training/checkpoint-*/checkpoint.json")
    killed_at(moments, runs / "killed", log, "train.py", recipe, "--name", "killed")
    last = train(recipe, "--name", "killed")
    assert last.returncode == 0, last.stderr
    assert "resumed from checkpoint" in log.read_text()
    assert hashes(runs / "killed") == hashes(runs / "whole")


@pytest.mark.fault("a killed training")
def test_killed_within_an_epoch_training_goes_on_from_a_checkpoint_by_time(recipe: Path) -> None:
    runs, log = recipe.parent / "runs", recipe.parent / "killed.log"
    whole = train(recipe, "--name", "whole", "--checkpoints.minutes", "60")
    assert whole.returncode == 0 and "by time" not in whole.stdout
    options = ["--name", "killed", "--checkpoints.minutes", "0"]
    within = "training/checkpoint-2/checkpoint.json"  # of 6 steps an epoch
    killed_at([within], runs / "killed", log, "train.py", recipe, *options)
    last = train(recipe, *options)
    assert last.returncode == 0, last.stderr
    resumed = re.search(r"resumed from checkpoint-(\d+)", last.stdout)
    steps = json.loads((runs / "whole/model/history.json").read_text())[1]["step"]
    assert resumed and 2 <= int(resumed[1]) < steps, "within the first epoch"
    assert re.search(r"\d+ checkpoints by time took \d+\.\d% of training", last.stdout)
    assert hashes(runs / "killed") == hashes(runs / "whole")


@pytest.mark.fault("a resume that changed")
def test_checkpoints_of_other_settings_or_data_need_restart(recipe: Path) -> None:
    runs, log = recipe.parent / "runs", recipe.parent / "killed.log"
    moment = "training/checkpoint-*/checkpoint.json"
    killed_at([moment], runs / "killed", log, "train.py", recipe, "--name", "killed")
    assert f"killed at {moment}" in log.read_text()
    checkpoint = last_checkpoint(runs / "killed")
    for key, value in (("training.learning_rate", "2e-3"), ("triplets.held_out", "0.3")):
        refused = train(recipe, "--name", "killed", f"--{key}", value)
        assert refused.returncode == 2, refused.stderr
        assert "killed/training holds checkpoints of other settings" in refused.stderr
        assert "give --restart to discard them" in refused.stderr and checkpoint.exists()
    other = ("--training.learning_rate", "2e-3")
    anew = train(recipe, "--name", "killed", *other, "--restart")
    assert anew.returncode == 0 and "resumed from" not in anew.stdout, anew.stderr


@pytest.mark.fault("signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_a_checkpoint_within_a_step(recipe: Path, number: signal.Signals) -> None:
    runs = recipe.parent / "runs"
    options = ["--training.num_train_epochs", "6", "--training.per_device_train_batch_size", "1"]
    assert train(recipe, "--name", "whole", *options).returncode == 0
    command = [sys.executable, str(ROOT / "train.py"), str(recipe), "--name", "stopped", *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and hand that on.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as started:
        curves = runs / "stopped" / "training" / "curves.jsonl"
        while started.poll() is None and '"loss"' not in _text(curves):
            time.sleep(0.001)
        started.send_signal(number)
        out, error = started.communicate(timeout=120)
    assert started.returncode == 128 + number, out[-2000:] + error
    # After ^C in a terminal the line begins anew.
    assert error.strip().count("\n") == 0 and "run the same command again to resume" in error
    commands = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
    assert not [each for each in commands if str(recipe) in each], "a process is left"
    again = train(recipe, "--name", "stopped", *options)
    assert again.returncode == 0, again.stderr
    resumed = re.search(r"resumed from checkpoint-(\d+)", again.stdout)
    saved = re.search(r"stopped: checkpoint of step (\d+) is saved", out)
    assert saved and resumed and resumed[1] == saved[1]
    assert hashes(runs / "stopped") == hashes(runs / "whole")


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@pytest.mark.fault("a killed training")
def test_mixtures_that_are_measured_are_not_searched_again(recipe: Path) -> None:
    assert train(recipe).returncode == 0
    run = recipe.parent / "runs" / "tiny"
    before = hashes(run)
    shutil.rmtree(run / "model")
    kept = run / "training" / "mixtures.json"
    held = json.loads(kept.read_text())
    values = json.loads(held["values"])
    del values["0.75"]
    kept.write_text(json.dumps(held | {"values": json.dumps(values)}))
    again = train(recipe)
    assert "evaluated with 1 searches" in again.stdout, again.stdout
    assert hashes(run) == before
    # What is damaged, or of other queries, is measured again.
    for damage in ("{", json.dumps(held | {"of": "others"})):
        shutil.rmtree(run / "model")
        kept.write_text(damage)
        again = train(recipe)
        assert "evaluated with 5 searches" in again.stdout, again.stdout
        assert hashes(run) == before


@pytest.mark.fault("divergence")
def test_training_that_diverges_is_one_line_and_a_code_of_its_own(recipe: Path) -> None:
    found = train(recipe, "--training.learning_rate", "1e30", "--training.max_grad_norm", "0")
    assert found.returncode == 4, found.stderr
    line = found.stderr.strip()
    assert line.startswith("error: training diverged: ") and "\n" not in line
    assert "quer" in line and "last checkpoint: none. Lower training.learning_rate" in line
    assert not (recipe.parent / "runs" / "tiny" / "model").exists()


def test_lora_ships_a_plain_model_whose_weights_moved_by_a_low_rank(recipe: Path) -> None:
    options = ["--model.lora_rank", "2", "--training.learning_rate", "0.05"]
    options += ["--evaluation.interpolation_steps", "1", "--loss.matryoshka", "[8]"]
    found = train(recipe, *options)
    assert found.returncode == 0, found.stderr
    run = recipe.parent / "runs" / "tiny"
    base_path = yaml.safe_load(recipe.read_text())["model"]["name"]
    base = BiEncoder.from_pretrained(base_path).backbone.state_dict()
    adapter = load_file(last_checkpoint(run) / "adapter_model.safetensors")
    assert all(min(update.shape) == 2 for update in adapter.values())
    # What ships has the base's weights by name; a run that the guard refused has them as they were.
    shipped = BiEncoder.from_pretrained(run / "model").backbone.state_dict()
    assert shipped.keys() == base.keys()
    facts = json.loads((run / "model" / "manifest.json").read_text())["facts"]
    ranks = {
        name: int(torch.linalg.matrix_rank(shipped[name] - weight, rtol=1e-3))
        for name, weight in base.items()
        if weight.ndim == 2
    }
    assert set(ranks.values()) == ({0} if facts["base_kept"] else {0, 2})
    # Killed after an epoch, it goes on to the same bytes.
    whole = hashes(run)["model"]
    shutil.rmtree(run / "model")
    shutil.rmtree(last_checkpoint(run))
    again = train(recipe, *options)
    assert "resumed from checkpoint" in again.stdout, again.stdout + again.stderr
    assert hashes(run)["model"] == whole


def test_training_ends_when_no_evaluation_is_better(recipe: Path) -> None:
    options = ["--evaluation.early_stopping_patience", "2", "--training.num_train_epochs", "9"]
    assert train(recipe, *options, "--training.learning_rate", "1e-9").returncode == 0
    run = recipe.parent / "runs" / "tiny"
    history = json.loads((run / "model" / "history.json").read_text())
    # The first epoch counts as better, whatever the model as it came had; none after it is.
    assert [entry["epoch"] for entry in history] == [0, 1, 2, 3]


def launch(recipe: Path, *overrides: str) -> list[str]:
    """The command of the same in two processes."""
    accelerate = [sys.executable, "-m", "accelerate.commands.launch"]
    config = ["--config_file", str(ROOT / "accelerate_config.yaml"), "--main_process_port", "0"]
    return [*accelerate, *config, str(ROOT / "train.py"), str(recipe), *overrides]


def launched(recipe: Path, *overrides: str) -> Finished:
    """The same in two processes."""
    return subprocess.run(launch(recipe, *overrides), capture_output=True, text=True, timeout=600)


@pytest.mark.long
@pytest.mark.fault("signals")
def test_a_signal_to_a_launch_of_two_saves_a_checkpoint_and_leaves_no_process(
    recipe: Path,
) -> None:
    runs = recipe.parent / "runs"
    options = ["--training.num_train_epochs", "12", "--training.per_device_train_batch_size", "1"]
    command = launch(recipe, "--name", "stopped", *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        curves = runs / "stopped" / "training" / "curves.jsonl"
        while started.poll() is None and '"loss"' not in _text(curves):
            time.sleep(0.002)
        ranks = psutil.Process(started.pid).children(recursive=True)
        started.send_signal(signal.SIGTERM)
        out, error = started.communicate(timeout=120)
    assert started.returncode != 0
    assert not psutil.wait_procs(ranks, timeout=60)[1], "a rank is left"
    said = (out + error).decode()
    saved = re.search(r"stopped: checkpoint of step (\d+) is saved", said)
    assert saved and "error: stopped by SIGTERM: run the same command again to resume" in said
    again = launched(recipe, "--name", "stopped", *options)
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"resumed from checkpoint-{saved[1]}" in again.stdout
    whole = launched(recipe, "--name", "whole", *options)
    assert whole.returncode == 0 and hashes(runs / "stopped") == hashes(runs / "whole")


def test_two_processes_measure_and_learn_what_one_does(recipe: Path) -> None:
    runs = recipe.parent / "runs"
    common = ("--training.logging_steps", "1", "--training.max_grad_norm", "0")
    assert train(recipe, "--name", "one", *common).returncode == 0
    two = launched(recipe, "--name", "two", "--training.per_device_train_batch_size", "4", *common)
    assert two.returncode == 0, two.stderr[-3000:]
    assert "8 searches in all" in two.stdout  # three evaluations, five mixtures
    one_log, two_log = (
        json.loads((last_checkpoint(runs / name) / "trainer_state.json").read_text())["log_history"]
        for name in ("one", "two")
    )
    assert one_log[0]["epoch"] == 0
    assert one_log[0] == two_log[0]
    losses = [[e["loss"] for e in log if "loss" in e] for log in (one_log, two_log)]
    assert len(losses[0]) > 8
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_a_failed_evaluation_fails_every_process_with_its_message(recipe: Path) -> None:
    failed = launched(recipe, "--index.backend", "faiss", "--index.factory", "IVF100000,Flat")
    assert failed.returncode != 0
    assert "faiss cannot build" in failed.stderr
    assert "process 0 failed" in failed.stderr
    assert f"{ROOT}/train.py" not in failed.stderr.replace("train.py FAILED", "")
