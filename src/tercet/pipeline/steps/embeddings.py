"""Passages -> their vectors: encoded by the base model, or given and frozen."""

from __future__ import annotations

from tercet import data
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Writer
from tercet.pipeline.given_vectors import write_given
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Run, Step


def embeddings_step(recipe: Recipe) -> Step:
    """The step that a recipe's `model.passage_vectors` asks for."""
    return GivenEmbeddings() if recipe.model.given else EncodedEmbeddings()


class EncodedEmbeddings(Step):
    """Encode every passage with the base model: for mining, the anchor and the first evaluation."""

    name = "embeddings"
    needs = Needs(artifacts=("corpus/passages",), models=("base",))
    revision = 3

    def computes(self, inputs: Inputs) -> bool:
        """Not where an API encodes."""
        return not inputs.recipe.model.api

    def check(self, run: Run) -> None:
        """Load the model that encodes."""
        run.components.base_model()

    def all_processes(self, inputs: Inputs) -> bool:
        """Shards are encoded by every process."""
        return True

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.embed_passages`."""
        data.embed_passages(writer, inputs.components.base_model(), inputs.passages)


class GivenEmbeddings(Step):
    """Keep the vectors that another model made: of a column, a file or a live index.

    They get unit length where they compare by cosine, but for those of an index that compares by
    dot product, which stay as the index has them.
    """

    name = "embeddings"
    needs = Needs(
        artifacts=("corpus/passages",),
        sources=("passage_vectors", "live_metric"),
        keys=("model.similarity",),
        unrecorded_keys=("model.passage_vectors", "corpus", "index", "folder"),
    )
    revision = 3

    def computes(self, inputs: Inputs) -> bool:
        """Nothing is: the vectors are given."""
        return False

    def check(self, run: Run) -> None:
        """Read the first block, which shows a missing column."""
        next(run.components.passage_vectors.blocks(), None)
        run.components.check_live_metric(run.recipe.model.similarity)

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `given_vectors.write_given`."""
        components, metric = inputs.components, inputs.components.live_metric
        similarity = inputs.recipe.model.similarity
        write_given(
            writer,
            components.passage_vectors,
            inputs.passages,
            similarity or ("cosine" if metric == "cosine" else None),
            inputs.recipe.folder,
            as_they_are=metric == "dot",
        )
