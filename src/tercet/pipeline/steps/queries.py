"""Passages -> synthetic queries."""

from __future__ import annotations

from tercet import data
from tercet.core.artifacts import MANIFEST, Writer
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Run, Step
from tercet.pipeline.trials import try_writers


class Queries(Step):
    """Write queries about sampled passages; drop those equal or near to a judged one."""

    name = "queries"
    needs = Needs(
        artifacts=("corpus/passages", "corpus/queries"),
        models=("generators",),
        keys=("queries", "seed"),
    )
    revision = 4

    def check(self, run: Run) -> None:
        """Write a query about each of two passages with every model."""
        if not (run.recipe.folder / self.name / MANIFEST).exists():
            try_writers(run.components)

    def all_processes(self, inputs: Inputs) -> bool:
        """Shards are written by every process."""
        return True

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.generate_queries`."""
        section, passages = inputs.recipe.queries, inputs.passages
        data.generate_queries(
            writer,
            passages,
            [(inputs.components.generator(g, passages), g.share) for g in section.generators],
            count=section.count,
            per_passage=section.per_passage,
            seed=inputs.recipe.seed,
            shard_passages=section.shard_passages,
            judged=inputs.rows("corpus/queries")["text"][:],
        )
