"""`tercet ingest`: a corpus's own vectors, written to Weaviate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand)
def command(recipe: Recipe) -> None:
    """Write the vectors of a corpus to a live Weaviate collection as a named vector.

    `corpus.passages.vector` is the column of the recipe's table with the vectors. A killed run
    resumes; if all vectors are there, nothing is written.
    """
    from tercet.pipeline.ingest import ingest

    ingest(recipe)
