"""`tercet audit`: whether the teacher is worth learning from."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tercet.commands.recipe_command import RecipeCommand

if TYPE_CHECKING:
    from tercet.config.recipe import Recipe


@click.command(cls=RecipeCommand)
def command(recipe: Recipe) -> None:
    """Find in minutes whether the teacher is worth learning from, on judged queries."""
    audit(recipe)


def audit(recipe: Recipe) -> None:
    """Tell from a few queries whether the teacher is worth learning from."""
    # torch and transformers take seconds to import, which --help should not.
    from tercet.core.files import write_json
    from tercet.core.processes import locked
    from tercet.evaluation.teacher_audit import audit_teacher
    from tercet.pipeline.pipeline import Pipeline
    from tercet.reports.audit_table import print_audit

    pipeline = Pipeline(recipe)
    pipeline.check()
    with locked(recipe.folder):
        found = audit_teacher(pipeline)
        write_json(recipe.folder / "audit.json", asdict(found))
        print_audit(found)
