"""What a run decides by measuring the machine stays decided."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ROOT, manifests
from recipes import tiny_recipe

from tercet import modeling
from tercet.config.loading import load_recipe
from tercet.core.artifacts import only_existing
from tercet.modeling import precision as formats
from tercet.pipeline.choices import CHOICES, read_choices
from tercet.pipeline.pipeline import Pipeline

OPEN = {
    "model.precision": "auto",
    "training.bf16": "null",
    "teacher.precision": "auto",
    "queries.generators.0.precision": "auto",
    "negatives.retrievers.0.precision": "auto",
}
OPTIONS = [f"--{key}={value}" for key, value in OPEN.items()]


@pytest.fixture
def recipe(
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_causal_path: Path,
) -> Path:
    writer = {"kind": "causal", "model": tiny_causal_path, "max_new_tokens": 4}
    other = {"kind": "dense", "model": tiny_encoder_path}
    return tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        queries={"count": 8, "generators": [writer]},
        negatives={"candidates": 4, "retrievers": [other]},
        triplets={"negatives_per_query": 3, "teacher_weight": 0.5},
    )


def on_a_machine(monkeypatch: pytest.MonkeyPatch, faster: str) -> None:
    """One that names instructions for bf16, with this format the faster."""
    times = (2.0, 1.0) if faster == "bf16" else (1.0, 2.0)
    monkeypatch.setattr(formats, "default_device", lambda: formats.torch.device("cpu"))
    monkeypatch.setattr(formats, "_has_bf16", lambda: True)
    monkeypatch.setattr(formats, "_timed", lambda work, clock: times)
    monkeypatch.setattr(formats, "_cpu", lambda: faster)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))


def scored(recipe: Path, *options: str) -> Pipeline:
    """A run with its lists scored."""
    pipeline = Pipeline(load_recipe(recipe, [*OPTIONS, *options]))
    _ = pipeline.scores
    return pipeline


@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_a_run_keeps_its_number_formats_on_another_machine(
    recipe: Path, faster: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_machine(monkeypatch, faster)
    pipeline = scored(recipe)
    run = pipeline.recipe.folder
    chosen = {key: each["choice"] for key, each in read_choices(run).items()}
    half = faster == "bf16"
    assert chosen == {key: half if key == "training.bf16" else faster for key in OPEN}
    assert manifests(run)["embeddings"]["plan"]["settings"]["model.precision"] == faster
    generators = manifests(run)["queries"]["plan"]["settings"]["queries"]["generators"]
    assert generators[0]["precision"] == faster
    assert pipeline.recipe.training["bf16"] is half
    assert "number formats, measured" in capsys.readouterr().out

    before, kept = manifests(run), (run / CHOICES).read_bytes()
    on_a_machine(monkeypatch, "fp32" if half else "bf16")
    scored(recipe)
    said = capsys.readouterr().out
    assert "make " not in said and "measured" not in said
    assert manifests(run) == before and (run / CHOICES).read_bytes() == kept
    # Who only reads a run takes what it has chosen.
    with only_existing():
        assert Pipeline(load_recipe(recipe, OPTIONS)).scores.digest == pipeline.scores.digest


def test_the_format_that_was_chosen_may_be_asked_for_by_name(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_machine(monkeypatch, "fp32")
    scored(recipe)
    capsys.readouterr()
    asked = [f"--{key}={'false' if key == 'training.bf16' else 'fp32'}" for key in OPEN]
    _ = Pipeline(load_recipe(recipe, asked)).scores
    assert "make " not in capsys.readouterr().out


def test_another_model_is_measured_anew(
    recipe: Path, tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, "fp32")
    run = scored(recipe).recipe.folder
    another = shutil.copytree(tiny_encoder_path, tmp_path / "another")
    on_a_machine(monkeypatch, "bf16")
    scored(recipe, f"--model.name={another}")
    choices = read_choices(run)
    assert choices["model.precision"] == {"of": str(another), "choice": "bf16"}
    assert choices["teacher.precision"]["choice"] == "fp32"


def test_where_all_is_given_nothing_is_chosen(recipe: Path) -> None:
    given = [f"--{key}=fp32" for key in OPEN if key != "training.bf16"]
    pipeline = Pipeline(load_recipe(recipe, given))
    _ = pipeline.embeddings
    assert not (pipeline.recipe.folder / CHOICES).exists()


@pytest.mark.fault("damaged bookkeeping")
def test_damaged_choices_are_made_again(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_machine(monkeypatch, "fp32")
    file = scored(recipe).recipe.folder / CHOICES
    before = file.read_bytes()
    file.write_text("{")
    scored(recipe)
    assert file.read_bytes() == before


@pytest.mark.slow
def test_every_process_takes_the_first_ones_choice(recipe: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    launch += ["--config_file", str(ROOT / "accelerate_config.yaml"), str(ROOT / "train.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERCET_CACHE": str(tmp_path / "cache")}
    command = [*launch, str(recipe), "--until=scores", *OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "tiny"
    choices = {key: each["choice"] for key, each in read_choices(run).items()}
    assert set(choices) == set(OPEN)
    settings = manifests(run)["scores"]["plan"]["settings"]
    assert settings["teacher.precision"] == choices["teacher.precision"]
    with only_existing():
        assert Pipeline(load_recipe(recipe, OPTIONS)).scores.facts["pairs_scored"]


def test_the_demos_teacher_stays_when_the_hub_answers_and_the_own_one_when_it_falls_silent(
    recipe: Path,
    tiny_cross_encoder_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modeling, "has_stand_in", lambda name: True)
    own = str(tiny_cross_encoder_path)
    other = str(shutil.copytree(own, recipe.parent / "demos"))
    for first, later in ((other, own), (own, other)):
        monkeypatch.setattr(modeling, "stand_in", lambda name, first=first: first)
        options = [f"--name={Path(first).name}"]
        pipeline = scored(recipe, *options)
        assert pipeline.recipe.teacher.name == first
        monkeypatch.setattr(modeling, "stand_in", lambda name, later=later: later)
        with only_existing():
            assert scored(recipe, *options).scores.digest == pipeline.scores.digest
        restarted = Pipeline(load_recipe(recipe, [*OPTIONS, *options]), restart=True)
        assert restarted.recipe.teacher.name == later
