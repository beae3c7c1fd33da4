"""The names of all keys of a recipe, and the right one for a name that is nearly one."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from tercet.config.training import TRAINING

#: What people call a key whose name shares no word with that.
_OTHER_NAMES = {
    "lr": "training.learning_rate",
    "base_model": "model.name",
    "reranker": "teacher.name",
    "output_dir": "runs_dir",
}
_MOST = 3  # names in a suggestion


def settings_within(kind: Any, steps: Sequence[str]) -> type | None:
    """The dataclass of settings at a dotted path, a place in a list being a number or "N"."""
    if not steps:
        return typing.cast(type, kind) if dataclasses.is_dataclass(kind) else None
    if typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
        steps = steps[1:] if steps[0] == "N" or steps[0].isdecimal() else steps
        return settings_within(kind, steps)
    hint = typing.get_type_hints(kind).get(steps[0]) if dataclasses.is_dataclass(kind) else None
    if len(steps) == 1 and typing.get_origin(hint) is list:
        return settings_within(typing.get_args(hint)[0], [])
    return settings_within(hint, steps[1:]) if hint is not None else None


def keys_of(kind: type, path: str = "") -> Iterator[str]:
    """All dotted names; those of list items have "N" for the item's number."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        hint, name = hints[field.name], f"{path}{field.name}"
        if dataclasses.is_dataclass(hint):
            yield from keys_of(typing.cast(type, hint), f"{name}.")
            continue
        if name == "training":
            yield from (f"training.{argument}" for argument in TRAINING)
            continue
        yield name
        for inner in typing.get_args(hint):
            if dataclasses.is_dataclass(inner):
                yield from keys_of(typing.cast(type, inner), f"{name}.N.")


def similar(name: str, kind: type) -> list[str]:
    """Keys that `name` may stand for: those that end like it, else the most similar ones."""
    name = re.sub(r"\.\d+\b", ".N", name)
    keys, last = list(keys_of(kind)), name.rpartition(".")[2]
    if last in _OTHER_NAMES:
        return [_OTHER_NAMES[last]]
    for ending in (f".{name}", f".{last}", f"_{last}"):
        if found := [key for key in keys if key.endswith(ending)]:
            return sorted(found, key=lambda key: key.count("."))[:_MOST]
    leaves = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = [leaves[leaf] for leaf in difflib.get_close_matches(last, leaves, n=_MOST, cutoff=0.75)]
    return close or difflib.get_close_matches(name, keys, n=1, cutoff=0.6)
