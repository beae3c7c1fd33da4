"""A run: one recipe, its folder, its components, and the making of its steps.

A step declares what it needs and is handed that alone; the inputs and settings of its manifest are
computed from the same declaration, so that no dependency can be left out of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tercet import data, modeling, retrieval
from tercet.config.evaluation import SYNTHETIC
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact, Stage, Writer, only_existing_now, produce
from tercet.core.mapped import MappedVectors
from tercet.core.processes import is_main_process
from tercet.core.schema import Index, InputError, Qrels, Query
from tercet.data import Passages
from tercet.data.judgements import Judged, read_judged
from tercet.modeling.training.callbacks import Log
from tercet.pipeline.choices import (
    Choices,
    choose_engines,
    chosen,
    engines,
    measure,
    read_choices,
    standing,
    teachers,
    teachers_of,
    write_choices,
)
from tercet.pipeline.components import Components
from tercet.pipeline.needs import Needs, RecipeView, UndeclaredInput, key_value, unset

if TYPE_CHECKING:
    from datasets import Dataset


class Step:
    """One arrow of the pipeline: it reads what it `needs` and writes one artifact.

    Raise `revision` when the code's output for equal inputs changes. A step that is not `resumable`
    starts again after an interruption.
    """

    name: str
    needs: Needs
    revision = 1
    resumable = True
    #: Values beside those of `needs` that may name plug-ins which it depends on.
    may_name: tuple[str, ...] = ()

    def check(self, run: Run) -> None:
        """Refuse, before any work, what the step would fail at later. Raises InputError."""

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """Return the part of unrecorded inputs that does change the result, as JSON values."""
        return {}

    def all_processes(self, inputs: Inputs) -> bool:
        """Whether the processes of a launch share the work shard by shard; else the first does."""
        return False

    def computes(self, inputs: Inputs) -> bool:
        """Whether a model that runs here makes the artifact's numbers."""
        return bool(self.needs.artifacts)

    def precisions(self, inputs: Inputs) -> dict[str, modeling.Precision]:
        """The number formats of the models that make it, by their keys."""
        keys = {"model.precision", "teacher.precision"} & set(self.needs.readable_keys)
        return {key: key_value(inputs.recipe, key) for key in sorted(keys)}

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """Write the artifact's files and facts."""
        raise NotImplementedError

    def after(self, inputs: Inputs) -> None:
        """Run in the first process when the artifact is there, made or reused."""


