"""`tercet info`: what a run, a recipe or a model folder is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tercet.core.schema import InputError


@click.command()
@click.argument("place", metavar="RUN")
def command(place: str) -> None:
    """Show what a run, a recipe or a model folder is, and how far a run has come."""
    from tercet.core.console import console

    for name, value in info(place).items():
        console.print(f"{name:<12}{value}", soft_wrap=True)


def info(place: str) -> dict[str, str]:
    """Facts about a run's folder, a recipe (file or name) or the folder of a model.

    Raises InputError for anything else.
    """
    path = Path(place)
    if path.is_dir() and not (path / "recipe.yaml").is_file():
        return dict(_of_model(path))
    return dict(_of_run(place))


def _of_run(place: str) -> Iterator[tuple[str, str]]:
    from tercet.commands.recipe_command import read_recipe
    from tercet.core.files import kept
    from tercet.core.text import bytes_text

    recipe = read_recipe(place)
    folder = recipe.folder
    yield "run", f"{recipe.name} in {folder}" + ("" if folder.is_dir() else ", not begun")
    yield "corpus", f"{recipe.corpus.source} {recipe.corpus.label}".strip()
    yield "model", f"{recipe.model.name} ({recipe.model.train})"
    choices = kept(folder / "choices.json", dict[str, Any]) or {}
    scorers = recipe.teacher.each.items()
    names = [choices.get(f"{path}.name", {}).get("choice", s.described) for path, s in scorers]
    yield "teacher", " + ".join(names)
    writers = [f"{g.kind} {g.model}".strip() for g in recipe.queries.generators]
    count = recipe.queries.count
    number = "as many as fit the corpus" if count is None else f"{count:,}"
    yield "queries", f"{number} by {', '.join(writers)}"
    if folder.is_dir():
        made = [path.parent for path in folder.glob("*/manifest.json")]
        made.sort(key=lambda step: (step / "manifest.json").stat().st_mtime)
        yield "made", ", ".join(step.name for step in made) or "nothing yet"
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        yield "disk", bytes_text(size)
    yield from kept(folder / "metrics.json", _compared) or []


def _compared(report: Any) -> list[tuple[str, str]]:
    """A line for each metric of a run's metrics.json."""
    return [
        (each["measure"], f"{each['before']:.4f} zero-shot, {each['after']:.4f} adapted")
        for each in report["comparisons"]
    ]


def _of_model(path: Path) -> Iterator[tuple[str, str]]:
    from tercet.core.artifacts import existing
    from tercet.core.files import read_json
    from tercet.core.text import bytes_text

    if not (path / "config.json").is_file() and not (path / "tercet.json").is_file():
        raise InputError(f"{path}: neither a run (recipe.yaml) nor a model (config.json)")
    yield "model", str(path)
    for name in ("config.json", "tercet.json"):
        if (path / name).is_file():
            known = read_json(path / name)
            for key in ("model_type", "architectures", "hidden_size", "pooling", "similarity"):
                if known.get(key) is not None:
                    yield key.replace("_", " ")[:11], str(known[key])
    if made := existing(path):
        base = made.facts.get("base_kept")
        yield "made by", "Tercet: the base model ships" if base else "Tercet"
    yield "disk", bytes_text(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()))
