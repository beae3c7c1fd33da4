"""Lists -> targets: the score that each pair should get, anchored between student and teacher."""

from __future__ import annotations

from tercet import data
from tercet.core.artifacts import Writer
from tercet.modeling.training.adapter_trial import adapter_trial
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Step


class Targets(Step):
    """Bring the teacher's scores to the student's scale and mix both.

    Unless the recipe gives the teacher's weight, small query adapters, trained on training queries,
    try several, and validation queries choose.
    """

    name = "targets"
    needs = Needs(
        artifacts=("corpus/passages", "embeddings", "student", "triplets"),
        keys=("seed", "triplets.calibration", "triplets.teacher_weight"),
    )
    revision = 2

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.write_targets`."""
        section, lists, trial = inputs.recipe.triplets, inputs.rows("triplets/lists"), None
        if section.teacher_weight is None:
            held_out, qrels, _ = inputs.split("validation")
            given = (inputs.starting_model, inputs.passages, inputs.vectors, lists, held_out, qrels)
            trial = adapter_trial(*given, seed=inputs.recipe.seed)
        data.write_targets(
            writer, lists, method=section.calibration, weight=section.teacher_weight, trial=trial
        )
