"""A recipe as a form: every key has a widget, and its value reaches the recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from tercet.config.loading import load_recipe, save_recipe
from tercet.config.parsing import flatten
from tercet.config.recipe import Recipe
from tercet.config.training import TRAINING
from tercet.studio import form
from tercet.studio.places import Places

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "recipes").mkdir()
    for path in RECIPES:
        (tmp_path / "recipes" / path.name).write_text(path.read_text())
    (tmp_path / "recipes" / "plain.yaml").write_text("corpus: {source: beir, path: corpora/x}\n")
    return Places(tmp_path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_again_as_it_was_written_whole(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, cross_check=False)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml", cross_check=False) == recipe


def test_every_key_has_one_widget() -> None:
    paths = [field.path for field in form.fields()]
    assert len(set(paths)) == len(paths)
    whole = flatten(dataclasses.asdict(Recipe()))
    lists = tuple(f"{field.path}." for field in form.fields() if field.kind == "yaml")
    assert {key for key in whole if not key.startswith(lists)} - {"runs_dir"} <= set(paths)
    assert all(field.meaning for field in form.fields())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_unchanged_form_is_the_recipe(path: Path, places: Places) -> None:
    name = f"recipes/{path.name}"
    shown = form.values(load_recipe(places.recipe(name), cross_check=False))
    filled = form.fill(places, name, shown)
    assert filled.options == () and (filled.recipe is None) == bool(filled.errors)


def other(field: form.Field, shown: Any) -> tuple[Any, Any]:
    """Another value for a widget, and the value expected in the recipe."""
    if field.kind == "choice":
        choice = next(c for c in field.choices if c != shown)
        return choice, {"true": True, "false": False}.get(choice, choice)
    if field.kind == "flag":
        return not shown, not shown
    if field.kind in ("whole", "number"):
        low, high = field.low, field.high
        whole = (shown or (low or 0)) + 1
        value = whole if high is None or whole <= high else ((shown or 0) + (low or 0)) / 2 + 0.01
        value = int(value) if field.kind == "whole" else float(value)
        return (str(value) if field.optional else value), value
    return "other", "other"


def test_a_widgets_value_reaches_the_recipe(places: Places) -> None:
    name = "recipes/plain.yaml"
    shown = form.values(load_recipe(places.recipe(name)))
    for field in form.fields():
        if field.kind == "yaml":
            continue
        value, expected = other(field, shown[field.path])
        if field.path == "triplets.negatives_per_query":
            value, expected = "7", 7
        filled = form.fill(places, name, shown | {field.path: value})
        if not filled.options:  # TrainingArguments have limits of their own
            assert field.path.startswith("training."), (field.path, filled.errors)
            continue
        (option,) = filled.options
        found: Any = dataclasses.asdict(
            load_recipe(places.recipe(name), [option], cross_check=False)
        )
        for step in field.path.split("."):
            found = found[step]
        assert found == expected, field.path


def test_lists_and_other_training_arguments_are_yaml(places: Places) -> None:
    name = "recipes/plain.yaml"
    shown = form.values(load_recipe(places.recipe(name)))
    generators = "- {kind: spans, share: 2}\n- kind: seq2seq\n  model: doc2query/x"
    shown |= {"queries.generators": generators, "training": "max_grad_norm: 0.5\nadam_beta1: .8"}
    filled = form.fill(places, name, shown)
    assert filled.recipe, filled.errors
    assert [g.kind for g in filled.recipe.queries.generators] == ["spans", "seq2seq"]
    assert filled.recipe.training["max_grad_norm"] == 0.5
    assert filled.recipe.training["adam_beta1"] == 0.8
    assert load_recipe(places.recipe(name), filled.options) == filled.recipe
    path = form.save(places, name, "mine", filled.options)
    assert load_recipe(path) == filled.recipe
    assert "training" in yaml.safe_load(path.read_text())


#: Each list holds ten of the one before it.
BOMB = "a: [&l0 [1]" + "".join(f", &l{n} [{f'*l{n - 1}, ' * 10}]" for n in range(1, 10)) + "]"


@pytest.mark.parametrize(
    ("path", "shown", "message"),
    [
        ("queries.count", -1, "at least 1"),
        ("triplets.held_out", 0.9, "at most 0.5"),
        ("queries.generators", "- {kind: spam}", "spam"),
        ("queries.generators", "- [", "not valid YAML"),
        ("evaluation.systems", "- {kind: base, revision: 2024-05-01}", "put it in quotes"),
        ("training", "lerning_rate: 1", "learning_rate"),
        ("training", "max_grad_norm: .inf", "non-finite number"),
        ("training", BOMB, "aliases repeat"),
        ("training", "output_dir: elsewhere", "follows from"),
        ("training", "accelerator_config: /etc/x.json", "leads out"),
        ("training.learning_rate", -1, "at least 0"),
        ("corpus.path", "../elsewhere", "leads out"),
        ("model.name", "file:///etc/passwd", "only http"),
        ("teacher.name", "/etc", "leads out"),
        ("evaluation.primary_metric", "best", "unknown metric"),
        ("name", "../x", "leads out"),
        ("name", ".studio", "name"),
    ],
)
def test_an_error_is_shown_beside_its_key(
    places: Places, path: str, shown: Any, message: str
) -> None:
    name = "recipes/plain.yaml"
    values = form.values(load_recipe(places.recipe(name))) | {path: shown}
    filled = form.fill(places, name, values)
    assert filled.recipe is None and set(filled.errors) == {path}, filled.errors
    assert message in filled.errors[path]


def test_widgets_know_the_ranges_and_the_defaults_of_training() -> None:
    fields = {field.path: field for field in form.fields()}
    assert fields["teacher.student_weight"].high == 1
    assert {f"training.{name}" for name in TRAINING} <= fields.keys()


def test_a_plugin_that_the_recipe_does_not_name_is_refused(places: Places) -> None:
    corpus = "corpus: {source: beir, path: corpora/x}"
    named = places.root / "recipes" / "named.yaml"
    named.write_text(f"{corpus}\nloss: {{kind: 'acme.losses:huber'}}\n")
    shown = {"loss.kind": "acme.losses:huber"}
    refused = form.fill(places, "recipes/plain.yaml", shown)
    assert refused.recipe is None
    assert "must be named in the recipe's file" in refused.errors["loss.kind"]
    changed = {**shown, "loss.options": "delta: 2"}
    assert form.fill(places, "recipes/named.yaml", changed).errors == {}
    generators = {"queries.generators": "- {kind: 'os:system'}"}
    assert form.fill(places, "recipes/named.yaml", generators).recipe is None
