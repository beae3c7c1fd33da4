"""The keys of a recipe, printed by section: `tercet adapt --help SECTION`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from tercet.config.keys import listed_path, settings_within
from tercet.config.parsing import nearest
from tercet.config.recipe import Recipe
from tercet.config.training import HONOURED, TRAINING
from tercet.core.console import console
from tercet.core.schema import InputError

#: The name of the keys that are in no section.
RUN = "run"


def sections() -> dict[str, str]:
    """Every section of a recipe with its meaning."""
    found = {RUN: "The run: " + ", ".join(name for name, _ in _plain_keys()) + "."}
    hints = typing.get_type_hints(Recipe)
    for field in dataclasses.fields(Recipe):
        if dataclasses.is_dataclass(hints[field.name]):
            found[field.name] = (hints[field.name].__doc__ or "").strip().partition("\n")[0]
        elif field.name == "training":
            found[field.name] = "transformers' TrainingArguments, by name."
    return found


def print_section(name: str) -> None:
    """Print the keys of a section, such as `training` or `queries.generators`.

    Raises InputError for a name that is no section.
    """
    if name == RUN:
        rows = [(n, field.default, field.metadata["meaning"]) for n, field in _plain_keys()]
        _print_table("run: its name and place.", rows)
        return
    if name == "training":
        rows = [(f"training.{n}", value, meaning) for n, (value, meaning) in TRAINING.items()]
        _print_table("training: transformers' TrainingArguments by name.", rows)
        _print_other_arguments()
        return
    kind = settings_within(Recipe, name.split("."))
    if kind is None:
        raise InputError(f"--help: there is no section {name!r}{nearest(name, [*sections()])}")
    _print_keys(listed_path(Recipe, name.split(".")), kind, (kind.__doc__ or "").strip())


def _plain_keys() -> Iterator[tuple[str, Any]]:
    """The keys that are in no section."""
    hints = typing.get_type_hints(Recipe)
    for field in dataclasses.fields(Recipe):
        if not dataclasses.is_dataclass(hints[field.name]) and field.name != "training":
            yield field.name, field


def _print_keys(path: str, kind: type, title: str) -> None:
    rows, nested = [], []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            nested.append((f"{path}.{field.name}", typing.cast(type, hints[field.name])))
        if not field.metadata.get("meaning"):
            continue
        default = (
            field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[operator]
        )
        name = f"{path}.{field.name}"
        inner = next(iter(typing.get_args(hints[field.name])), None)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            nested.append((f"{name}.N", inner))
            kinds = ", ".join(d.kind for d in default)
            default = f"{len(default)} × {{kind: {kinds}}}" if default else None
        choices = _choices(hints[field.name])
        meaning = field.metadata["meaning"] + (f" ({', '.join(choices)})" if choices else "")
        rows.append((name, default, meaning))
    _print_table(f"{path}: {title}", rows)
    for name, inner in nested:
        _print_keys(name, inner, (inner.__doc__ or "").strip())


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is typing.Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    return [choice for inner in typing.get_args(hint) for choice in _choices(inner)]


def _print_table(title: str, rows: Sequence[tuple[str, Any, str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("key", style="cyan", no_wrap=True)
    table.add_column("default", style="green")
    table.add_column("meaning")
    for name, default, meaning in rows:
        shown = "unset" if default is None else str(default) or '""'
        table.add_row(f"  --{name}", Text(shown), Text(meaning))
    console.print(table, "")


def _print_other_arguments() -> None:
    from transformers import TrainingArguments

    others = [
        f"{f.name} ({f.default})"
        for f in dataclasses.fields(TrainingArguments)
        if f.name in HONOURED
    ]
    text = "  and the others, documented by transformers: " + ", ".join(others) + "\n"
    console.print(Text(text, "dim"))
