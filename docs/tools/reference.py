"""The reference pages: recipe keys, commands and the Python API, from the code itself."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import click

from tercet.config.recipe import Recipe
from tercet.config.training import HONOURED, MANAGED, TRAINING

#: What `docs/reference/api.md` documents: module -> name -> its members; None: all that are public.
API: dict[str, dict[str, tuple[str, ...] | None]] = {
    "tercet": {
        "adapt": None,
        "load": None,
        "evaluate": None,
        "Run": None,
        "BiEncoder": (
            "from_pretrained",
            "encode",
            "encode_queries",
            "encode_passages",
            "save_pretrained",
        ),
        "InputError": (),
    },
    "tercet.evaluation.results": {"Results": ("to_frame",)},
    "tercet.evaluation.verdict": {"Verdict": ()},
    "tercet.config.loading": {"load_recipe": None},
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
        "transformers' `TrainingArguments` by their own names. These have Tercet's defaults:\n\n"
        + _table(("key", "default", "meaning"), rows)
        + "\nThese do what transformers' documentation says: "
        + ", ".join(f"`{name}`" for name in sorted(HONOURED))
        + ".\n"
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
        f"{sign} {bound:,}"
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
        paragraphs = inspect.cleandoc(tercet.epilog).split("\n\n")
        text += "\n\n".join(_escaped(paragraph) for paragraph in paragraphs) + "\n"
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
    return text + _table(("option", "meaning"), [(f"`{_joined(n)}`", _escaped(m)) for n, m in rows])


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
        package = import_module(module)
        for name, members in names.items():
            path = f"{module}.{name}" if module == "tercet" else name
            where = "" if module == "tercet" else f"`from {module} import {name}`\n\n"
            text += f"\n## `{path}`\n\n{where}"
            text += _documented(getattr(package, name), path, members)
    return text


def _documented(item: Any, path: str, members: tuple[str, ...] | None) -> str:
    if not inspect.isclass(item):
        return _function(item, path)
    text = f"{_docstring(item)}\n"
    if dataclasses.is_dataclass(item):
        fields = [(f"`{field.name}`", f"`{field.type}`") for field in dataclasses.fields(item)]
        text += "\n" + _table(("field", "type"), fields)
    own = {name: vars(item)[name] for name in vars(item) if not name.startswith("_")}
    for name in own if members is None else members:
        member = inspect.getattr_static(item, name)
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if inspect.isfunction(member):
            text += f"\n### `{name}`\n\n" + _function(member, name)
        elif (getter := getattr(member, "fget", getattr(member, "func", None))) is not None:
            kind = _kind(inspect.signature(getter).return_annotation)
            text += f"\n### `{name}`\n\n```text\n{name}: {kind}\n```\n\n{_docstring(getter)}\n"
    return text


def _function(function: Any, name: str) -> str:
    signature, parts, starred = inspect.signature(function), [], False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        parts.append(_parameter(parameter))
    head, end = name.rpartition(".")[2] + "(", f") -> {_kind(signature.return_annotation)}"
    line = head + ", ".join(parts) + end
    if len(line) > 88:
        line = head + "\n" + "".join(f"    {part},\n" for part in parts) + end
    return f"```text\n{line}\n```\n\n{_docstring(function)}\n"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {_kind(parameter.annotation)}{default}"


def _kind(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


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
