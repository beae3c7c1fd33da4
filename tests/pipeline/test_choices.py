"""What a run decides by measuring the machine stays decided."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import ROOT, manifests
from recipes import tiny_recipe

from tercet import modeling
from tercet.config.loading import load_recipe
from tercet.core.artifacts import only_existing
from tercet.core.files import read_json, write_json
from tercet.modeling import CrossEncoderTeacher, precision as formats
from tercet.pipeline.choices import CHOICES, read_choices
from tercet.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.fault("precision of a resume")

OPEN = {
    "model.precision": "auto",
    "training.bf16": "null",
    "teacher.precision": "auto",
    "queries.generators.0.precision": "auto",
    "negatives.retrievers.0.precision": "auto",
}
SHARD = 8  # pairs
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
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": SHARD, "student_weight": 0.5},
        model=tiny_encoder_path,
        queries={"count": 8, "generators": [writer]},
        negatives={"candidates": 4, "retrievers": [other]},
        triplets={"negatives_per_query": 3},
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


def interrupted(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that ended in the scores' second shard."""
    score, calls = CrossEncoderTeacher.score, list[int]()

    def dying(teacher: CrossEncoderTeacher, pairs: Any) -> Any:
        calls.append(len(pairs))
        if calls.count(SHARD) == 2:
            raise KeyboardInterrupt
        return score(teacher, pairs)

    monkeypatch.setattr(CrossEncoderTeacher, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        scored(recipe)
    monkeypatch.setattr(CrossEncoderTeacher, "score", score)
    run = load_recipe(recipe, OPTIONS).folder
    assert len([*(run / "scores.partial").glob("pairs-*.arrow")]) == 1
    return run


def test_what_was_begun_in_a_format_is_ended_in_it_on_another_machine(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, "bf16")
    whole = manifests(scored(recipe).recipe.folder)["scores"]
    shutil.rmtree(recipe.parent / "runs")
    run = interrupted(recipe, monkeypatch)
    on_a_machine(monkeypatch, "fp32")
    scored(recipe)
    assert manifests(run)["scores"] == whole


def test_a_part_made_on_another_device_or_library_is_refused(
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = interrupted(recipe, monkeypatch)
    here = modeling.circumstances()
    for name, there in {"torch": "1", "transformers": "9", "device": "cuda"}.items():
        monkeypatch.setattr(modeling, "circumstances", lambda: here | {name: there})  # noqa: B023
        capsys.readouterr()
        with pytest.raises(formats.InputError) as refused:
            scored(recipe)
        change = f"{name} {here[name]} -> {there})"
        assert f"{run}/scores.partial was begun elsewhere ({change}" in str(refused.value)
        said = capsys.readouterr().out
        # What is finished is kept, and told; the corpus is of no model.
        assert "make " not in said and said.count(f"(made elsewhere: {change}") == 4, said
        assert "reuse corpus: inputs and settings unchanged\n" in said
    pipeline = Pipeline(load_recipe(recipe, OPTIONS), restart=True)
    assert pipeline.scores.manifest["made_on"] == here | {"device": "cuda"}


def test_a_machine_that_lacks_the_format_refuses_the_part_by_its_name(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_machine(monkeypatch, "bf16")
    run = interrupted(recipe, monkeypatch)
    monkeypatch.setattr(modeling, "computes", lambda precision, device: precision != "bf16")
    with pytest.raises(formats.InputError) as refused:
        scored(recipe)
    assert str(refused.value).startswith(
        f"{run}/scores: the run computes in bf16 (teacher.precision), which this machine cannot"
    )


def test_queries_that_are_written_stay_where_another_engine_would_write_others(
    recipe: Path,
    tiny_seq2seq_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ct2 = pytest.importorskip("tercet.modeling.generators.ct2")
    monkeypatch.setattr(ct2, "_kind", lambda device: "cpu")
    writer = {"kind": "seq2seq", "model": str(tiny_seq2seq_path), "max_new_tokens": 4}
    options = [f"--queries.generators={json.dumps([writer])}", "--queries.shard_passages=4"]

    def queries(**given: bool) -> str:
        return Pipeline(load_recipe(recipe, options), **given).queries.digest

    first, said = queries(), modeling.describe_engine()
    run = load_recipe(recipe, options).folder
    assert read_choices(run)["queries.generators.0.engine"]["choice"] == said
    # A machine with a GPU writes by torch, and keeps what CTranslate2 has written.
    monkeypatch.setattr(modeling, "seq2seq_engine", lambda engine: "torch")
    capsys.readouterr()
    assert queries() == first and "make " not in capsys.readouterr().out
    # Of what is begun, it does not write the rest; and with --restart all.
    (run / "queries").rename(run / "queries.partial")
    plan = read_json(run / "queries.partial" / "manifest.json")
    begun = {"plan": plan["plan"], "launch": "", "made_on": plan["made_on"]}
    write_json(run / "queries.partial" / "plan.json", begun)
    (run / "queries.partial" / "manifest.json").unlink()
    max((run / "queries.partial").glob("*.arrow")).unlink()
    with pytest.raises(formats.InputError, match=f"writes with {said}, and this machine has torch"):
        queries()
    assert queries(restart=True) != first
    assert read_choices(run)["queries.generators.0.engine"]["choice"] == "torch"
    assert read_choices(run)["queries.generators.0.precision"]["choice"] in ("fp32", "bf16")


def test_this_machine_computes_in_what_it_would_choose() -> None:
    place = modeling.default_device().type
    assert modeling.computes("fp32", place) and modeling.computes("auto", place)
    assert not modeling.computes("fp32", "meta"), "a device without numbers"


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
