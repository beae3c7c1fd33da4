"""The recipes that Tercet brings."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def packaged_recipes() -> dict[str, Path]:
    """Name -> file of every recipe that is installed with Tercet."""
    folder = Path(str(files("tercet.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def packaged_recipe(name: str) -> Path | None:
    """The file of a recipe by its name, with or without `recipes/` and `.yaml`; None if unknown."""
    return packaged_recipes().get(name.removeprefix("recipes/").removesuffix(".yaml"))
