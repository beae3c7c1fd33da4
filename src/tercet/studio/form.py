"""A recipe as a form: a widget for every key, derived from the dataclasses."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tercet.config.loading import load_recipe
from tercet.config.parsing import dump_yaml, parse_yaml, read_yaml
from tercet.config.plugins import every_plugin
from tercet.config.recipe import Recipe
from tercet.config.training import TRAINING
from tercet.core.schema import InputError
from tercet.studio.places import Places, check_name

#: Text fields serve `text`, `yaml`, and numbers that may be unset.
Kind = Literal["choice", "flag", "whole", "number", "text", "yaml"]
#: The key of the TrainingArguments without a default in Tercet, as one mapping.
_OTHERS = "training"
UNSET = "unset"


@dataclass(frozen=True)
class Field:
    """One key of a recipe."""

    path: str
    kind: Kind
    meaning: str
    choices: tuple[str, ...] = ()
    optional: bool = False
    low: float | None = None
    high: float | None = None
    #: Whether a plug-in may be chosen too.
    plugin: bool = False

    @property
    def section(self) -> str:
        """The section of the key; "run" for a key outside all sections."""
        first, dot, _ = self.path.partition(".")
        return first if dot or self.path == _OTHERS else "run"

    @property
    def label(self) -> str:
        """The name within the section."""
        within = self.path.removeprefix(f"{self.section}.")
        return "others" if self.path == _OTHERS else within

    def shown(self, value: Any) -> Any:
        """A recipe's value as the widget's value."""
        if self.kind == "yaml":
            return "" if value is None else dump_yaml(value).strip()
        if self.kind in ("choice", "text"):
            return (UNSET if self.kind == "choice" else "") if value is None else str(value)
        if self.optional:
            return "" if value is None else str(value)
        return value

    def given(self, shown: Any) -> str:
        """A widget's value as YAML, for an override."""
        if shown is None or self.optional and shown in (UNSET, ""):
            return "null"
        if self.kind == "flag":
            return "true" if shown else "false"
        if self.kind == "yaml":
            return _as_json(parse_yaml(str(shown), f"--{self.path}", lines=False).plain())
        if self.kind in ("whole", "number"):
            return re.sub(r"^(-?\d+)\.0$", r"\1", str(shown).strip()) or "null"
        plain = re.fullmatch(r"[A-Za-z][\w./@-]*", str(shown)) is not None
        if plain and parse_yaml(str(shown), self.path, lines=False).plain() == shown:
            return str(shown)
        return json.dumps(str(shown), ensure_ascii=False)


@cache
def fields() -> tuple[Field, ...]:
    """Every key of a recipe in order, without `runs_dir`, which is fixed in the studio."""
    return tuple(field for field in _fields(Recipe, "") if field.path != "runs_dir")


def _fields(kind: type, path: str) -> list[Field]:
    found: list[Field] = []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        full = f"{path}{field.name}"
        if full == _OTHERS:
            found += [*_training(), Field(_OTHERS, "yaml", "any other of TrainingArguments")]
        elif dataclasses.is_dataclass(hints[field.name]):
            found += _fields(typing.cast(type, hints[field.name]), f"{full}.")
        else:
            found.append(_field(full, hints[field.name], field.metadata))
    return found


def _field(path: str, hint: Any, metadata: Mapping[str, Any]) -> Field:
    inner = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    optional = union and type(None) in typing.get_args(hint)
    if union:
        hint = inner[0]
    given: dict[str, Any] = {name: metadata.get(name) for name in ("low", "high")}
    if typing.get_origin(hint) is Literal:
        choices = tuple(map(str, typing.get_args(hint)))
        plugin = bool(metadata.get("plugin"))
        return Field(path, "choice", metadata["meaning"], choices, optional, plugin=plugin)
    if hint is bool and optional:
        return Field(path, "choice", metadata["meaning"], ("true", "false"), True)
    kinds: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number", str: "text"}
    return Field(path, kinds.get(hint, "yaml"), metadata["meaning"], (), optional, **given)


def _training() -> list[Field]:
    found = []
    for name, (default, meaning) in TRAINING.items():
        kinds: dict[Any, Kind] = {bool: "flag", int: "whole", float: "number", str: "text"}
        kind = kinds.get(type(default), "yaml")
        # Two accept fractions and whole numbers, and bf16 may be unset: YAML distinguishes them.
        kind = "yaml" if name in ("warmup_steps", "logging_steps", "bf16") else kind
        found.append(Field(f"training.{name}", kind, meaning, (), default is None))
    return found


def values(recipe: Recipe) -> dict[str, Any]:
    """Each key's value as its widget's value."""
    whole: Any = _brief(recipe, everything=True)
    others = {k: v for k, v in whole[_OTHERS].items() if k not in TRAINING}
    shown = {}
    for field in fields():
        value: Any = whole
        for step in field.path.split("."):
            value = value[step]
        value = others or None if field.path == _OTHERS else value
        if isinstance(value, bool) and field.kind == "choice":
            value = "true" if value else "false"
        shown[field.path] = field.shown(value)
    return shown


