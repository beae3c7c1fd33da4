"""Queries -> candidates: passages that a retriever ranks high and that are not the source."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tercet import data, modeling, retrieval
from tercet.config.recipe import RetrieverSettings
from tercet.core.artifacts import MANIFEST, Writer
from tercet.core.files import slug
from tercet.core.schema import Retriever
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Run, Step
from tercet.pipeline.trials import try_retrievers


class Negatives(Step):
    """Rank the passages for every query with each retriever, and deal candidates by share."""

    name = "negatives"
    needs = Needs(
        artifacts=("corpus/passages", "embeddings", "student", "queries"),
        models=("retrievers",),
        keys=("negatives",),
        # Of an index on a server: its name, its owner, and how ids are kept there.
        unrecorded_keys=("name", "folder", "corpus"),
    )
    revision = 2

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """Digests of the vectors by other retrievers' models, made first where they are missing."""
        others = [r for r in inputs.recipe.negatives.retrievers if r.model]
        return {each.model: inputs.make(OtherEmbeddings(each)).digest for each in others}

    def check(self, run: Run) -> None:
        """Encode two passages with every retriever's own model."""
        if not (run.recipe.folder / self.name / MANIFEST).exists():
            try_retrievers(run.components)

    def all_processes(self, inputs: Inputs) -> bool:
        """An index in memory or on a server belongs to the first process."""
        return inputs.recipe.negatives.index.backend == "exact"

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.mine_candidates`."""
        section, passages = inputs.recipe.negatives, inputs.passages
        with ExitStack() as indexes:
            data.mine_candidates(
                writer,
                inputs.rows("queries/queries"),
                passages.duplicates,
                [(self._retriever(r, inputs, indexes), r.share) for r in section.retrievers],
                candidates=section.candidates,
                max_positive_ratio=section.max_positive_ratio,
                shard_queries=section.shard_queries,
                rows=passages.rows if section.index.collection else None,
            )

    def _retriever(
        self, settings: RetrieverSettings, inputs: Inputs, indexes: ExitStack
    ) -> Retriever:
        """A retriever over all passages; `indexes` discards its index at the end."""
        passages = inputs.passages
        if settings.kind != "dense":
            return inputs.components.text_retriever(settings, passages)
        encoder, vectors, name = inputs.starting_model, inputs.vectors, "student"
        if settings.model:
            encoder = inputs.components.other_encoder(settings)
            embedded = inputs.make(OtherEmbeddings(settings))
            vectors, name = data.read_vectors(embedded, passages), Path(settings.model).name
        index = inputs.components.index_of(inputs.recipe.negatives.index)
        indexes.callback(index.discard)
        index.build(passages.ids, vectors)
        return retrieval.DenseRetriever(encoder, index, name=name)


class OtherEmbeddings(Step):
    """The passages' vectors by a retriever's or a scorer's model, an artifact of their own."""

    revision = 3

    def __init__(self, settings: RetrieverSettings) -> None:
        model = settings.model or ""
        self.name, self._settings = f"embeddings_{slug(model)}", settings
        self.needs = Needs(
            artifacts=("corpus/passages",),
            sources=(f"retriever {model}",),
            unrecorded_keys=("negatives.index.backend",),
        )

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """The number format, once it is chosen, and the pooling, if it is given."""
        precision, pooling = self._settings.precision, self._settings.pooling
        found = {} if precision == "auto" else {"precision": precision}
        return found | ({"pooling": pooling} if pooling else {})

    def precisions(self, inputs: Inputs) -> dict[str, modeling.Precision]:
        """The retriever's own."""
        return {"precision of a negatives.retrievers": self._settings.precision}

    def all_processes(self, inputs: Inputs) -> bool:
        """As the mining that it is made within."""
        return inputs.recipe.negatives.index.backend == "exact"

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """As `data.embed_passages`."""
        encoder = inputs.components.other_encoder(self._settings)
        data.embed_passages(writer, encoder, inputs.passages)
