"""The scorers of a recipe: each kind reads its own keys, and one way stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.config.loading import load_recipe, save_recipe
from tercet.config.recipe import Recipe
from tercet.core.schema import InputError


def load(folder: Path, teacher: str, rest: str = "") -> Recipe:
    path = folder / "r.yaml"
    path.write_text(f"corpus: {{path: x}}\nteacher: {teacher}\n{rest}")
    return load_recipe(path)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("{name: a, scorers: [{kind: bm25}]}", "teacher.name is of one reranker: beside "),
        ("{max_length: 99, scorers: [{kind: bm25}]}", "teacher.max_length is of one reranker"),
        ("{scorers: [{kind: bm25, name: a}]}", "teacher.scorers.0 is bm25: `name` is not read"),
        ("{scorers: [{name: a, k1: 1}]}", "teacher.scorers.0 is cross_encoder: `k1` is not read"),
        ("{scorers: [{name: a, pooling: cls}]}", "is cross_encoder: `pooling` is not read"),
        ("{scorers: [{kind: bi_encoder, name: a, backend: onnx}]}", "`backend` is not read"),
        ("{scorers: [{kind: bi_encoder}]}", "teacher.scorers.0 is bi_encoder: give its `name`"),
        ("{scorers: [{kind: bi_encoder, name: a, precision: fp16}]}", "`precision` is auto, fp32"),
        ("{scorers: [{kind: api, name: a}]}", "teacher.scorers.0 is api: give its `api`"),
        ("{scorers: [{kind: api, api: tei, name: a}]}", "api is tei: give endpoint"),
        ("{scorers: [{name: a, api: tei}]}", "is cross_encoder: `api` is not read"),
        ("{scorers: [{name: a/b}, {name: c/b}]}", "two of teacher.scorers have one name (b, b)"),
        ("{scorers: [{name: a, weight: 1}, {kind: bm25}]}", "a weight, or none"),
        ("{scorers: [{name: a, weight: 0}]}", "teacher.scorers.0.weight must be above 0"),
        ("{scorers: [{kind: bm24}]}", "cannot be 'bm24'; did you mean 'bm25'?"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(tmp_path: Path, teacher: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, teacher)
    assert said in str(caught.value) and "\n" not in str(caught.value)


MIX = "{scorers: [{kind: bm25, weight: 3}, {name: a/b, weight: 1}], student_weight: 0.2}"


def test_scorers_are_written_and_read_alike(tmp_path: Path) -> None:
    recipe = load(tmp_path, MIX)
    assert recipe.teacher.names == ["bm25", "b"]
    assert recipe.teacher.weights == [0.75, 0.25]
    save_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_the_short_form_is_one_scorer_with_the_same_keys(tmp_path: Path) -> None:
    short = load(tmp_path, "{name: a/b, max_length: 99}").teacher
    (listed,) = load(tmp_path, "{scorers: [{name: a/b, max_length: 99}]}").teacher.scorers
    assert short.each == {"teacher": listed}
    assert (
        short.reranker
        == load(tmp_path, "{scorers: [{kind: bm25}, {name: a/b, max_length: 99}]}").teacher.reranker
    )
    assert load(tmp_path, "{scorers: [{kind: bm25}]}").teacher.reranker is None
    assert load(tmp_path, "{api: cohere, name: m}").teacher.each["teacher"].kind == "api"


SHARED = "negatives: {retrievers: [{kind: dense, model: a/b, precision: fp32}]}"


def test_a_model_that_mines_and_scores_is_read_in_one_way(tmp_path: Path) -> None:
    (one,) = load(
        tmp_path, "{scorers: [{kind: bi_encoder, name: a/b}]}", SHARED
    ).scorer_encoders.values()
    assert one.precision == "fp32"
    with pytest.raises(InputError, match=r"teacher\.scorers\.0\.precision is another than that of"):
        load(tmp_path, "{scorers: [{kind: bi_encoder, name: a/b, precision: bf16}]}", SHARED)
