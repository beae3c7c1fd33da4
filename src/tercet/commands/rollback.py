"""Return to the deployment before the current one: `tercet rollback`."""

from __future__ import annotations

import click


@click.command("rollback")
@click.argument("run", required=False)
@click.option("--weaviate", "name", help="The name that was deployed to, instead of a run.")
def command(run: str | None, name: str | None) -> None:
    """Let what was deployed before RUN answer again, or what was before under a name."""
    # It imports torch, which --help should not.
    from tercet.serving.deployment import rollback

    rollback(name, run=run)
