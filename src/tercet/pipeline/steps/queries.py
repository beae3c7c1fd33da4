"""Passages -> synthetic queries."""

from __future__ import annotations

from tercet import data, modeling
from tercet.config.recipe import GeneratorSettings
from tercet.core.artifacts import MANIFEST, Writer
from tercet.core.processes import process
from tercet.core.schema import InputError
from tercet.pipeline.components import LONGEST
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

    def computes(self, inputs: Inputs) -> bool:
        """Where one of the generators is a model that runs here."""
        generators = inputs.recipe.queries.generators
        return any(each.kind not in ("spans", "endpoint") for each in generators)

    def precisions(self, inputs: Inputs) -> dict[str, modeling.Precision]:
        """Those of the generators."""
        return {
            f"queries.generators.{number}.precision": each.precision
            for number, each in enumerate(inputs.recipe.queries.generators)
            if each.kind in LONGEST
        }

    def check(self, run: Run) -> None:
        """Write a query about each of two passages with every local model.

        Refuse a service that does not answer, and a budget that is one process's alone.
        """
        if (run.recipe.folder / self.name / MANIFEST).exists():
            return
        try_writers(run.components)
        for number, each in enumerate(run.recipe.queries.generators):
            if each.kind == "endpoint":
                _check_service(run, number, each)

    def all_processes(self, inputs: Inputs) -> bool:
        """Shards are written by every process."""
        return True

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.generate_queries`."""
        section, passages = inputs.recipe.queries, inputs.passages
        _check_engines(inputs)
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


def _check_engines(inputs: Inputs) -> None:
    """Raise InputError for a T5 that the run has begun to write with another engine."""
    parts = inputs.components
    for number, each in enumerate(inputs.recipe.queries.generators):
        begun = parts.engines.get(each.model) if each.kind == "seq2seq" else None
        if begun and begun != (here := parts.engine_of(each)):
            raise InputError(
                f"queries.generators.{number}: the run writes with {begun}, and this machine has "
                f"{here}: go on where it was begun, or give --restart to begin this stage anew"
            )


def _check_service(run: Run, number: int, settings: GeneratorSettings) -> None:
    place = f"queries.generators.{number}"
    if process()[1] > 1 and (settings.dollars, settings.tokens) != (None, None):
        raise InputError(
            f"{place}: dollars and tokens are one process's budget: run `tercet adapt` as one"
        )
    try:
        run.components.completions(settings).connection.check()
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