class Inputs:
    """What one step is handed. Reading anything that it does not declare raises UndeclaredInput."""

    def __init__(self, run: Run, step: Step, artifact: Callable[[str], Artifact]) -> None:
        self._run, self._step, self._artifact = run, step, artifact
        self.recipe: Any = RecipeView(run.recipe, step.needs.readable_keys, step.name)
        #: Models, indexes and retrievers, made from declared keys alone.
        self.components = run.components.reading(self.recipe)
        #: What the artifact follows from.
        self.plan: dict[str, Any] = {}
        self.restart, self.log = run.restart, run.log
        self._within: dict[str, Artifact] = {}

    def __getitem__(self, name: str) -> Artifact:
        """The artifact of an earlier step, declared whole."""
        self._declared(name)
        return self._artifact(name)

    def rows(self, shards: str) -> Dataset:
        """The rows of a group of shards, named `step/shards`."""
        name, _, prefix = shards.partition("/")
        self._declared(shards, name)
        return self._artifact(name).dataset(prefix)

    @property
    def passages(self) -> Passages:
        """The passages in the corpus's order."""
        self._declared("corpus/passages", "corpus")
        return self._run.passages(self._artifact("corpus"))

    @property
    def vectors(self) -> MappedVectors:
        """Their vectors, float32 [passages, dimension]."""
        return self._run.vectors(self["embeddings"], self.passages)

    @property
    def starting_model(self) -> modeling.SimilarityEncoder:
        """The encoder that training starts from, loaded once a run."""
        return self._run.starting_model(self["student"])

    def new_student(self) -> modeling.BiEncoder:
        """Another instance of the encoder that training starts from, to be trained."""
        return self.components.new_student(self["student"])

    def new_index(self) -> Index:
        """An index to fill; of frozen passage vectors the one that is shared."""
        return self._run.new_index()

    def make(self, step: Step) -> Artifact:
        """Make another step's artifact within this one, which declares all that it needs."""
        for name in step.needs.artifacts:
            self._declared(name, name.partition("/")[0])
        if step.name not in self._within:
            self._within[step.name] = self._run.make(step, self._artifact)
        return self._within[step.name]

    def judged(self, *, gating: bool = False) -> Judged:
        """The judged test queries with their judgements; without any where there are none.

        With `gating` those of `evaluation.gate`: of one split, the half that is not reported.
        """
        for shards in ("queries", "qrels", "judged"):
            self._declared(f"corpus/{shards}", "corpus")
        section, split = self.recipe.evaluation, self.recipe.corpus.test_split
        judged = read_judged(
            self._artifact("corpus"),
            section.gate if gating else split,
            leave_out=section.leave_out,
            unanswerable=section.unanswerable,
        )
        if section.gate != split or not judged.qrels:
            return judged
        texts = {query.id: query.text for query in judged.queries}
        return judged.only(data.halves(judged.qrels, texts, self.recipe.seed)[not gating])

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that are measured: what chooses, confirms, and is reported; what gates, if any."""
        gates = self.recipe.evaluation.gate != SYNTHETIC
        return ("validation", "guard", "test", *(["gate"] if gates else []))

    def split(self, name: str) -> tuple[list[Query], Qrels, str]:
        """Queries and qrels of a split, and a description of them.

        "validation", which chooses, and "guard", which confirms, are synthetic queries; so is
        "test" where none are judged. "gate" are the judged ones that may turn the choice down.
        """
        if name in ("test", "gate") and (judged := self.judged(gating=name == "gate")).qrels:
            queries, qrels = judged.queries, judged.qrels
            split, gate = self.recipe.corpus.test_split, self.recipe.evaluation.gate
            half = ", a half of it" if gate == split else ""
            named = gate if name == "gate" else split
            return queries, qrels, f"{len(qrels):,} judged queries of split {named!r}{half}"
        queries, qrels = data.known_items(
            self.rows("triplets/lists"), name, self.passages.duplicates
        )
        return queries, qrels, f"{len(qrels):,} held-out synthetic queries (known items)"

    def _declared(self, *names: str) -> None:
        if not set(names) & set(self._step.needs.readable_artifacts):
            raise UndeclaredInput(
                f"step {self._step.name} reads {names[0]} and does not declare it"
            )


class Run:
    """One recipe and what its steps share: components, mapped passages and vectors, the encoder."""

    def __init__(self, recipe: Recipe, *, restart: bool = False) -> None:
        #: The recipe as it was given, and `recipe` with what the run has chosen.
        self.given, self.restart = recipe, restart
        self._settled = False
        #: What the run has decided by measuring: its recipe has the values.
        self.choices = read_choices(recipe.folder)
        kept = {} if restart else standing(recipe, self.choices)
        if not teachers(recipe).keys() <= kept.keys():
            self.choices |= modeling.from_first_process(lambda: teachers_of(recipe))
        for key, name in teachers(recipe).items():
            if kept.get(key, name) != name:
                modeling.tell_once(f"{kept[key]} is the run's teacher, in place of {name}")
        self.recipe = chosen(recipe, self.choices)
        self.components = Components(self.recipe)
        self.components.engines = engines(recipe, self.choices)
        #: What the processes of one launch, and no other, have in common.
        self.launch = modeling.from_first_process(lambda: uuid4().hex)
        #: Receives the training curves, in the first process.
        self.log: Log | None = None
        #: Passages, vectors and encoders by kind and digest of their artifact.
        self.loaded: dict[tuple[str, str], Any] = {}

    def decide(self, choices: Choices) -> None:
        """Take choices that the first process has made; `settle` keeps them."""
        self.choices |= choices
        self._settled = False
        self.recipe = chosen(self.given, self.choices)
        self.components = self.components.settled(self.recipe)
        self.components.engines = engines(self.given, self.choices)

    def chose(self, key: str) -> bool:
        """Whether the run has a choice of this key, made for what its recipe asks for."""
        return key in standing(self.given, self.choices)

    def settle(self) -> None:
        """Choose what the recipe leaves open, in the first process; keep it in the run's folder."""
        if self._settled:
            return
        if own := modeling.from_first_process(lambda: choose_engines(self.components)):
            self.decide(own)
        known = self.components.engines
        if found := modeling.from_first_process(lambda: measure(self.recipe, known)):
            self.decide(found)
        if is_main_process():
            write_choices(self.recipe.folder, self.choices)
        self._settled = True

    def make(self, step: Step, artifact: Callable[[str], Artifact]) -> Artifact:
        """Make the step's artifact, or reuse it where nothing that it needs has changed.

        `artifact` gives those of earlier steps by name.
        """
        # The corpus depends on no choice: where it is refused, nothing is left behind.
        if (step.needs.artifacts or step.needs.models) and not only_existing_now():
            self.settle()
        inputs = Inputs(self, step, artifact)
        stage = self.stage_of(step, inputs)
        if not only_existing_now():
            if self._chose_engines_anew(step, stage):
                inputs = Inputs(self, step, artifact)
                stage = self.stage_of(step, inputs)
            self._check_partial(step, stage, inputs)
        made = produce(
            stage,
            lambda writer: step.make(inputs, writer),
            all_processes=step.all_processes(inputs),
        )
        if is_main_process():
            step.after(inputs)
        return made

    def stage_of(self, step: Step, inputs: Inputs) -> Stage:
        """The step's stage: its manifest's inputs and settings follow from its needs alone."""
        needs = step.needs
        digests = {}
        for name in needs.artifacts:
            step_name, _, shards = name.partition("/")
            made = inputs._artifact(step_name)
            digests[name] = made.digest_of(shards) if shards else made.digest
        for role in needs.models:
            digests[f"model {role}"] = self.components.identity_of(role)
        for source in needs.sources:
            digests[f"source {source}"] = self.components.identity_of_source(source)
        named = [*step.may_name, *(key_value(self.recipe, key) for key in needs.naming_keys)]
        digests |= self.components.identities_of_plugins(named)
        settings = {key: key_value(self.recipe, key) for key in needs.recorded_keys}
        settings = {key: value for key, value in settings.items() if not unset(key, value)}
        stage = self.stage(
            step.name,
            settings | step.condense(inputs),
            digests,
            revision=step.revision,
            resumable=step.resumable,
            made_on=modeling.circumstances() if step.computes(inputs) else {},
        )
        inputs.plan = stage.plan
        return stage

    def _chose_engines_anew(self, step: Step, stage: Stage) -> bool:
        """Choose what T5s write with by this machine, if no query is written; whether it changed.

        With `restart` those that are written with another engine do not count.
        """

        def unwritten() -> bool:
            writes = "generators" in step.needs.models and self.components.engines
            begun = stage.has_partial and not self.restart
            return bool(writes) and not begun and stage.finished()[0] is None

        if not modeling.from_first_process(unwritten):
            return False
        before, self.components.engines = self.components.engines, {}
        found = modeling.from_first_process(lambda: choose_engines(self.components))
        if {key: self.choices[key] for key in found} == found:
            self.components.engines = before
            return False
        self.decide(found)
        self.settle()
        return True

    def _check_partial(self, step: Step, stage: Stage, inputs: Inputs) -> None:
        """Refuse to go on with a stage whose number format is not to be had here.

        With `restart` what was begun elsewhere is begun anew. Raises InputError.
        """
        if stage.finished()[0]:
            return
        if self.restart and is_main_process() and not stage.has_partial:
            shutil.rmtree(stage.partial, ignore_errors=True)
        place = modeling.default_device().type
        formats = step.precisions(inputs) if step.computes(inputs) else {}
        for key, precision in formats.items():
            if not modeling.computes(precision, place):
                raise InputError(
                    f"{stage.path}: the run computes in {precision} ({key}), which this machine "
                    f"cannot on its {place}: go on where it was begun, or set {key} fp32, which "
                    "makes the stages of that model again"
                )

    def stage(
        self, name: str, settings: Mapping[str, Any], inputs: Mapping[str, str], **kwargs: Any
    ) -> Stage:
        """A stage in the run's folder."""
        return Stage(self.recipe.folder / name, settings, inputs, launch=self.launch, **kwargs)

    def passages(self, corpus: Artifact) -> Passages:
        """The passages of a corpus, read once."""
        return self._once("passages", corpus, lambda: Passages.read(corpus))

    def vectors(self, embeddings: Artifact, passages: Passages) -> MappedVectors:
        """Their vectors, mapped once: float32 [passages, dimension]."""
        return self._once("vectors", embeddings, lambda: data.read_vectors(embeddings, passages))

    def starting_model(self, student: Artifact) -> modeling.SimilarityEncoder:
        """The encoder of a student artifact, loaded once."""
        return self._once("student", student, lambda: self.components.starting_model(student))

    def new_index(self) -> Index:
        """An index to fill; of frozen passage vectors one that is shared, and filled once."""
        make = self.components.make_index
        if not self.recipe.model.frozen:
            return make()
        return self._once("index", None, lambda: retrieval.SharedIndex(make()))

    def _once(self, kind: str, made: Artifact | None, load: Callable[[], Any]) -> Any:
        key = kind, made.digest if made else ""
        if key not in self.loaded:
            self.loaded[key] = load()
        return self.loaded[key]
