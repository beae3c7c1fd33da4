"""Triplets and targets -> the adapted model: one training run that survives being killed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tercet import data, modeling, retrieval
from tercet.config.evaluation import SYNTHETIC
from tercet.config.index import UUIDS
from tercet.core.artifacts import Writer, existing
from tercet.core.console import console
from tercet.core.files import digest, write_json
from tercet.core.processes import is_main_process
from tercet.core.schema import Index
from tercet.data.judgements import passages_named
from tercet.modeling.training.model_selection import write_choices
from tercet.pipeline.needs import MODEL_KEYS, MODEL_PLACES, Needs
from tercet.pipeline.run import Inputs, Run, Step
from tercet.pipeline.verdict import Selection, verdict_of


class Model(Step):
    """Train the student, evaluate every epoch on a fresh index, choose what ships.

    Validation queries choose the checkpoint and how far to go from the base model to it; the
    confirmation split decides whether the base model ships instead; judged queries may gate. Test
    queries are measured and choose nothing, so they are read and not recorded: `tested_on` says
    which they were.
    """

    name = "model"
    needs = Needs(
        artifacts=("corpus/passages", "embeddings", "student", "triplets", "targets"),
        keys=(
            *("seed", "negatives_per_query", "loss", "weight_arguments", "index.settings"),
            *("model.train", "model.dropout", "model.lora_rank", "model.lora_alpha"),
            *("model.adapter_rank", "model.adapter_penalty"),
            *("evaluation.early_stopping_patience", "evaluation.interpolation_steps"),
        ),
        unrecorded_artifacts=("corpus/queries", "corpus/qrels", "corpus/judged"),
        unrecorded_keys=(
            # How the base model is read: the student's artifact records it.
            *(*MODEL_KEYS["base"], *MODEL_PLACES["base"]),
            *("name", "folder", "training", "checkpoints", "tracking", "index", "metrics"),
            *("corpus.source", "corpus.path", "corpus.passages.id", "corpus.label"),
            *("corpus.test_split", "evaluation.passages", "negatives.candidates"),
            *("evaluation.gate", "evaluation.primary_metric"),
            *("evaluation.leave_out", "evaluation.unanswerable"),
        ),
    )
    revision = 2

    def __init__(self) -> None:
        #: The index of the model that ships, filled by its last evaluation, for the next step: in
        #: the first process, if that index holds all passages and no other model's.
        self.index: Index | None = None

    def check(self, run: Run) -> None:
        """Refuse an unfit gate, vectors too short for the loss, and settings that do not train."""
        section, corpus = run.recipe.evaluation, run.recipe.corpus
        if section.gate != SYNTHETIC:
            source = run.components.source
            data.check_gate(source, section.gate, corpus.test_split, run.recipe.seed)
        if not run.recipe.model.given:
            modeling.check_widths(run.recipe.loss, run.components.base_model())
        if not _is_trained(run):
            if is_main_process():
                run.components.check_indexes()
            modeling.rehearse(partial(_rehearsed, run), run.recipe)

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """Of the judgements, those that gate, and which passages a sample of the corpus has."""
        section, condensed = inputs.recipe.evaluation, {}
        if "gate" in inputs.splits:
            condensed["gate"] = digest([_identity(inputs, "gate"), section.primary_metric])
        if section.passages:
            condensed["searched"] = digest(evaluated_rows(inputs).tolist())
        return condensed

    def all_processes(self, inputs: Inputs) -> bool:
        """Every process trains."""
        return True

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `modeling.adapt`."""
        recipe = inputs.recipe
        train = training_set(inputs)
        if is_main_process():
            retrieval.drop_leftovers(inputs.components.make_index())
            for warning in data.warnings_of(
                inputs["triplets"].facts | inputs["targets"].facts, recipe.negatives.candidates
            ):
                console.warn(warning)
        student, collator = _student_and_collator(inputs, train)
        outcome = modeling.adapt(
            student,
            train,
            collator,
            _evaluation(inputs, student),
            recipe,
            plan=inputs.plan,
            restart=inputs.restart,
            log=inputs.log,
        )
        searched_all = not (recipe.model.frozen or recipe.evaluation.passages)
        if searched_all:
            self.index = outcome.choice.index
        elif outcome.choice.index:
            outcome.choice.index.discard()
        if is_main_process():
            student.save_pretrained(writer.folder)
            write_json(writer.folder / "history.json", outcome.history)
            write_choices(writer, outcome.choice.metrics)
            writer.facts |= outcome.facts | {"tested_on": tested_on(inputs)}
            metrics = recipe.training["metric_for_best_model"], recipe.evaluation.primary_metric
            choice = outcome.choice
            chosen = Selection.of(choice.metrics, choice.weight, choice.best, *metrics)
            verdict = verdict_of(chosen, gate=gate_of(recipe))
            writer.facts |= {"shipped": verdict.shipped, "reason": verdict.reason}
            writer.facts |= {"verdict": verdict.text}


def _is_trained(run: Run) -> bool:
    """Whether the run has a model that was trained with these settings."""
    made = existing(run.recipe.folder / "model")
    settings = made.manifest["plan"]["settings"] if made else {}
    return bool(settings.get("weight_arguments") == run.recipe.weight_arguments)


