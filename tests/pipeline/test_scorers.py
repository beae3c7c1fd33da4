"""Several scorers: each scores each pair once, and the targets are the weighted sum."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipes import tiny_recipe
from safetensors.numpy import load_file, save_file

from tercet.commands.adapt import adapt
from tercet.commands.export import export_triplets
from tercet.commands.info import info
from tercet.config.loading import load_recipe
from tercet.data.targets import calibrate
from tercet.evaluation.teacher_audit import audit_teacher
from tercet.forecast.stage_estimates import estimate
from tercet.modeling import BiEncoder, CrossEncoderTeacher
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.audit_table import print_audit
from tercet.retrieval import BM25Retriever
from tercet.studio.browse import Data

#: The folders of the scorers' own artifacts, and the one that puts their scores side by side.
OF_SCORERS = ("scores_teacher", "scores_bm25", "scores_other", "embeddings_other")


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    """A folder with a teacher, and an encoder that is not the student."""
    folder = tmp_path_factory.mktemp("scorers")
    shutil.copytree(tiny_cross_encoder_path, folder / "teacher")
    shutil.copytree(tiny_encoder_path, folder / "other")
    weights, random = load_file(folder / "other" / "model.safetensors"), np.random.default_rng(5)
    for name, value in weights.items():
        weights[name] = value + 0.1 * random.normal(size=value.shape).astype(value.dtype)
    save_file(weights, folder / "other" / "model.safetensors", metadata={"format": "pt"})
    return folder


def scorers(folder: Path) -> list[dict[str, Any]]:
    return [
        {"name": str(folder / "teacher"), "precision": "fp32", "max_length": 48},
        {"kind": "bm25", "k1": 1.2},
        {"kind": "bi_encoder", "name": str(folder / "other"), "precision": "fp32"},
    ]


@pytest.fixture(scope="module")
def recipe(folder: Path, tiny_beir_path: Path, tiny_encoder_path: Path) -> Path:
    path = tiny_recipe(
        folder,
        corpus=tiny_beir_path,
        model=tiny_encoder_path,
        negatives={
            "candidates": 8,
            "retrievers": [
                {"kind": "dense"},
                {"kind": "dense", "model": str(folder / "other"), "precision": "fp32"},
            ],
        },
    )
    text = path.read_text()
    path.write_text(text + f"teacher: {json.dumps({'scorers': scorers(folder)})}\n")
    return path


@pytest.fixture(scope="module")
def pipeline(recipe: Path) -> Pipeline:
    made = Pipeline(load_recipe(recipe))
    made.check()
    _ = made.targets
    return made


def marks(run: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in run.glob("*/manifest.json")}


@contextmanager
def remade(run: Path) -> Iterator[set[str]]:
    """The steps that are made again inside the block, after it; the run is then as before."""
    kept, found = run.with_name("kept"), set[str]()
    shutil.copytree(run, kept, copy_function=shutil.copy2)
    before = marks(run)
    yield found
    found |= {name for name, mark in marks(run).items() if before.get(name) != mark}
    shutil.rmtree(run)
    kept.rename(run)


def test_each_pair_has_the_score_that_each_scorer_gives_it(
    pipeline: Pipeline, folder: Path
) -> None:
    passages = pipeline.passages
    texts = dict(zip(passages.ids, passages.contents, strict=True))
    teacher = CrossEncoderTeacher.from_pretrained(
        str(folder / "teacher"), precision="fp32", max_length=48
    )
    encoder = BiEncoder.from_pretrained(str(folder / "other"), precision="fp32")
    bm25 = BM25Retriever(passages, k1=1.2)
    for row in pipeline.triplets.dataset("lists").select(range(0, 60, 7)):
        pairs = [(row["query"], texts[id]) for id in row["passages"]]
        ranking = dict(bm25.search([row["query"]], len(passages))[0])
        (query,) = encoder.encode_queries([row["query"]])
        expected = [
            teacher.score(pairs),
            [ranking.get(id, 0.0) for id in row["passages"]],
            encoder.encode_passages([text for _, text in pairs]) @ query,
        ]
        for found, true in zip(row["scorers"], expected, strict=True):
            assert found == pytest.approx(np.asarray(true), abs=1e-5)


def test_the_target_is_the_weighted_sum_of_all_members_on_one_scale(pipeline: Pipeline) -> None:
    facts, lists = pipeline.targets.facts, pipeline.triplets.dataset("lists")[:]
    student = [np.array(x, np.float32) for x in lists["student"]]
    parts = [[np.array(row[i], np.float32) for row in lists["scorers"]] for i in range(3)]
    scales = [calibrate(part, student).spread for part in parts]
    assert facts["student_weight"] == 0.5
    assert [each["scorer"] for each in facts["scorers"]] == ["teacher", "bm25", "other"]
    assert [each["weight"] for each in facts["scorers"]] == pytest.approx([1 / 3] * 3)
    assert [each["spread"] for each in facts["scorers"]] == pytest.approx(scales)
    targets = pipeline.targets.dataset("targets")["target"]
    for i, target in enumerate(targets):
        mix = sum(scale * part[i] / 3 for scale, part in zip(scales, parts, strict=True))
        assert lists["teacher"][i] == pytest.approx(mix, abs=1e-5)
        assert target == pytest.approx(0.5 * student[i] + 0.5 * mix, abs=1e-5)


def test_no_pair_is_scored_twice_and_vectors_of_a_model_that_mines_are_shared(
    pipeline: Pipeline,
) -> None:
    run = pipeline.recipe.folder
    for name in OF_SCORERS[:3]:
        manifest = json.loads((run / name / "manifest.json").read_text())
        assert manifest["facts"]["pairs_scored"] == sum(
            entry["rows"] for entry in manifest["files"].values()
        )
    assert len([*run.glob("embeddings*")]) == 2


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ([], set()),
        (
            ["--teacher.scorers.0.weight=2", *(f"--teacher.scorers.{i}.weight=1" for i in (1, 2))],
            {"triplets", "targets"},
        ),
        (["--teacher.student_weight=0.7"], {"targets"}),
        (["--teacher.scorers.1.k1=0.5"], {"scores_bm25", "scores", "triplets", "targets"}),
        (["--teacher.scorers.2.shard_pairs=100"], {"scores_other", "scores"}),
        (
            ["--teacher.scorers.0.max_length=16"],
            {"scores_teacher", "scores", "triplets", "targets"},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_made_again_is_what_changed(
    pipeline: Pipeline, recipe: Path, options: list[str], again: set[str]
) -> None:
    with remade(pipeline.recipe.folder) as found:
        _ = Pipeline(load_recipe(recipe, options)).targets
    assert found == again


def test_a_scorer_more_or_in_another_place_leaves_the_others_scores(
    pipeline: Pipeline, recipe: Path, folder: Path
) -> None:
    given = scorers(folder)
    for others in (given[:2], [given[1], given[0], given[2]]):
        with remade(pipeline.recipe.folder) as found:
            option = f"--teacher.scorers={json.dumps(others)}"
            other = Pipeline(load_recipe(recipe, [option]))
            lists = other.triplets.dataset("lists")
            assert len(lists[0]["scorers"]) == len(others)
        assert found == {"scores", "triplets"}


def test_one_scorer_in_a_list_gives_the_lists_and_targets_of_the_short_form(
    recipe: Path, folder: Path
) -> None:
    (one, *_) = scorers(folder)
    made = []
    for name, teacher in (("short", one), ("listed", {"scorers": [one]})):
        option = f"--teacher={json.dumps(teacher | {'student_weight': 0.5})}"
        made.append(Pipeline(load_recipe(recipe, [option, f"--name={name}"])))
    for step in ("scores", "triplets", "targets"):
        short, listed = (
            {n: f["sha256"] for n, f in getattr(each, step).manifest["files"].items()}
            for each in made
        )
        assert {n: listed[n] for n in listed} == {n: short[n] for n in listed}


def test_the_audit_measures_each_scorer_and_their_mixture(
    pipeline: Pipeline, recipe: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = audit_teacher(Pipeline(load_recipe(recipe)))
    assert [one.scorer for one in found.scorers] == ["teacher", "bm25", "other"]
    assert [one.weight for one in found.scorers] == pytest.approx([1 / 6] * 3)
    # Alone in a recipe a scorer has the figures that it has among others.
    one, option = found.scorers[1], f"--teacher.scorers={json.dumps(scorers(folder)[1:2])}"
    alone = audit_teacher(Pipeline(load_recipe(recipe, [option])))
    assert alone.head_room == one.head_room and not alone.scorers
    assert alone.lists and [alone.lists.rank, alone.lists.not_first] == [one.rank, one.not_first]
    # The mixture is that of the targets: all its members' sum.
    weights = [f"--teacher.scorers.{i}.weight={weight}" for i, weight in enumerate((1e-9, 1, 1e-9))]
    nearly = audit_teacher(Pipeline(load_recipe(recipe, [*weights, "--teacher.student_weight=0"])))
    assert nearly.head_room and found.scorers[1].head_room
    assert nearly.head_room.teacher == pytest.approx(found.scorers[1].head_room.teacher, abs=0.02)
    own = audit_teacher(Pipeline(load_recipe(recipe, ["--teacher.student_weight=1"])))
    assert own.head_room and own.head_room.difference == pytest.approx(0, abs=1e-9)
    print_audit(found)
    assert "mixture" in capsys.readouterr().out


def test_the_forecast_has_the_time_of_each_scorer(recipe: Path) -> None:
    forecast = estimate(Pipeline(load_recipe(recipe, ["--model.train=both", "--name=forecast"])))
    scores = forecast.stages["scores"]
    assert [Path(name).name for name in scores.parts] == ["teacher", "bm25", "other"]
    assert all(seconds > 0 for seconds in scores.parts.values())
    assert scores.seconds == pytest.approx(sum(scores.parts.values()))
    assert scores.rows % 3 == 0
    (note,) = [note for note in forecast.notes if note.startswith("of the scores: ")]
    assert "bm25" in note and "other" in note


def test_a_whole_run_tells_of_all_scorers(pipeline: Pipeline, recipe: Path) -> None:
    adapt(load_recipe(recipe, ["--evaluation.interpolation_steps=1"]))
    run = pipeline.recipe.folder
    report, card = (run / "report.md").read_text(), (run / "README.md").read_text()
    assert "of it 33% teacher, 33% bm25, 33% other" in report
    assert "weights 0.5 for the base model, 0.17 for teacher, 0.17 for bm25, 0.17 for other" in card
    assert " + bm25 + " in card and " + bm25 + " in info(str(run))["teacher"]
    _, rows = export_triplets(pipeline.recipe, run / "triplets.jsonl")
    assert rows > 0
    (shown, *_) = Data(run).page("candidates with scores").rows
    assert len(shown) == 6
