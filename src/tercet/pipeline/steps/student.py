"""Base model -> the student: the encoder that training starts from.

It is the base model itself; or, where another model made the passage vectors, the base model
projected into their space, or the model that made them, beneath a query adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tercet import data, modeling, retrieval
from tercet.config.recipe import Recipe
from tercet.core.artifacts import MANIFEST, Writer
from tercet.core.console import console
from tercet.core.files import write_json
from tercet.core.processes import process
from tercet.core.schema import InputError
from tercet.pipeline.components import STUDENT
from tercet.pipeline.given_vectors import similarity_to_given
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Run, Step

#: The likeness from which on given vectors are the model's own. E5 without its prefix has 0.9.
SAME_MODEL = 0.97
#: Synthetic queries that choose among prompts, at most, and their metric.
FOR_PROMPTS, BY_RANK = 500, "mrr@10"


def student_step(recipe: Recipe) -> Step:
    """The step that a recipe's `model` section asks for."""
    if not recipe.model.given:
        several = isinstance(recipe.model.query_prompt, list)
        return PromptedStudent() if several else BaseStudent()
    return AdapterStudent() if recipe.model.adapter else ProjectedStudent()


class BaseStudent(Step):
    """The base model itself: the artifact says which, and holds no weights."""

    name = "student"
    needs = Needs(models=("base",))
    revision = 2

    def check(self, run: Run) -> None:
        """Refuse a dot-product model over a live index that compares by cosine."""
        _check_key(run)
        if run.recipe.index.collection:
            run.components.check_live_metric(run.components.base_model().similarity)

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """Write what identifies the model."""
        if not inputs.recipe.model.api:
            _tell(inputs.components.base_model(), writer)
        write_json(writer.folder / STUDENT, {"follows_from": inputs.plan})


class PromptedStudent(BaseStudent):
    """The base model with the query prompt, of several and none, that finds most."""

    needs = Needs(
        artifacts=("corpus/passages", "embeddings", "queries"),
        models=("base",),
        keys=("seed",),
    )
    revision = 1

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """Choose by a sample of the synthetic queries, before any of them is trained on."""
        base, rows = inputs.components.base(), inputs.rows("queries/queries")
        drawn = np.random.default_rng(inputs.recipe.seed).permutation(len(rows))[:FOR_PROMPTS]
        queries, qrels = data.sources_of(rows.select(np.sort(drawn)), inputs.passages.duplicates)
        index = retrieval.ExactIndex()
        index.build(inputs.passages.ids, inputs.vectors)
        values = {}
        for prompt in dict.fromkeys(["", *inputs.recipe.model.query_prompt]):
            found = retrieval.search_and_measure(
                base.prompted(prompt), index, queries, qrels, [BY_RANK]
            )
            values[prompt] = list(found[BY_RANK].values())
        chosen = max(values, key=lambda prompt: float(np.mean(values[prompt])))
        _tell(base.prompted(chosen), writer)
        writer.facts["query_prompts"] = _compared(values, chosen)
        about = {"query_prompt": chosen, "follows_from": inputs.plan}
        write_json(writer.folder / STUDENT, about)


def _compared(values: Mapping[str, Sequence[float]], chosen: str) -> list[dict[str, Any]]:
    """Mean of each prompt with its paired difference from none, told in a line each."""
    rows = []
    for prompt, measured in values.items():
        row: dict[str, Any] = {"prompt": prompt, "chosen": prompt == chosen}
        row[BY_RANK] = float(np.mean(measured))
        line = f"      query prompt {prompt or 'none'!r}: {BY_RANK} {row[BY_RANK]:.4f}"
        if prompt:
            interval = retrieval.paired_bootstrap(values[""], measured)
            row |= asdict(interval)
            line += f", {interval.difference:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
        rows.append(row)
        console.print(line + (" (chosen)" if prompt == chosen else ""))
    console.print(f"      by {len(measured):,} synthetic queries, differences from none")
    return rows


class AdapterStudent(Step):
    """The model that made the given vectors, for queries: an adapter maps its query vectors."""

    name = "student"
    needs = Needs(artifacts=("corpus/passages", "embeddings"), models=("base",))
    revision = 2

    def check(self, run: Run) -> None:
        """Refuse a service without its key, and a model that cannot be loaded."""
        _check_key(run)
        if not run.recipe.model.api:
            run.components.base_model()

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """Write what identifies the model. Raises InputError if it did not make the vectors."""
        facts = inputs["embeddings"].facts
        about: dict[str, Any] = {
            "similarity": facts.get("similarity"),
            "dimension": facts["dimension"],
        }
        encoder = inputs.components.student_of(about)
        _tell(encoder, writer)
        likeness = similarity_to_given(encoder, inputs)
        if likeness < SAME_MODEL:
            raise InputError(
                f"{encoder.name} did not make the vectors of {facts['place']} as it is "
                f"set here (likeness {likeness:.2f}; 1: equal): look at its prompts and lengths, "
                "or train a query encoder of another model with model.train query_encoder"
            )
        write_json(writer.folder / STUDENT, about | {"follows_from": inputs.plan})


class ProjectedStudent(Step):
    """The base model projected into the space of given vectors, in closed form."""

    name = "student"
    needs = Needs(
        artifacts=("corpus/passages", "embeddings"),
        models=("base",),
        keys=("seed", "model.regression_passages"),
    )
    revision = 5

    def check(self, run: Run) -> None:
        """Load the base model."""
        run.components.base_model()

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `modeling.regress`; a model that made the vectors is kept without a projection."""
        encoder, similarity = inputs.components.base(), inputs["embeddings"].facts["similarity"]
        _tell(encoder, writer)
        likeness = similarity_to_given(encoder, inputs)
        writer.facts["likeness_before"] = likeness
        if likeness < SAME_MODEL:
            writer.facts |= modeling.regress(
                encoder,
                inputs.passages.contents,
                inputs.vectors,
                similarity=similarity,
                passages=inputs.recipe.model.regression_passages,
                seed=inputs.recipe.seed,
            )
        else:
            encoder = inputs.components.base(similarity=similarity)
            console.print("      the model made these vectors: it needs no projection")
        # Settings that are applied when the model is loaded leave its files as they are.
        writer.facts["settings"] = inputs.plan["settings"]
        encoder.save_pretrained(writer.folder)


def _tell(encoder: modeling.SimilarityEncoder, writer: Writer) -> None:
    """Record how the model reads texts, and say what no file of it says."""
    if not isinstance(encoder, modeling.BiEncoder):
        return
    writer.facts |= encoder.config.effective()
    if assumed := encoder.config.assumptions():
        console.print(f"      the files of {encoder.name} do not say it all; assumed: {assumed}")


def _check_key(run: Run) -> None:
    """Refuse a service without its key before queries are written."""
    section, folder = run.recipe.model, run.recipe.folder
    if not section.api:
        return
    if not any((folder / step / MANIFEST).exists() for step in ("targets", "model")):
        _check_service(run, section.api)
    if section.dollars is not None and process()[1] > 1:
        raise InputError("model.dollars is one process's budget: run `tercet adapt` as one")


def _check_service(run: Run, api: str) -> None:
    if api != "cohere":
        run.components.api().check()
        return
    # Its SDK is an extra.
    from tercet.modeling.encoders.cohere import key_variable

    if not key_variable():
        name = run.recipe.model.name
        raise InputError(f"{name} embeds every query: set CO_API_KEY in the environment")