def _rehearsed(run: Run) -> modeling.Student:
    """A new instance of what the run trains, with random vectors where those are frozen."""
    section, components = run.recipe.model, run.components
    if not section.adapter:
        return components.base()
    if section.api:
        return modeling.adapter_of_width(run.recipe)
    encoder = components.base_model()
    return modeling.AdaptedEncoder.fresh(encoder, section.adapter_rank, seed=run.recipe.seed)


def gate_of(recipe: Any) -> str:
    """The split of judgements that gates; "" if none does."""
    gate: str = recipe.evaluation.gate
    return "" if gate == SYNTHETIC else gate


def training_set(inputs: Inputs) -> data.Triplets:
    """The lists of the training queries, to draw triplets from."""
    recipe = inputs.recipe
    return data.Triplets(
        inputs.rows("triplets/lists"),
        inputs.rows("targets/targets"),
        negatives_per_query=recipe.negatives_per_query,
        false_negative_margin=recipe.loss.false_negative_margin,
        seed=recipe.seed,
    )


def _student_and_collator(
    inputs: Inputs, train: data.Triplets
) -> tuple[modeling.BiEncoder | modeling.AdaptedEncoder, modeling.TripletCollator]:
    """What is trained, from its starting weights, and what makes its batches."""
    section = inputs.recipe.model
    if not section.frozen:
        student = inputs.new_student()
        student.set_dropout(section.dropout)
        student.space = None  # all its passages are encoded anew
        texts = inputs.passages.texts(train.passage_ids())
        return student, modeling.TripletCollator.of_texts(student, train.queries, texts)
    trained: modeling.BiEncoder | modeling.AdaptedEncoder
    if section.adapter:
        trained = modeling.AdaptedEncoder.fresh(
            inputs.starting_model, section.adapter_rank, seed=inputs.recipe.seed, api=section.api
        )
        if is_main_process():  # the one that evaluates
            for split in inputs.splits:
                trained.remember([query.text for query in inputs.split(split)[0]])
        queries: modeling.BatchSide = modeling.Known(trained.remember(train.queries))
    else:
        trained = inputs.new_student()
        trained.set_dropout(section.dropout)
        queries = modeling.TokenizedTexts(trained, train.queries, "query")
    trained.space = vector_space(inputs)
    passages = modeling.Known(inputs.vectors)
    return trained, modeling.TripletCollator(queries, passages, _rows_of_vectors(inputs, train))


def _rows_of_vectors(inputs: Inputs, train: data.Triplets) -> dict[str, int]:
    """Passage id -> row of its vector; passages of one text are one passage, the first of them."""
    passages = inputs.passages
    rows = passages.rows(train.passage_ids())
    same = {id: min(ids) for id, ids in passages.duplicates.items()}
    first = passages.rows({same.get(id, id) for id in rows})
    return {id: first[same.get(id, id)] for id in rows}


def vector_space(inputs: Inputs) -> modeling.VectorSpace:
    """The space of frozen passage vectors that the trained queries belong to."""
    recipe, facts = inputs.recipe, inputs["embeddings"].facts
    place = facts.get("place") or (
        f"{Path(recipe.corpus.label).name} by {Path(recipe.model.name).name}"
    )
    named: dict[str, str | None] = {}
    if index := inputs.components.live_collection:
        place = f"Weaviate collection {index.name}, vector {index.vector}"
        named = {"collection": index.name, "vector": index.vector}
        named["id"] = index.id_property or UUIDS
    similarity = facts.get("similarity") or inputs.starting_model.similarity
    return modeling.VectorSpace.of(inputs.passages.ids, inputs.vectors, similarity, place, **named)


def evaluated_rows(inputs: Inputs) -> np.ndarray:
    """Rows of the passages that every epoch searches, int64: all, or a sample and all judged."""
    size, passages = inputs.recipe.evaluation.passages, inputs.passages
    if size is None or size >= len(passages):
        return np.arange(len(passages))
    judged = passages.rows(
        passage
        for name in inputs.splits
        for queries, qrels, _ in [inputs.split(name)]
        for named in {name for grades in qrels.values() for name in grades}
        for passage in passages_named(named, queries)
    )
    sample = np.random.default_rng(inputs.recipe.seed).permutation(len(passages))[:size]
    return np.union1d(sample, np.array([*judged.values()], np.int64))


def tested_on(inputs: Inputs) -> str:
    """Identity of the test queries with their judgements, on which the weights do not depend."""
    return digest(_identity(inputs, "test"))


def _identity(inputs: Inputs, split: str) -> list[Any]:
    queries, qrels, _ = inputs.split(split)
    beside = [[query.id, query.own, query.parts] for query in queries if query.own or query.parts]
    found = [[[query.id, query.text] for query in queries], qrels]
    return [*found, beside] if beside else found


def _evaluation(inputs: Inputs, student: modeling.Student) -> modeling.RetrievalEvaluation:
    return modeling.RetrievalEvaluation(
        student,
        inputs.passages,
        {name: inputs.split(name)[:2] for name in inputs.splits},
        make_index=inputs.new_index,
        metrics=inputs.recipe.metrics,
        scratch=inputs.recipe.folder,
        rows=evaluated_rows(inputs),
        zero_shot_vectors=inputs.vectors,
        frozen=inputs.recipe.model.frozen,
    )
