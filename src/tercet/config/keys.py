"""The names of all keys of a recipe, and the right one for a name that is nearly one."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from tercet.config.training import TRAINING

#: What people call a key whose own name does not end like that.
_OTHER_NAMES = {
    "lr": "training.learning_rate",
    "batch_size": "training.per_device_train_batch_size",
    "base_model": "model.name",
    "reranker": "teacher.name",
    "output_dir": "runs_dir",
}
_MOST = 3  # names in a suggestion


def settings_within(kind: Any, steps: Sequence[str]) -> type | None:
    """The dataclass of settings at a dotted path, or of a list's items; None if there is none."""
    for step in steps:
        if step == "N" or step.isdecimal():
            continue
        kind = (
            _item(typing.get_type_hints(kind).get(step)) if dataclasses.is_dataclass(kind) else None
        )
    return typing.cast(type, kind) if dataclasses.is_dataclass(kind) else None


def listed_path(kind: Any, steps: Sequence[str]) -> str:
    """A dotted path with "N" after each list, such as queries.generators.N."""
    words: list[str] = []
    for step in steps:
        if step == "N" or step.isdecimal():
            continue
        hint = typing.get_type_hints(kind)[step]
        words += [step, "N"] if typing.get_origin(hint) is list else [step]
        kind = _item(hint)
    return ".".join(words)


def _item(hint: Any) -> Any:
    """The type of a list's items; any other type itself."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is list else hint


def keys_of(kind: type, path: str = "") -> Iterator[str]:
    """All dotted names; those of list items have "N" for the item's number."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
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
    """Keys that `name` may stand for: those that end like it, else the most similar ones.

    Of those that end like it, keys within a list only where there are no others.
    """
    name = re.sub(r"\.(\d+|N)\b", "", name)
    keys, last = list(keys_of(kind)), name.rpartition(".")[2]
    if last in _OTHER_NAMES:
        return [_OTHER_NAMES[last]]
    for ending in (f".{name}", f".{last}", f"_{last}"):
        if found := [key for key in keys if key.replace(".N", "").endswith(ending)]:
            found = [key for key in found if ".N." not in key] or found
            return sorted(found, key=lambda key: key.count("."))[:_MOST]
    leaves = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = [leaves[leaf] for leaf in difflib.get_close_matches(last, leaves, n=_MOST, cutoff=0.75)]
    return close or difflib.get_close_matches(name, keys, n=1, cutoff=0.6)
