"""Lists -> targets: the score that each pair should get, anchored between student and teacher."""

from __future__ import annotations

from typing import Any

from tercet import data
from tercet.core.artifacts import Writer
from tercet.modeling.training.adapter_trial import adapter_trial
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Step


class Targets(Step):
    """Bring the teacher's scores to the student's scale and mix both.

    Unless the recipe gives the weights, small query adapters, trained on training queries, try
    several, and validation queries choose.
    """

    name = "targets"
    needs = Needs(
        artifacts=("corpus/passages", "embeddings", "student", "triplets"),
        keys=("seed", "triplets.calibration", "teacher.student_weight"),
        unrecorded_keys=("teacher.names", "teacher.weights"),
    )
    revision = 2

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """The names and weights of several scorers."""
        teacher = inputs.recipe.teacher
        how = {"scorers": teacher.names, "weights": teacher.weights}
        return how if len(teacher.names) > 1 else {}

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.write_targets`."""
        recipe, lists, trial = inputs.recipe, inputs.rows("triplets/lists"), None
        teacher, mixed = recipe.teacher, len(recipe.teacher.names) > 1
        if teacher.student_weight is None or (mixed and teacher.weights is None):
            held_out, qrels, _ = inputs.split("validation")
            given = (inputs.starting_model, inputs.passages, inputs.vectors, lists, held_out, qrels)
            trial = adapter_trial(*given, seed=recipe.seed)
        data.write_targets(
            writer,
            lists,
            method=recipe.triplets.calibration,
            student_weight=teacher.student_weight,
            weights=teacher.weights,
            scorers=teacher.names if mixed else ["the teacher"],
            trial=trial,
        )
