"""A pipeline makes its steps one by one, of what each is handed, up to the one that is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline, StepReached


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"""
runs_dir: {tmp_path}/runs
corpus: {{path: {tiny_beir_path}}}
queries: {{count: 20, per_passage: 1}}
negatives: {{candidates: 6}}
teacher: {{name: {tiny_cross_encoder_path}, precision: fp32, max_length: 48}}
model: {{name: {tiny_encoder_path}, precision: fp32, max_length: 48}}
"""
    )
    return path


def test_candidates_are_the_same_from_lists_on_disk_that_are_all_read(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = Pipeline(load_recipe(recipe)).negatives
    options = ("backend=faiss", "factory=IVF1,Flat", "on_disk=true", "nprobe=1")
    options = tuple(f"--negatives.index.{option}" for option in options)
    columns = ["query_id", "passages", "student_rank"]
    before = exact.dataset("candidates").select_columns(columns).to_list()
    capsys.readouterr()
    lists = Pipeline(load_recipe(recipe, options)).negatives
    assert "make  negatives" in capsys.readouterr().out
    assert before == lists.dataset("candidates").select_columns(columns).to_list()


def test_a_step_is_made_of_the_artifacts_that_it_declares(recipe: Path) -> None:
    pipeline = Pipeline(load_recipe(recipe))
    with pytest.raises(TypeError, match="step queries needs corpus"):
        pipeline.make("queries")
    corpus = pipeline.make("corpus")
    with pytest.raises(TypeError, match="step negatives needs embeddings, student, queries"):
        pipeline.make("negatives", corpus)
    queries = pipeline.make("queries", corpus)
    assert queries.path.name == "queries" and pipeline.queries is queries


def test_the_last_step_that_is_wanted_ends_the_run(recipe: Path) -> None:
    pipeline = Pipeline(load_recipe(recipe), until="corpus")
    with pytest.raises(StepReached, match="corpus"):
        pipeline.make("corpus")
    assert (pipeline.recipe.folder / "corpus" / "manifest.json").exists()


def test_a_last_step_that_is_none_is_refused_with_the_nearest(recipe: Path) -> None:
    with pytest.raises(InputError, match=r"--until negative: .*negatives"):
        Pipeline(load_recipe(recipe), until="negative")


def test_a_retired_model_is_refused_with_what_to_do_instead(recipe: Path) -> None:
    with pytest.raises(InputError, match="retired on 2026-04-04.*Three ways on"):
        Pipeline(load_recipe(recipe, ["--model.name=embed-multilingual-v2.0"])).check()
