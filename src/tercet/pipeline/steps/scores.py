"""Candidates -> the cross-encoder's scores."""

from __future__ import annotations

from tercet import data, modeling
from tercet.core.artifacts import MANIFEST, Writer
from tercet.core.processes import process
from tercet.core.schema import InputError
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Run, Step
from tercet.pipeline.trials import try_teacher


class Scores(Step):
    """Score each query's source passage and candidates, every different pair once."""

    name = "scores"
    needs = Needs(
        artifacts=("corpus/passages", "negatives"),
        models=("teacher",),
        keys=("teacher.shard_pairs",),
    )
    revision = 3

    def computes(self, inputs: Inputs) -> bool:
        """Not where a service scores."""
        return not inputs.recipe.teacher.api

    def check(self, run: Run) -> None:
        """Load the teacher: one of another kind is refused before queries are written.

        So is a service that does not answer.
        """
        if (run.recipe.folder / self.name / MANIFEST).exists():
            return
        if not run.recipe.teacher.api:
            try_teacher(run.components)
            return
        teacher = run.components.teacher()
        assert isinstance(teacher, modeling.ApiReranker)
        if process()[1] > 1 and run.recipe.teacher.dollars is not None:
            raise InputError("teacher.dollars is one process's budget: run `tercet adapt` as one")
        teacher.check()

    def all_processes(self, inputs: Inputs) -> bool:
        """Shards are scored by every process."""
        return True

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.score_candidates`."""
        teacher = inputs.components.teacher()
        data.score_candidates(
            writer,
            inputs.rows("negatives/candidates"),
            inputs.passages,
            teacher,
            shard_pairs=inputs.recipe.teacher.shard_pairs,
        )
        if reading := getattr(teacher, "reading", ""):
            writer.facts |= {"teacher_reads": reading}
