"""The pipeline of one recipe: its steps in order, and their artifacts as they are needed."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tercet import modeling
from tercet.config.parsing import nearest
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact, Stage, existing
from tercet.core.console import console
from tercet.core.mapped import MappedVectors
from tercet.core.processes import is_main_process
from tercet.core.schema import InputError, Qrels, Query
from tercet.data import Passages
from tercet.data.judgements import Judged, missing_split
from tercet.pipeline.components import Components
from tercet.pipeline.run import Inputs, Run, Step
from tercet.pipeline.steps import steps_of
from tercet.pipeline.steps.model import evaluated_rows, tested_on, vector_space


class StepReached(Exception):
    """The last step that was wanted is made."""


class Pipeline:
    """The steps of one recipe, from its corpus to its evaluation.

    `make` makes one step of the artifacts it is handed. An attribute with a step's name is that
    step's artifact, made with all that it needs if it is missing or stale.
    """

    def __init__(self, recipe: Recipe, *, restart: bool = False, until: str | None = None) -> None:
        self.run = Run(recipe, restart=restart)
        self.steps: dict[str, Step] = steps_of(self.run.recipe)
        if until is not None and until not in self.steps:
            raise InputError(
                f"--until {until}: there is no such step{nearest(until, [*self.steps])}"
            )
        self._until = until
        self._made: dict[str, Artifact] = {}

    @property
    def recipe(self) -> Recipe:
        """The recipe, with what the run has chosen where it leaves a value open."""
        return self.run.recipe

    @property
    def components(self) -> Components:
        """Models, source and indexes of the recipe."""
        return self.run.components

    def check(self) -> None:
        """Find and open every source, model and server before any work. Raises InputError."""
        self.run.components.check()
        for step in self.steps.values():
            step.check(self.run)

    def make(self, name: str, *artifacts: Artifact) -> Artifact:
        """Make a step, or reuse its artifact; it is handed those `artifacts` that it declares.

        Raises StepReached after the last step that is wanted.
        """
        given = {artifact.path.name: artifact for artifact in artifacts}
        step = self.steps[name]
        missing = [needed for needed in step.needs.steps if needed not in given]
        if missing:
            raise TypeError(f"step {name} needs {', '.join(missing)}")
        self._made[name] = self.run.make(step, given.__getitem__)
        if name == self._until:
            raise StepReached(name)
        return self._made[name]

    def artifact(self, name: str) -> Artifact:
        """A step's artifact, made with all that it needs if it is missing or stale."""
        if name not in self._made:
            self.make(name, *map(self.artifact, self.steps[name].needs.steps))
        return self._made[name]

    def take(self, name: str, artifact: Artifact) -> None:
        """Use an artifact as it stands for a step."""
        self._made[name] = artifact

    def inputs(self, name: str) -> Inputs:
        """What a step is handed."""
        return Inputs(self.run, self.steps[name], self.artifact)

    def stage(self, name: str) -> Stage:
        """A step's stage: what its artifact follows from, and whether it is finished."""
        return self.run.stage_of(self.steps[name], self.inputs(name))

    def reuse(self, other: Pipeline, *names: str) -> None:
        """Take another pipeline's artifacts, and what it has loaded of them, for this one's."""
        self._made |= {name: other.artifact(name) for name in names}
        self.run.loaded = other.run.loaded

    @property
    def corpus(self) -> Artifact:
        """Passages, judged queries and judgements."""
        return self.artifact("corpus")

    @property
    def embeddings(self) -> Artifact:
        """The passages' vectors."""
        return self.artifact("embeddings")

    @property
    def student(self) -> Artifact:
        """The encoder that training starts from."""
        return self.artifact("student")

    @property
    def queries(self) -> Artifact:
        """Synthetic queries."""
        return self.artifact("queries")

    @property
    def negatives(self) -> Artifact:
        """Each query's candidates."""
        return self.artifact("negatives")

    @property
    def scores(self) -> Artifact:
        """The teacher's scores of each query's source passage and candidates."""
        return self.artifact("scores")

    @property
    def triplets(self) -> Artifact:
        """Lists with both models' scores, split into training and held-out queries."""
        return self.artifact("triplets")

    @property
    def targets(self) -> Artifact:
        """The score that each listed pair should get."""
        return self.artifact("targets")

    @property
    def model(self) -> Artifact:
        """The adapted model, or the base model if no epoch was better."""
        return self.artifact("model")

    @property
    def evaluation(self) -> Artifact:
        """Metric values of every test query, zero-shot and adapted."""
        return self.artifact("evaluation")

    @property
    def passages(self) -> Passages:
        """The passages, in the corpus's order."""
        return self.run.passages(self.corpus)

    @property
    def vectors(self) -> MappedVectors:
        """Their vectors, float32 [passages, dimension]."""
        return self.run.vectors(self.embeddings, self.passages)

    @property
    def starting_model(self) -> modeling.SimilarityEncoder:
        """The encoder that training starts from."""
        return self.run.starting_model(self.student)

    def adapted_model(self) -> modeling.BiEncoder | modeling.AdaptedEncoder:
        """The encoder that ships."""
        return self.run.components.adapted(self.recipe.folder / "model")

    def split(self, name: str) -> tuple[list[Query], Qrels, str]:
        """Queries and qrels of "validation", "guard" or "test", and a description of them."""
        return self.inputs("model").split(name)

    def check_judged(self) -> None:
        """Say what is wrong with the judged queries before anything is measured on them.

        Raises InputError if none of the test split's, or of the gate's, can be answered.
        """
        missing = missing_split(self.corpus, self.recipe.corpus.test_split)
        faults = [missing] if missing else []
        for judged in self._judged():
            faults += [fault for fault in judged.faults if fault not in faults]
        if is_main_process():
            for fault in faults:
                console.warn(fault, "bold red")

    def judged_notes(self) -> list[str]:
        """What is to be said of the judged queries beside the figures of them."""
        missing = missing_split(self.corpus, self.recipe.corpus.test_split)
        notes = [note for judged in self._judged() for note in judged.notes]
        return [*([missing] if missing else []), *dict.fromkeys(notes)]

    def _judged(self) -> list[Judged]:
        inputs = self.inputs("model")
        gates = [True] if "gate" in inputs.splits else []
        return [inputs.judged(gating=gating) for gating in (False, *gates)]

    @property
    def evaluated_rows(self) -> np.ndarray:
        """Rows of the passages that every epoch searches, int64."""
        return evaluated_rows(self.inputs("model"))

    def check_adapted(self) -> None:
        """Refuse a model folder that was adapted from another model than the recipe's."""
        folder = self.recipe.folder / "model"
        made = existing(folder)
        if made is None:
            raise InputError(f"{folder} holds no model: run `tercet adapt` with this recipe")
        plan = made.manifest["plan"]
        trained = plan["settings"].get("model.train")
        if trained != self.recipe.model.train:
            raise InputError(
                f"{folder} was trained with model.train {trained}, and this recipe says "
                f"{self.recipe.model.train}: give the value that it was trained with"
            )
        if plan["inputs"]["student"] != self.student.digest:
            raise InputError(
                f"{folder} was adapted from another model than this recipe's `model` section: give "
                "the recipe and options that it was trained with"
            )

    @property
    def tested_on(self) -> str:
        """Identity of the test queries with their judgements."""
        return tested_on(self.inputs("model"))

    @cached_property
    def vector_space(self) -> modeling.VectorSpace | None:
        """The space of frozen passage vectors; None where passages are encoded anew."""
        return vector_space(self.inputs("model")) if self.recipe.model.frozen else None
