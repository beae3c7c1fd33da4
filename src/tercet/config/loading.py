"""Load a recipe with overrides; save it with every value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import yaml

from tercet.config.parsing import RENAMED, build, override, read_yaml
from tercet.config.recipe import Recipe
from tercet.config.training import build_training, training_defaults
from tercet.config.validation import check_across
from tercet.core.files import write_file
from tercet.core.schema import InputError


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


def load_run(run: str | Path) -> Recipe:
    """The recipe of a run, by the run's folder, wherever that is now, or by a recipe file."""
    path = Path(run)
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"there is no run or recipe {path}: give a folder of runs/")
        return load_recipe(path)
    if not (path / "recipe.yaml").is_file():
        raise InputError(f"{path} is no run: it holds no recipe.yaml")
    folder = path.resolve()
    recipe = load_recipe(path / "recipe.yaml")
    return dataclasses.replace(recipe, runs_dir=str(folder.parent), name=folder.name)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write all values as YAML; `load_recipe` reads the same recipe from it."""
    note = f"# Every value of run {recipe.name}, defaults too.\n"
    text = yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True)
    write_file(path, (note + text).encode())


def refuse_earlier_run(folder: Path) -> None:
    """Raise InputError for a run folder whose recipe has keys of an earlier version."""
    path = folder / "recipe.yaml"
    if not path.exists():
        return
    written = read_yaml(path).plain()
    sections = {key.partition(".")[::2] for key in RENAMED}
    renamed = [
        f"{section}.{name}"
        for section, name in sorted(sections)
        if name in written.get(section, {})
    ]
    if renamed:
        changes = ", ".join(f"{key} is now {RENAMED[key]}" for key in renamed)
        raise InputError(
            f"{folder} was made by an earlier version ({changes}): give --name for another run, or "
            "remove the folder"
        )
