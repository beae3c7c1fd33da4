"""Deploy a run's model to a Weaviate collection: `tercet deploy`."""

from __future__ import annotations

import sys

import click


@click.command("deploy")
@click.argument("run")
@click.option("--weaviate", "collection", required=True, help="Collection or alias to deploy to.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["vector", "collection"]),
    help="A named vector of the collection, or a copy under an alias.",
)
@click.option("--vector-name", help="Name of the new vector.")
@click.option("--replaces", help="The vector that is searched now, if there are several.")
@click.option("--id", help="Property with the ids of the run's passages, or uuid.")
@click.option("--keep", default=2, show_default=True, help="Earlier deployments that stay.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(
    run: str,
    collection: str,
    form: str | None,
    vector_name: str | None,
    replaces: str | None,
    id: str | None,
    keep: int,
    yes: bool,
) -> None:
    """Give a collection's objects the vectors of RUN's model, check them, and serve them.

    RUN is a run's folder or recipe. Killed, it goes on where it was; `tercet rollback` returns.
    """
    # It imports torch, which --help should not.
    from tercet.serving.deployment import deploy

    ask = None if yes or not sys.stdin.isatty() else click.confirm
    deploy(
        run,
        collection,
        form=form,  # type: ignore[arg-type]
        vector_name=vector_name,
        replaces=replaces,
        id=id,
        keep=keep,
        confirm=ask,
    )
