"""The command line of all programs: a recipe, overrides, --help, exit codes."""

from __future__ import annotations

import dataclasses
import errno
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from rich.table import Table
from rich.text import Text

from tercet.config.loading import load_recipe
from tercet.config.recipe import Recipe
from tercet.config.training import MANAGED, TRAINING
from tercet.core.console import console
from tercet.core.schema import InputError


def _print_help(program: str, purpose: str, flags: dict[str, str]) -> None:
    """Print every key with its default and its meaning, by section."""
    console.print(f"[bold]{program} RECIPE [--section.key VALUE ...][/]\n\n{purpose}\n")
    for flag, meaning in flags.items():
        console.print(Text(f"  {flag}", "cyan") + Text(f"  {meaning}", "default"))
    console.print("\nAny key can be overridden: [cyan]--training.learning_rate 3e-5[/]. Values are")
    console.print("YAML; list items have numbers: [cyan]--queries.generators.0.share 2[/].\n")
    _print_keys("", Recipe, "A run.")
    for field in dataclasses.fields(Recipe):
        kind = typing.get_type_hints(Recipe)[field.name]
        if dataclasses.is_dataclass(kind):
            _print_keys(field.name, typing.cast(type, kind), (kind.__doc__ or "").strip())
        elif field.name == "training":
            rows = [(f"training.{n}", value, m) for n, (value, m) in TRAINING.items()]
            _print_table("training: transformers' TrainingArguments by name.", rows)
            _print_other_arguments()


def _print_keys(path: str, kind: type, title: str) -> None:
    rows, nested = [], []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if path and dataclasses.is_dataclass(hints[field.name]):
            nested.append((f"{path}.{field.name}", typing.cast(type, hints[field.name])))
        if not field.metadata.get("meaning") or field.name == "training":
            continue
        default = (
            field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[operator]
        )
        name = f"{path}.{field.name}" if path else field.name
        inner = next(iter(typing.get_args(hints[field.name])), None)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            nested.append((f"{name}.N", inner))
            kinds = ", ".join(d.kind for d in default)
            default = f"{len(default)} × {{kind: {kinds}}}" if default else None
        choices = _choices(hints[field.name])
        meaning = field.metadata["meaning"] + (f" ({', '.join(choices)})" if choices else "")
        rows.append((name, default, meaning))
    _print_table(f"{path}: {title}" if path else title, rows)
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
        if f.init and f.name not in TRAINING and f.name not in MANAGED and f.name[0] != "_"
    ]
    text = "  and the others, documented by transformers: " + ", ".join(others) + "\n"
    console.print(Text(text, "dim"))


def run(
    main: Callable[[Recipe, Mapping[str, str]], None],
    program: str,
    purpose: str,
    flags: dict[str, str] | None = None,
    short: dict[str, tuple[str, str]] | None = None,
) -> None:
    """Parse `sys.argv` and call `main(recipe, flags)`; exit with code 2 and a line on InputError.

    `flags` maps a flag to its meaning; one written "--flag VALUE" takes a value, and `main` gets
    those given with their values. `short` maps an alias of a key to the key and its meaning here.
    """
    flags, short = flags or {}, short or {}
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        others = {f"{name} VALUE": f"{meaning} (--{key})" for name, (key, meaning) in short.items()}
        _print_help(program, purpose, others | flags | {"--help": "this text"})
        sys.exit(0 if arguments else 2)
    for name, (key, _) in short.items():
        arguments = [re.sub(rf"^{name}(?==|$)", f"--{key}", argument) for argument in arguments]
    try:
        given, rest = _flags(arguments, flags)
        if rest[:1] == [] or rest[0].startswith("--"):
            raise InputError(f"{program} needs a recipe first, such as recipes/quickstart.yaml")
        main(load_recipe(rest[0], rest[1:]), given)
    except InputError as error:
        stop(str(error), 2)
    except KeyboardInterrupt:
        stop("interrupted: run the same command again to resume", 130)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            stop("the disk is full: make room, then run the same command again", 1)
        if not isinstance(error, PermissionError):
            raise
        stop(f"{error.filename}: {error.strerror}", 2)


def _flags(arguments: list[str], flags: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The flags among the arguments with their values, and the other arguments."""
    takes_value = {flag.partition(" ")[0]: " " in flag for flag in flags}
    given: dict[str, str] = {}
    rest, pending = [], list(arguments)
    while pending:
        name, equals, value = pending.pop(0).partition("=")
        if name not in takes_value:
            rest.append(name + equals + value)
        elif not takes_value[name] or equals:
            given[name] = value
        elif not pending:
            raise InputError(f"{name} needs a value")
        else:
            given[name] = pending.pop(0)
    return given, rest


def stop(reason: str, code: int) -> NoReturn:
    """Print the reason in one line and exit with `code`."""
    sys.stdout.flush()
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(code)
