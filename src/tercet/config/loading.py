"""Load a recipe with overrides; save it with every value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import yaml

from tercet.config.parsing import build, override, read_yaml
from tercet.config.recipe import Recipe
from tercet.config.training import build_training, training_defaults
from tercet.config.validation import check_across
from tercet.core.files import write_file


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, cross_check: bool = True
) -> Recipe:
    """The recipe of a YAML file, with command-line overrides such as `--seed 7`.

    Raises InputError for an unknown key, a wrong type or an invalid value and, with `cross_check`,
    for values that do not fit together.
    """
    root = read_yaml(Path(path))
    override(root, overrides)
    training = root.value.pop("training", None)
    recipe = build(Recipe, root)
    settings = training_defaults(recipe.model)
    if training is not None and training.value is not None:
        settings |= build_training(training)
    settings["metric_for_best_model"] = str(settings["metric_for_best_model"]).removeprefix("eval_")
    recipe = dataclasses.replace(recipe, training=settings)
    if cross_check:
        check_across(recipe, training, root)
    return recipe


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write all values as YAML; `load_recipe` reads the same recipe from it."""
    note = f"# Every value of run {recipe.name}, defaults too.\n"
    text = yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True)
    write_file(path, (note + text).encode())
