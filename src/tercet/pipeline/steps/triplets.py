"""Scores -> lists to draw triplets from, split into training and held-out queries."""

from __future__ import annotations

from functools import partial
from typing import Any

from tercet import data
from tercet.core.artifacts import Writer
from tercet.data.targets import mixture
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Step


class Triplets(Step):
    """Add the student's scores, filter, and hold queries out by passage.

    Of the held-out part two thirds choose and one third, the confirmation split, guards the
    choice. Where no query is judged, half as many again are the test queries.
    """

    name = "triplets"
    needs = Needs(
        artifacts=("corpus/passages", "embeddings", "student", "scores"),
        keys=(
            *("seed", "triplets.held_out", "triplets.filter_rank"),
            *("triplets.filter_percentile", "triplets.filter_max_matches"),
        ),
        unrecorded_artifacts=("corpus/queries", "corpus/qrels", "corpus/judged"),
        unrecorded_keys=(
            *("corpus.test_split", "evaluation.gate"),
            *("evaluation.leave_out", "evaluation.unanswerable"),
            *("teacher.names", "teacher.weights", "triplets.calibration"),
        ),
    )
    revision = 2

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """Of the judgements, whether there are any: others of them change no list.

        Of several scorers, how they are mixed.
        """
        recipe, judged = inputs.recipe, bool(inputs.judged().qrels)
        mixed, weights = len(recipe.teacher.names) > 1, recipe.teacher.weights
        how = {"weights": weights, "calibration": recipe.triplets.calibration}
        return {"judged": judged} | ({"mixture": how} if mixed else {})

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.build_triplets`."""
        section = inputs.recipe.triplets
        part = section.held_out
        held_out = {"validation": part * 2 / 3, "guard": part / 3}
        if not self.condense(inputs)["judged"]:
            held_out["test"] = part / 2
        data.build_triplets(
            writer,
            inputs.rows("scores/lists"),
            inputs.starting_model,
            inputs.passages,
            inputs.vectors,
            held_out=held_out,
            seed=inputs.recipe.seed,
            filters=data.Filters(
                section.filter_rank, section.filter_percentile, section.filter_max_matches
            ),
            mix=partial(
                mixture,
                method=section.calibration,
                weights=inputs.recipe.teacher.weights,
                names=inputs.recipe.teacher.names,
            ),
        )
