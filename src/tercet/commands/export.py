"""`tercet export`: a run's retriever for LangChain, or its triplets for other trainers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand
from tercet.core.schema import InputError

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand)
@click.option(
    "--to",
    "form",
    type=click.Choice(["langchain", "triplets"]),
    default="langchain",
    show_default=True,
    help="langchain: a retriever in one Python file; triplets: JSON lines.",
)
@click.option("--out", type=Path, metavar="FILE", help="Default: in the run's folder.")
@click.option("--hub", metavar="NAME", help="langchain: load the model from the Hub.")
@click.option("--revision", metavar="REV", help="langchain: the model's revision there.")
@click.option("--k", type=int, help="langchain: passages per query; default 10.")
def command(
    recipe: Recipe,
    *,
    form: str,
    out: Path | None,
    hub: str | None,
    revision: str | None,
    k: int | None,
) -> None:
    """Write what a run made for another program.

    retriever.py does not need Tercet: its first lines list what it needs, and with --self-test it
    compares its answers with the run's. It contains no address and no key.

    triplets.jsonl has query, positive, negative and label (the teacher's margin), the columns of
    sentence-transformers' MarginMSELoss.
    """
    # torch and transformers take seconds to import, which --help should not.
    from tercet.core.console import console

    if form == "triplets":
        if given := [f"--{n}" for n, v in (("hub", hub), ("revision", revision), ("k", k)) if v]:
            raise InputError(f"{given[0]} is for --to langchain")
        path, count = export_triplets(recipe, out)
        console.result(f"{path}: {count:,} triplets", soft_wrap=True)
        return
    from tercet.sharing.retriever import export_retriever

    chosen = {} if k is None else {"k": k}
    for path in export_retriever(recipe, out, hub=hub, revision=revision, **chosen):
        console.result(f"wrote {path}", soft_wrap=True)


def export_triplets(recipe: Recipe, path: Path | None = None) -> tuple[Path, int]:
    """Write the triplets of the first epoch with their texts; steps that are missing are made.

    Returns the file (default: `triplets.jsonl` in the run's folder) and the number of triplets.
    """
    from tercet.core.files import write_file
    from tercet.core.processes import locked
    from tercet.pipeline.pipeline import Pipeline
    from tercet.pipeline.steps.model import training_set

    path = path or recipe.folder / "triplets.jsonl"
    pipeline = Pipeline(recipe)
    with locked(recipe.folder):
        train = training_set(pipeline.inputs("model"))
        texts = pipeline.passages.texts(train.passage_ids())
        lines = [
            {
                "query": row["query"],
                "positive": texts[row["positive"]],
                "negative": texts[row["negative"]],
                "label": row["positive_score"] - row["negative_score"],
            }
            for row in train.rows()
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_file(path, text.encode())
    return path, len(lines)
