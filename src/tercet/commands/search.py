"""`tercet search`: the passages of a finished run, or a live Weaviate collection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tercet.core.schema import InputError, Ranking


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("queries", metavar="QUERY...", nargs=-1, required=True)
@click.option("--k", type=click.IntRange(1), default=5, show_default=True, help="Passages a query.")
@click.option(
    "--system", metavar="NAME", default="adapted", show_default=True, help="Or base, or another."
)
@click.option("--collection", metavar="NAME", help="Search this Weaviate collection or alias.")
@click.option("--vector", metavar="NAME", help="Its named vector; default: the only one.")
@click.option("--tenant", metavar="NAME", multiple=True, help="A tenant of it; may be repeated.")
@click.option("--id", metavar="NAME", help="Its property with the passages' ids, or uuid.")
def command(
    run: str,
    queries: tuple[str, ...],
    *,
    k: int,
    system: str,
    collection: str | None,
    vector: str | None,
    id: str | None,
    tenant: tuple[str, ...],
) -> None:
    """Search with the model that a run adapted.

    RUN is a run's folder or its recipe. With --collection it may also be a model's folder or Hub
    name; a query encoder that was adapted to the vectors of another collection is refused.
    """
    if collection is None:
        if vector or id or tenant:
            raise InputError("--vector, --id and --tenant belong to --collection")
        _search_run(run, queries, k, system)
    else:
        _search_collection(run, queries, k, collection, vector=vector, id=id, tenant=tenant)


def _search_run(run: str, queries: tuple[str, ...], k: int, system: str) -> None:
    # torch and transformers take seconds to import, which --help should not.
    from tercet.commands.recipe_command import read_recipe
    from tercet.core.text import excerpt, printable
    from tercet.pipeline.finished import finished
    from tercet.serving.search import RunSearch

    with RunSearch(finished(read_recipe(run)), system) as search:
        for query in queries:
            rows = [
                (passage.id, f"{score:.4f}", excerpt(printable(passage.contents), 100))
                for passage, score in search.search(query, k)
            ]
            _print(query, ("passage", "score", "text"), rows)


def _search_collection(
    run: str, queries: tuple[str, ...], k: int, collection: str, **given: Any
) -> None:
    from tercet.serving.search import live_retriever

    model = Path(run) / "model" if (Path(run) / "recipe.yaml").is_file() else run
    retriever = live_retriever(model, collection, **given)
    try:
        rankings: list[Ranking] = retriever.search(queries, k)
    finally:
        retriever.close()
    for query, ranking in zip(queries, rankings, strict=True):
        _print(query, ("passage", "score"), [(id, f"{score:.4f}") for id, score in ranking])


def _print(query: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from tercet.core.console import console
    from tercet.core.text import printable

    table = Table(*header, title=Text(printable(query)), title_justify="left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.result(table)
