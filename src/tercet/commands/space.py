"""`tercet space`: a finished run as a Hugging Face Space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand
from tercet.core.schema import InputError

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand)
@click.option("--out", type=Path, metavar="FOLDER", help="Default: space in the run's folder.")
@click.option("--hub", metavar="NAME", help="Load the model from the Hub; default: copy it.")
@click.option("--revision", metavar="REV", help="The model's revision there.")
@click.option("--push", metavar="NAME", help="Push it to a Space such as you/name.")
@click.option("--public", is_flag=True, help="Make a new Space public; else it is private.")
@click.option("--large", is_flag=True, help="Write more than the Hub accepts (1 GB).")
def command(
    recipe: Recipe,
    *,
    out: Path | None,
    hub: str | None,
    revision: str | None,
    push: str | None,
    public: bool,
    large: bool,
) -> None:
    """Write a finished run as a Hugging Face Space that searches its passages.

    The folder runs without Tercet (`pip install -r requirements.txt`, `python app.py`), and
    contains the texts of the corpus. An existing Space keeps its visibility. The token is that of
    HF_TOKEN or of `hf auth login`.
    """
    # torch and transformers take seconds to import, which --help should not.
    from tercet.core.console import console
    from tercet.core.text import bytes_text
    from tercet.sharing.space import push_space, write_space

    if public and not push:
        raise InputError("--public needs --push: give --push you/name too")
    if revision and not hub:
        raise InputError("--revision needs --hub: give --hub NAME too")
    folder = out or recipe.folder / "space"
    size = write_space(recipe, folder, hub=hub, revision=revision, large=large)
    console.result(f"wrote {folder}, {bytes_text(size)}", soft_wrap=True)
    if push:
        address = push_space(folder, push, private=not public)
        console.result(f"pushed {address}", soft_wrap=True)