def _brief(value: Any, *, everything: bool = False) -> Any:
    """Settings as plain values for YAML; those in a list without keys at their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = type(value)()
        found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {
            k: _brief(v, everything=everything)
            for k, v in found.items()
            if everything or k == "kind" or v != getattr(plain, k)
        }
    return [_brief(inner) for inner in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Filled:
    """A filled-in form."""

    recipe: Recipe | None
    #: Command-line overrides for the values that differ from the recipe.
    options: tuple[str, ...] = ()
    #: Key -> error; "" is the key of an error that names none.
    errors: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def whole(self) -> Recipe:
        """The recipe. Raises InputError with all errors of the form."""
        if self.recipe is None:
            raise InputError("; ".join(f"{key} {why}" for key, why in self.errors.items()))
        return self.recipe


def fill(places: Places, name: str, shown: Mapping[str, Any]) -> Filled:
    """Apply a form's values, key -> widget's value, to a recipe of the project.

    Errors are collected by key, and the recipe is None if there are any. A changed value that
    leads out of the project is an error (see `Places.check_value`).
    """
    path = places.recipe(name)
    before = values(load_recipe(path, cross_check=False))
    options: list[str] = []
    errors: dict[str, str] = {}
    for field in fields():
        if field.path not in shown or _same(shown[field.path], before[field.path]):
            continue
        try:
            found = _options(field, shown[field.path])
            places.check_value(
                [parse_yaml(option.partition("=")[2], "", lines=False).plain() for option in found],
                field.path,
            )
            load_recipe(path, found, cross_check=False)
            options += found
        except InputError as error:
            errors[field.path] = _reason(str(error))
    if errors:
        return Filled(None, tuple(options), errors)
    try:
        recipe = load_recipe(path, options)
        _check_run(recipe)
        _check_plugins(recipe, load_recipe(path, cross_check=False))
        return Filled(recipe, tuple(options))
    except InputError as error:
        return Filled(None, tuple(options), {_field_of(str(error)): _reason(str(error))})


def _check_run(recipe: Recipe) -> None:
    if recipe.runs_dir != "runs":
        raise InputError("--runs_dir: the studio's runs are in 'runs'")
    try:
        check_name(recipe.name, "a run")
    except InputError as error:
        raise InputError(f"--name: {error}") from None


def _check_plugins(recipe: Recipe, before: Recipe) -> None:
    """Refuse a plug-in that the recipe does not name: its code would run in this process."""
    known = {(each.group, each.name) for each in every_plugin(before)}
    for each in every_plugin(recipe):
        if (each.group, each.name) not in known:
            raise InputError(
                f"--{each.path}.{each.field}: plug-in {each.name} must be named in the recipe's "
                "file: the page takes none"
            )


def _same(shown: Any, before: Any) -> bool:
    if isinstance(shown, str) and isinstance(before, str):
        return shown.strip() == before.strip()
    return bool(shown == before) or (shown in (None, "") and before in (None, ""))


def _options(field: Field, shown: Any) -> list[str]:
    if field.path != _OTHERS:
        return [f"--{field.path}={field.given(shown)}"]
    node = parse_yaml(str(shown or ""), "--training", lines=False)
    others = node.plain() or {}
    if not isinstance(others, dict):
        raise InputError("--training: others must be lines of `name: value`")
    return [f"--training.{name}={_as_json(value)}" for name, value in others.items()]


def _as_json(value: Any) -> str:
    """JSON of a value. Raises InputError for a YAML value that JSON lacks."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError("a date or non-finite number: put it in quotes") from None


def _field_of(message: str) -> str:
    """The key that an error message names, or ""."""
    paths = sorted((field.path for field in fields()), key=len, reverse=True)
    flag = re.match(r"--([\w.]+)", message)
    named = flag[1] if flag else ""
    for path in paths:
        if named == path or named.startswith(f"{path}."):
            return path
    return next((path for path in paths if "." in path and path in message), "")


def _reason(message: str) -> str:
    """An error message without the key, which the page shows already."""
    return re.sub(r"^(--[\w.]+|[\w.]+|\S+\.yaml(:\d+)?): ", "", message)


def command(name: str, options: Sequence[str]) -> list[str]:
    """The command line of a run, word by word."""
    return ["tercet", "adapt", name, *options]


def save(places: Places, name: str, new: str, options: Sequence[str]) -> Path:
    """Write a new recipe: the recipe `name` with `options` applied.

    Raises InputError if `new` is in use or cannot name a file.
    """
    target = places.new_recipe(new)
    whole = read_yaml(places.recipe(name)).plain()
    for option in options:
        path, _, text = option.removeprefix("--").partition("=")
        *steps, last = path.split(".")
        place = whole
        for step in steps:
            if place.get(step) is None:
                place[step] = {}
            place = place[step]
        place[last] = parse_yaml(text, path, lines=False).plain()
    note = f"# {name}, with {len(options)} values changed.\n" if options else f"# As {name}.\n"
    target.write_text(note + dump_yaml(whole))
    return target
