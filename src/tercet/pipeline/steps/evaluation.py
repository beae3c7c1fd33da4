"""The model that ships, test queries -> metric values, before and after, over the whole corpus."""

from __future__ import annotations

from collections.abc import Mapping

from tercet import modeling, retrieval
from tercet.core.artifacts import Writer
from tercet.core.mapped import Vectors, map_scratch, new_scratch
from tercet.core.schema import Encoder, Index
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Step
from tercet.pipeline.steps.model import Model
from tercet.pipeline.steps.triplets import SPLITS

#: Metric -> test query id -> value.
Values = Mapping[str, Mapping[str, float]]


class Evaluation(Step):
    """Measure the student and the adapted model on the test queries; publish the latter's index.

    `model` is the step before: if it has just run, its index holds the model's passages already.
    """

    name = "evaluation"
    needs = Needs(
        artifacts=("corpus", "embeddings", "student", "triplets", "model"),
        keys=("metrics", "index.settings", "index.alias", "corpus.test_split"),
        unrecorded_keys=(
            # How the model is read: the student's artifact records it.
            *("model.pooling", "model.query_prompt", "model.passage_prompt", "model.max_length"),
            *("model.query_max_length", "model.precision"),
            *("model.name", "model.api", "model.dollars", "model.frozen"),
            *("name", "folder", "alias", "index"),
            *("corpus.source", "corpus.path", "corpus.passages.id"),
        ),
    )

    def __init__(self, model: Model) -> None:
        self._model = model

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """Write every test query's metric values, zero-shot and adapted."""
        values = {"zero-shot": _measured(inputs, inputs.starting_model, inputs.vectors)}
        adapted = inputs.components.adapted(inputs["model"].path)
        if self._model.index:
            values["adapted"] = _search(inputs, adapted, self._model.index)
            _serve(inputs, adapted, self._model.index)
        else:
            values["adapted"] = _publish(inputs, adapted)
        retrieval.write_figures(writer, values)
        writer.facts |= {name: inputs.split(name)[2] for name in SPLITS}

    def after(self, inputs: Inputs) -> None:
        """A server that lost the model's passages, or never had them, gets them again."""
        index = inputs.components.make_index()
        published = retrieval.is_published(index, inputs.recipe.alias)
        index.discard()
        if not published:
            _publish(inputs, inputs.components.adapted(inputs["model"].path))


def _publish(inputs: Inputs, adapted: modeling.SimilarityEncoder) -> Values:
    """Fill an index with the adapted model's passages, measure it, give it the alias."""
    if inputs.recipe.model.frozen:
        return _measured(inputs, adapted, inputs.vectors, publish=True)
    shape = len(inputs.passages), adapted.dimension
    path = new_scratch(inputs.recipe.folder, *shape)
    vectors = map_scratch(path, *shape)
    path.unlink()
    modeling.encode_blocks(adapted, inputs.passages.ids, inputs.passages.contents, vectors)
    return _measured(inputs, adapted, vectors, publish=True)


def _measured(
    inputs: Inputs,
    encoder: modeling.SimilarityEncoder,
    vectors: Vectors,
    *,
    publish: bool = False,
) -> Values:
    """Search all passages in a fresh index, which is discarded or, to `publish` it, gets the alias.

    Returns metric -> test query id -> value.
    """
    index = inputs.new_index()
    try:
        index.build(inputs.passages.ids, vectors)
        values = _search(inputs, encoder, index)
    except BaseException:
        index.discard()
        raise
    if publish:
        _serve(inputs, encoder, index)
    else:
        index.discard()
    return values


def _serve(inputs: Inputs, adapted: modeling.SimilarityEncoder, index: Index) -> None:
    """Give an index of the adapted model's passages the alias; what it replaces stays a while."""
    folder = inputs["model"].path
    retrieval.publish(index, inputs.recipe.alias, lambda: inputs.components.stamp(adapted, folder))


def _search(inputs: Inputs, encoder: Encoder, index: Index) -> Values:
    queries, qrels, _ = inputs.split("test")
    return retrieval.search_and_measure(encoder, index, queries, qrels, inputs.recipe.metrics)
