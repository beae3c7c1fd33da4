"""`tercet init`: look at a user's files, say what was taken for what, and write a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tercet.config.parsing import dump_yaml
from tercet.core.schema import InputError

if TYPE_CHECKING:
    from tercet.data.look import Choices, Look

#: Comments of the sections of `corpus`.
_SECTIONS = {
    "passages": "what is searched",
    "queries": "judged queries, to measure with",
    "qrels": "judgements",
}


def init(
    passages: str | Path,
    judged: str | Path | None = None,
    qrels: str | Path | None = None,
    *,
    out: str | Path | None = None,
    model: str | None = None,
    choices: Choices | None = None,
    force: bool = False,
) -> Path:
    """Look at the files, print what they hold, and write a recipe that reads them.

    The arguments are those of `inspect_files`. `out` is the recipe's file, unset: named after the
    passages; `model` the model to adapt. Returns the recipe's path. Raises InputError for files
    that are missing, damaged or unclear, and for a recipe that exists, unless with `force`.
    """
    # pyarrow and datasets take a while to import, which --help should not.
    from tercet.config.loading import load_recipe
    from tercet.core.console import console
    from tercet.core.files import write_file
    from tercet.data.look import inspect_files

    name = _name(str(passages))
    path = Path(out or f"{name}.yaml")
    if path.exists() and not force:
        raise InputError(f"{path}: exists already: give --out FILE, or --force to replace it")
    look = inspect_files(passages, judged, qrels, choices)
    text = recipe_text(look, path.stem if out else name, model, path)
    write_file(path, text.encode())
    load_recipe(path)
    print_look(look)
    console.print(f"  wrote {path}: read it, then: tercet adapt {shlex.quote(str(path))}")
    return path


def recipe_text(look: Look, name: str, model: str | None, path: Path) -> str:
    """A recipe with the corpus of a look, and a comment for what is not plain."""
    command = f"tercet adapt {shlex.quote(str(path))}"
    counts = "".join(f"# {line}.\n" for line in look.notes)
    lines = ["# Made by `tercet init` from the files below. To adapt a model to them:\n#\n"]
    lines.append(f"#     {command}\n#\n{counts}")
    lines.append(f"name: {_plain(name)}\n\ncorpus:\n{_yaml(look.corpus, look.reasons)}")
    if model:
        lines.append(f"\nmodel:\n  name: {_plain(model)}\n")
    return "".join(lines)


def print_look(look: Look) -> None:
    """Print what was taken for what, and what was counted."""
    from rich.table import Table
    from rich.text import Text

    from tercet.core.console import console

    table = Table(box=None, pad_edge=False)
    for column in ("", "taken from", "rows", "such as"):
        table.add_column(column, overflow="fold" if column == "taken from" else "ellipsis")
    for found in look.findings:
        table.add_row(found.what, Text(found.where), found.count, Text(found.sample))
    console.print(table)
    for name, why in look.reasons.items():
        value = look.corpus
        for part in name.split("."):
            value = value.get(part, "")
        console.print(Text(f"  {name} {value}: {why}" if value else f"  {name}: {why}", "dim"))
    for line in look.notes:
        console.print(Text(f"  {line}", "yellow"))


def _yaml(values: Mapping[str, Any], reasons: Mapping[str, str], path: str = "") -> str:
    """A mapping as YAML with a comment beside each key that has a reason."""
    text, indent = "", "    " if path else "  "
    for name, value in values.items():
        place = f"{path}{name}"
        if isinstance(value, dict):
            text += f"{f'{indent}{name}:':<33} # {_SECTIONS[name]}\n"
            text += _yaml(value, reasons, f"{place}.")
            continue
        line = f"{indent}{name}: {_plain(value)}"
        text += f"{line:<33} # {reasons[place]}\n" if place in reasons else f"{line}\n"
    return text


def _plain(value: Any) -> str:
    """A value as YAML on one line."""
    text = dump_yaml(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _name(passages: str) -> str:
    """A run's name after its passages."""
    from tercet.core.files import slug
    from tercet.data.file_settings import WEAVIATE

    last = Path(passages.removeprefix(WEAVIATE).rstrip("/")).name
    return slug(last.split(".")[0].replace("*", "")).strip("_") or "corpus"


@click.command("init", short_help="look at your files and write a recipe")
@click.argument("passages")
@click.option("--judged", metavar="FILE", help="judged queries or clicks, with relevant passages")
@click.option("--qrels", metavar="FILE", help="the judgements, where --judged has queries alone")
@click.option("--out", metavar="FILE", help="the recipe to write; else after the passages' name")
@click.option("--model", metavar="NAME", help="the model to adapt, a folder or Hub name")
@click.option("--id", metavar="COLUMN", help="the passages' ids; none: made from their texts")
@click.option("--title", metavar="COLUMN", help="the passages' titles; none: without")
@click.option("--text", metavar="COLUMN", help="the passages' texts")
@click.option("--query", metavar="COLUMN", help="the judged queries' texts")
@click.option("--relevant", metavar="COLUMN", help="the relevant passages' ids")
@click.option(
    "--click-grades", type=click.Choice(["any", "log2"]), default="log2", show_default=True
)
@click.option("--columns", metavar="A,B,...", default="", help="of passages without a header")
@click.option("--judged-columns", metavar="A,B,...", default="", help="of judged ones without one")
@click.option(
    "--header", is_flag=True, help="the first line is a header, though it looks like data"
)
@click.option("--encoding", metavar="NAME", help="of files that are not UTF-8, as cp1251")
@click.option("--sheet", metavar="NAME", help="sheet of an Excel file with the passages")
@click.option("--judged-sheet", metavar="NAME", help="sheet of an Excel file with the queries")
@click.option("--split", metavar="NAME", help="split of a dataset with the passages")
@click.option("--force", is_flag=True, help="replace a recipe that exists")
def command(
    passages: str,
    judged: str | None,
    qrels: str | None,
    out: str | None,
    model: str | None,
    force: bool,
    columns: str,
    judged_columns: str,
    **said: Any,
) -> None:
    """Look at PASSAGES, say what was taken for what, and write a recipe.

    PASSAGES is a file (CSV, TSV, JSON, JSONL, Parquet, XLSX, gzipped text), a folder of documents,
    weaviate:COLLECTION, or the name of a dataset on the Hub.
    """
    from tercet.data.look import Choices

    choices = Choices(columns=_split(columns), judged_columns=_split(judged_columns), **said)
    init(passages, judged, qrels, out=out, model=model, choices=choices, force=force)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
