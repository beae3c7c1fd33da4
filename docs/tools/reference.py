"""The reference pages: recipe keys, commands and the Python API, from the code that defines them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator
from typing import Any

import click

from tercet.config.recipe import Recipe
from tercet.config.training import MANAGED, TRAINING

#: What `docs/reference/api.md` documents: names of `tercet`, then of its packages.
API = {
    "tercet": ("adapt", "load", "evaluate", "Run", "BiEncoder", "InputError"),
    "tercet.evaluation.results": ("Results",),
    "tercet.evaluation.verdict": ("Verdict",),
    "tercet.config.loading": ("load_recipe",),
}


def pages() -> dict[str, Callable[[], str]]:
    """Path below docs/ -> the function that writes the page."""
    return {
        "reference/recipe.md": recipe_page,
        "reference/cli.md": cli_page,
        "reference/api.md": api_page,
    }


# ── recipe ───────────────────────────────────────────────────────────────────────────────────────


def recipe_page() -> str:
    """Every key of a recipe: its default, its meaning and its values."""
    text = (
        "# Recipe keys\n\n"
        "A recipe is a YAML file. This page is made from the dataclasses in `src/tercet/config/`. "
        "Every key has a default, and is an option of the command line: "
        "`--queries.count 2000`. Items of a list have numbers: `--queries.generators.0.share 2`.\n"
    )
    return text + "".join(_section("", Recipe, "The run"))


def _section(path: str, kind: type, title: str) -> Iterator[str]:
    """A table of the keys of a dataclass, then those of the sections in it."""
    hints, rows, inner = typing.get_type_hints(kind), [], []
    for field in dataclasses.fields(kind):
        name = f"{path}.{field.name}" if path else field.name
        hint = hints[field.name]
        item = next(iter(typing.get_args(hint)), None)
        if dataclasses.is_dataclass(hint):
            inner.append((name, typing.cast(type, hint)))
        elif name == "training":
            continue
        else:
            default = _default(field)
            if isinstance(item, type) and dataclasses.is_dataclass(item):
                inner.append((f"{name}.N", item))
                default = [{"kind": each.kind} for each in default if hasattr(each, "kind")]
            rows.append((name, _value(default), _meaning(field.metadata, hint)))
    heading = f"`{path}`" if path else title
    yield f"\n## {heading}\n\n"
    if path and kind.__doc__:
        yield f"{inspect.cleandoc(kind.__doc__)}\n\n"
    yield _table(("key", "default", "meaning"), [(f"`{n}`", d, m) for n, d, m in rows])
    for name, part in inner:
        yield from _section(name, part, name)
        if name == "model":
            yield _training()


def _training() -> str:
    rows = [
        (f"`training.{name}`", _value(default), _escaped(meaning))
        for name, (default, meaning) in TRAINING.items()
    ]
    managed = [(f"`{name}`", _escaped(rule)) for name, rule in MANAGED.items()]
    return (
        "\n## `training`\n\n"
        "transformers' `TrainingArguments` by their own names. These have Tercet's defaults; any "
        "other may be given too.\n\n"
        + _table(("key", "default", "meaning"), rows)
        + "\nThese cannot be given. Each follows from something else:\n\n"
        + _table(("argument", "follows from"), managed)
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _value(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        kinds = ", ".join("{" + f"kind: {item['kind']}" + "}" for item in value)
        return f"`[{kinds}]`"
    if value in ("", [], {}):
        return "empty"
    return f"`{value}`"


def _meaning(metadata: typing.Mapping[str, Any], hint: Any) -> str:
    text = _escaped(str(metadata.get("meaning", "")))
    choices = _choices(hint)
    if choices:
        text += f" ({', '.join(f'`{choice}`' for choice in choices)})"
    low, high, above = (metadata.get(name) for name in ("low", "high", "above"))
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in (("≥", low), (">", above), ("≤", high))
        if bound is not None
    ]
    return text + (f" [{', '.join(bounds)}]" if bounds else "")


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is typing.Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    return [choice for inner in typing.get_args(hint) for choice in _choices(inner)]


# ── command line ─────────────────────────────────────────────────────────────────────────────────


def cli_page() -> str:
    """Every command with its arguments and options, as click knows them."""
    from tercet.commands.main import tercet

    group = click.Context(tercet, info_name="tercet")
    text = (
        "# Commands\n\n"
        "This page is made from the commands themselves. `tercet COMMAND --help` prints the same, "
        "and `tercet adapt --help SECTION` the keys of a section of the recipe.\n\n"
    )
    if tercet.epilog:
        text += f"{_escaped(inspect.cleandoc(tercet.epilog))}\n"
    names = tercet.list_commands(group)
    commands = {name: tercet.get_command(group, name) for name in names}
    for name, command in commands.items():
        if command is not None and not command.hidden:
            text += _command(command, click.Context(command, info_name=name, parent=group))
    return text


def _command(command: click.Command, context: click.Context) -> str:
    usage = command.get_usage(context).removeprefix("Usage: ")
    text = f"\n## `{context.command_path}`\n\n```text\n{_joined(usage)}\n```\n\n"
    paragraphs = inspect.cleandoc(command.help or "").replace("\b\n", "").split("\n\n")
    text += "\n\n".join(_escaped(_joined(paragraph)) for paragraph in paragraphs) + "\n\n"
    rows = [
        record
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None
    ]
    return text + _table(("option", ""), [(f"`{_joined(n)}`", _escaped(m)) for n, m in rows])


def _joined(text: str) -> str:
    return " ".join(text.split())


# ── Python ───────────────────────────────────────────────────────────────────────────────────────


def api_page() -> str:
    """The signatures and docstrings of what programs call."""
    text = (
        "# Python\n\n"
        "This page is made from the docstrings. Names below are stable from 1.0 on; everything "
        "else is Tercet's own affair and may change. See "
        "[versions](../contributing.md#versions).\n"
    )
    for module, names in API.items():
        package = __import__(module, fromlist=["_"])
        for name in names:
            text += _documented(getattr(package, name), f"{module}.{name}")
    return text


def _documented(item: Any, path: str) -> str:
    if not inspect.isclass(item):
        return f"\n## `{path}`\n\n" + _function(item, path)
    text = f"\n## `{path}`\n\n{_docstring(item)}\n"
    if dataclasses.is_dataclass(item):
        fields = [(f"`{field.name}`", f"`{field.type}`") for field in dataclasses.fields(item)]
        text += "\n" + _table(("field", "type"), fields)
    for name, member in vars(item).items():
        if name.startswith("_"):
            continue
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if inspect.isfunction(member):
            text += f"\n### `{name}`\n\n" + _function(member, name)
        elif (getter := getattr(member, "fget", getattr(member, "func", None))) is not None:
            kind = inspect.signature(getter).return_annotation
            text += f"\n### `{name}`\n\n```text\n{name}: {kind}\n```\n\n{_docstring(getter)}\n"
    return text


def _function(function: Any, name: str) -> str:
    signature = inspect.signature(function)
    parts = [str(parameter) for parameter in signature.parameters.values()]
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if (place := next((i for i, k in enumerate(kinds) if k is k.KEYWORD_ONLY), None)) is not None:
        if inspect.Parameter.VAR_POSITIONAL not in kinds:
            parts.insert(place, "*")
    inner = ", ".join(part for part in parts if part not in ("self", "cls"))
    short = name.rpartition(".")[2]
    line = f"{short}({inner}) -> {signature.return_annotation}".replace("'", "")
    if len(line) > 88:
        inner = ",\n".join(f"    {part}" for part in parts if part not in ("self", "cls"))
        line = f"{short}(\n{inner},\n) -> {signature.return_annotation}".replace("'", "")
    return f"```text\n{line}\n```\n\n{_docstring(function)}\n"


def _docstring(item: Any) -> str:
    """Its docstring as Markdown: the examples as code."""
    text = inspect.getdoc(item) or ""
    out = []
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.lstrip().startswith(">>>"):
            code = re.sub(r"[ \t]*# doctest:.*", "", textwrap.dedent(paragraph))
            out.append(f"```pycon\n{code.strip()}\n```")
        else:
            out.append(textwrap.dedent(paragraph).strip())
    return "\n\n".join(out)


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────


def _escaped(text: str) -> str:
    """Text whose braces, bars and angle brackets are shown, not read as Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
