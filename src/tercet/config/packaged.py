"""The recipes that Tercet brings."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "recipes"


def packaged_recipes() -> dict[str, Path]:
    """Name -> file of every recipe that is installed with Tercet."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def packaged_recipe(name: str) -> Path | None:
    """The file of a recipe by its name, with or without `recipes/` and `.yaml`; None if unknown."""
    return packaged_recipes().get(name.removeprefix("recipes/").removesuffix(".yaml"))
