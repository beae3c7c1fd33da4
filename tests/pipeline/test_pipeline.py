"""What makes a stage stale, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline

STAGES = ["corpus", "embeddings", "student", "queries"]
STAGES += ["negatives", "scores", "triplets", "targets"]


@pytest.fixture
def corpus(tmp_path: Path, tiny_beir_path: Path) -> Path:
    return Path(shutil.copytree(tiny_beir_path, tmp_path / "corpus"))


@pytest.fixture
def recipe(
    tmp_path: Path, corpus: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"""
runs_dir: {tmp_path}/runs
corpus: {{path: {corpus}}}
queries: {{count: 20, per_passage: 1}}
negatives: {{candidates: 6}}
teacher: {{name: {tiny_cross_encoder_path}, precision: fp32, max_length: 48}}
model: {{name: {tiny_encoder_path}, precision: fp32, max_length: 48}}
"""
    )
    return path


def made(
    recipe: Path, capsys: pytest.CaptureFixture[str], *overrides: str
) -> tuple[list[str], Pipeline]:
    """Names of the stages that are made, up to the triplets; the others are reused."""
    pipeline = Pipeline(load_recipe(recipe, overrides))
    capsys.readouterr()
    for stage in STAGES:
        getattr(pipeline, stage)
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[1].rstrip(":") for line in lines if line.startswith("make")], pipeline


def test_nothing_is_made_twice(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(recipe, capsys)[0] == STAGES
    assert made(recipe, capsys)[0] == []


@pytest.mark.parametrize(
    ("override", "stale"),
    [
        ("--queries.count=19", ["queries", "negatives", "scores", "triplets", "targets"]),
        ("--negatives.candidates=5", ["negatives", "scores", "triplets", "targets"]),
        ("--teacher.max_length=40", ["scores", "triplets", "targets"]),
        ("--model.max_length=40", ["embeddings", "student", "negatives", "triplets", "targets"]),
        (
            "--model.query_prompt=query:",
            ["embeddings", "student", "negatives", "triplets", "targets"],
        ),
        ("--model.dropout=0.1", []),
        ("--model.lora_rank=4", []),
        ("--triplets.teacher_weight=0.3", ["targets"]),
        ("--triplets.calibration=none", ["targets"]),
        ("--triplets.negatives_per_query=3", []),
        ("--index.backend=faiss", []),
    ],
)
def test_a_setting_makes_stale_what_depends_on_it(
    recipe: Path, capsys: pytest.CaptureFixture[str], override: str, stale: list[str]
) -> None:
    made(recipe, capsys)
    again = made(recipe, capsys, override)[0]
    # A stage whose new output equals the old one leaves those after it fresh.
    assert set(again) <= {*stale, "scores"} and set(stale[:1]) <= set(again)


def test_another_loss_trains_again_on_the_same_triplets(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, before = made(recipe, capsys)
    again, after = made(recipe, capsys, "--loss.info_nce=0.1")
    assert again == []
    assert before.stage("model").plan != after.stage("model").plan


def test_a_passage_that_changes_beyond_what_the_model_reads_is_scored_again(
    recipe: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(recipe, capsys, "--model.max_length=8")
    file = corpus / "corpus.jsonl"
    file.write_text(file.read_text().replace('"}', ' and so on, at length"}', 1))
    again, _ = made(recipe, capsys, "--model.max_length=8")
    assert {"corpus", "embeddings", "scores"} <= set(again)


def test_other_judgements_leave_all_of_it_and_the_model_as_they_are(
    recipe: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, before = made(recipe, capsys)
    for split in ("dev", "test"):
        file = corpus / "qrels" / f"{split}.tsv"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    again, after = made(recipe, capsys)
    assert again == ["corpus"]
    # They choose nothing, so no other model would come of them.
    assert before.stage("model").plan == after.stage("model").plan


def test_candidates_are_the_same_from_lists_on_disk_that_are_all_read(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, exact = made(recipe, capsys)
    options = ("backend=faiss", "factory=IVF1,Flat", "on_disk=true", "nprobe=1")
    again, lists = made(recipe, capsys, *(f"--negatives.index.{option}" for option in options))
    assert "negatives" in again
    columns = ["query_id", "passages", "student_rank"]
    found = [
        pipeline.negatives.dataset("candidates").select_columns(columns).to_list()
        for pipeline in (exact, lists)
    ]
    assert found[0] == found[1]


def test_a_retired_model_is_refused_with_what_to_do_instead(recipe: Path) -> None:
    with pytest.raises(InputError, match="retired on 2026-04-04.*Three ways on"):
        Pipeline(load_recipe(recipe, ["--model.name=embed-multilingual-v2.0"])).check()
