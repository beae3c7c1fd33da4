"""`tercet push`: a finished run's model, on the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand)
@click.option("--repo", metavar="NAME", help="The repository, such as you/name; else the run's.")
@click.option("--datasets", is_flag=True, help="Also push triplets and scores, to NAME-triplets.")
@click.option("--public", is_flag=True, help="Make a new repository public; else it is private.")
def command(recipe: Recipe, *, repo: str | None, datasets: bool, public: bool) -> None:
    """Push a finished run's model with its card to the Hugging Face Hub.

    The datasets contain texts of the corpus. An existing repository keeps its visibility. The token
    is that of HF_TOKEN or of `hf auth login`.
    """
    push(recipe, repo=repo, datasets=datasets, public=public)


def push(
    recipe: Recipe, *, repo: str | None = None, datasets: bool = False, public: bool = False
) -> None:
    """Push the model, and with `datasets` the triplets and scores; no step is made."""
    # torch and transformers take seconds to import, which --help should not.
    from tercet.core.console import console
    from tercet.core.processes import locked
    from tercet.sharing.hub import push_datasets, push_model

    if repo:
        training = recipe.training | {"hub_model_id": repo}
        recipe = dataclasses.replace(recipe, training=training)
    private = not public and recipe.training.get("hub_private_repo") is not False
    with locked(recipe.folder):
        console.result(f"pushed {push_model(recipe, private=private)}")
        if datasets:
            console.result(f"pushed {push_datasets(recipe, private=private)}")
