"""Load a recipe with overrides; save it with every value."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tercet.config.environment import expand
from tercet.config.keys import similar
from tercet.config.parsing import (
    RENAMED,
    Node,
    UnknownKey,
    build,
    dump_yaml,
    nearest,
    override,
    parse_yaml,
    read_yaml,
)
from tercet.config.recipe import Recipe
from tercet.config.training import build_training, training_defaults
from tercet.config.validation import check_across
from tercet.core.environment import written
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
    override(root, overrides, Recipe())
    return _recipe(root, cross_check)


def recipe_of(sections: Mapping[str, Any], *, cross_check: bool = True) -> Recipe:
    """The recipe of sections given as mappings, checked as those of a file are."""
    try:
        text = dump_yaml(_plain(sections))
    except yaml.representer.RepresenterError as error:
        raise InputError(f"a setting is no plain value: {error}") from None
    return _recipe(parse_yaml(text, "the settings given", lines=False), cross_check)


def _plain(value: Any) -> Any:
    """The value as YAML has it: paths are text, tuples lists, numpy's numbers Python's."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def _recipe(root: Node, cross_check: bool) -> Recipe:
    expand(root)
    training = root.value.pop("training", None)
    try:
        recipe = build(Recipe, root)
        settings = training_defaults(recipe.model)
        if training is not None and training.value is not None:
            settings |= build_training(training)
    except UnknownKey as error:
        raise InputError(error.message(_right_key(error))) from None
    settings["metric_for_best_model"] = str(settings["metric_for_best_model"]).removeprefix("eval_")
    recipe = dataclasses.replace(recipe, training=settings)
    if cross_check:
        check_across(recipe, training, root)
    return recipe


def _right_key(error: UnknownKey) -> str:
    """'; did you mean X?': a key of the section that is spelt alike, or one of any section."""
    faulty = f"{error.path}.{error.name}".strip(".")
    given = error.where[2:].replace("-", "_") if error.where.startswith("--") else faulty
    alike = difflib.get_close_matches(error.name, error.names, n=1, cutoff=0.8)
    if given == faulty and alike:
        return nearest(error.name, error.names)
    if keys := similar(given, Recipe):
        return f"; did you mean {' or '.join(map(repr, keys))}?"
    return nearest(error.name, error.names)


def load_run(run: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a run, by the run's folder, wherever that is now, or by a recipe file."""
    path = Path(run).expanduser()
    if not path.is_dir():
        return load_recipe(path, overrides)
    if not (path / "recipe.yaml").is_file():
        raise InputError(f"{path} is no run: it holds no recipe.yaml")
    here = ["--runs_dir", str(path.parent), "--name", path.resolve().name]
    return load_recipe(path / "recipe.yaml", [*here, *overrides])


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write all values as YAML; `load_recipe` reads the same recipe from it.

    Values from environment variables stay `${NAME}`.
    """
    note = f"# Every value of run {recipe.name}, defaults too.\n"
    text = dump_yaml(written(dataclasses.asdict(recipe)))
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
