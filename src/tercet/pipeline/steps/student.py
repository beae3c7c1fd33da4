"""What learns where the passages' vectors stay as they are: the queries' side alone.

Vectors that another model made, closed or retired perhaps, are read once; a local model is
regressed into their space; an adapter maps the queries of the model that made them, an API's too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tercet import data, modeling, retrieval
from tercet.config.index import UUIDS
from tercet.core.artifacts import MANIFEST, Artifact, Stage, Writer, produce
from tercet.core.console import console
from tercet.core.files import digest
from tercet.core.processes import process
from tercet.core.schema import InputError
from tercet.pipeline.given_vectors import (
    PrecomputedVectors,
    given_vectors,
    mean_cosine_to,
    write_given,
)

if TYPE_CHECKING:
    from tercet.pipeline.pipeline import Pipeline
    from tercet.retrieval.weaviate.live import LiveCollection

#: A model's vectors of passages, beside those that it is said to have made: mean cosine.
SAME_MODEL = 0.98
#: Passages that tell, and that tell enough where each is paid for.
FEW, FEW_PAID = 64, 4


class QuerySide:
    """The stages and parts of a pipeline whose `model.train` is not both."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.parts, self.recipe = pipeline, pipeline.parts, pipeline.recipe

    def check(self) -> None:
        """Meet the vectors, and what learns beside them. Raises InputError."""
        section = self.recipe.model
        if section.given:
            next(self._given.blocks(), None)  # a missing column is refused now
        if section.api:
            self._check_key()
        elif section.given:
            self.parts.student()
        if self.recipe.index.collection and self._metric == "cosine":
            similarity = section.similarity if section.given else self.pipeline.student.similarity
            if similarity == "dot":
                raise InputError(
                    f"index.collection {self.recipe.index.collection} compares by cosine, and the "
                    "model by dot: set model.similarity cosine, or leave it out"
                )

    def meet(self) -> None:
        """Have the vectors, and be sure of what is beneath an adapter, before any work."""
        if self.recipe.model.given:
            _ = self.pipeline.embeddings
            if self.recipe.model.adapter:
                _ = self.pipeline.student

    def _check_key(self) -> None:
        """Refuse a service without its key now, and not after the queries are written."""
        from tercet.modeling.encoders.cohere import key_variable

        folder = self.recipe.folder
        paid_for = any((folder / stage / MANIFEST).exists() for stage in ("targets", "model"))
        if not paid_for and not key_variable():
            name = self.recipe.model.name
            raise InputError(f"{name} embeds every query: set CO_API_KEY in the environment")
        if self.recipe.model.dollars is not None and process()[1] > 1:
            raise InputError("model.dollars is one process's budget: run train.py as one")

    # ── the passages' vectors ────────────────────────────────────────────────────────────────

    @cached_property
    def _given(self) -> PrecomputedVectors:
        return given_vectors(self.parts)

    def embeddings_stage(self, passages: dict[str, str]) -> Stage:
        """The vectors that are given, kept as the model's own would be."""
        settings = {"similarity": self._asked_similarity, "metric": self._metric}
        inputs = passages | {"vectors": modeling.from_first_process(self._given.identity)}
        return self.pipeline.stage("embeddings", settings, inputs, revision=3)

    def write_vectors(self, writer: Writer) -> None:
        """Read them; of unit length where they compare by cosine, but as a live index has them."""
        write_given(
            writer,
            self._given,
            self.pipeline.passages,
            self._asked_similarity,
            self.recipe.folder,
            as_they_are=self._metric == "dot",
        )

    @cached_property
    def _live(self) -> LiveCollection | None:
        """What a live collection is, its connection closed; None where the index is another."""
        if not self.recipe.index.collection:
            return None
        index = retrieval.open_live(self.parts.live(self.recipe.index))
        index.discard()
        return index

    @property
    def _metric(self) -> str | None:
        """How a live collection compares; None where the index is another."""
        return self._live.metric if self._live else None

    @property
    def _asked_similarity(self) -> str | None:
        """How the vectors compare, as far as the recipe or a live collection says."""
        if self.recipe.model.similarity or self._metric != "cosine":
            return self.recipe.model.similarity
        return "cosine"

    @property
    def similarity(self) -> Any:
        """How the vectors compare: "cosine" or "dot"."""
        return self.pipeline.embeddings.facts.get("similarity") or self.recipe.model.similarity

    @cached_property
    def index(self) -> retrieval.SharedIndex:
        """The one index of the vectors, filled when it is first searched."""
        return retrieval.SharedIndex(self.parts.make_index())

    # ── what learns ──────────────────────────────────────────────────────────────────────────

    @property
    def digest(self) -> str:
        """Identity of the model as it starts where the vectors are another's."""
        section, pipeline = self.recipe.model, self.pipeline
        model = pipeline.model_digest if section.adapter else self.start.digest
        return digest([model, pipeline.embeddings.digest])

    def fresh(self) -> modeling.SimilarityEncoder:
        """The model as it starts: an adapter's is the one beneath it."""
        section = self.recipe.model
        if not section.given:
            return self.parts.api() if section.api else self.parts.student()
        if not section.adapter:
            return self.parts.student(self.start.path)
        encoder: modeling.SimilarityEncoder = (
            self.parts.api(self.pipeline.embeddings.facts["dimension"])
            if section.api
            else self.parts.student(similarity=self.similarity)
        )
        likeness = modeling.from_first_process(lambda: self._likeness(encoder))
        if likeness < SAME_MODEL:
            raise InputError(
                f"{encoder.name} did not make the vectors of {self._given.place} (mean cosine "
                f"{likeness:.2f} with its own): an adapter maps queries of the model that did; for "
                "another model there is model.train query_encoder"
            )
        return encoder

    def _likeness(self, encoder: modeling.SimilarityEncoder) -> float:
        """How like a model's vectors of a few passages are to those that are given: 1 is equal."""
        passages, vectors = self.pipeline.passages, self.pipeline.vectors
        space = getattr(encoder, "space", None)
        if space:  # it encodes no passages, and knows where they are

            def vectors_of(ids: Sequence[str]) -> np.ndarray:
                rows = passages.rows(ids)
                missing = next((id for id in ids if id not in rows), None)
                if missing is not None:
                    raise InputError(f"there is no passage {missing!r}")
                return vectors[np.array([rows[id] for id in ids])]

            space.check(self._given.place, str(self.similarity), vectors_of)
            return 1.0
        few = FEW_PAID if self.recipe.model.api else FEW
        return mean_cosine_to(encoder, passages, vectors, few)

    @cached_property
    def start(self) -> Artifact:
        """A local model as a query encoder of vectors that another one made."""
        passages = self.recipe.model.regression_passages
        settings = {"passages": passages, "seed": self.recipe.seed}
        inputs = {
            "model": self.pipeline.model_digest,
            "embeddings": self.pipeline.embeddings.digest,
            "passages": self.pipeline.passages_digest,
        }
        stage = self.pipeline.stage("regression", settings, inputs, revision=3)
        return produce(stage, self._regress)

    def _regress(self, writer: Writer) -> None:
        encoder, pipeline = self.parts.student(), self.pipeline
        likeness = self._likeness(encoder)
        writer.facts["likeness_before"] = likeness
        if likeness < SAME_MODEL:
            writer.facts |= modeling.regress(
                encoder,
                pipeline.passages.contents,
                pipeline.vectors,
                similarity=self.similarity,
                passages=self.recipe.model.regression_passages,
                seed=self.recipe.seed,
            )
        else:
            encoder = self.parts.student(similarity=self.similarity)
            console.print("      the model made these vectors: it needs no way into their space")
        encoder.save_pretrained(writer.folder)

    def student(self) -> modeling.BiEncoder | modeling.AdaptedEncoder:
        """What the trainer trains, from the start."""
        section = self.recipe.model
        student: modeling.BiEncoder | modeling.AdaptedEncoder
        if section.adapter:
            student = modeling.AdaptedEncoder.fresh(
                self.pipeline.student, section.adapter_rank, seed=self.recipe.seed, api=section.api
            )
        else:
            encoder = self.fresh()
            assert isinstance(encoder, modeling.BiEncoder)
            student = encoder
        student.space = self.space
        return student

    def collator(
        self, student: modeling.BiEncoder | modeling.AdaptedEncoder, train: data.Triplets
    ) -> modeling.TripletCollator:
        """Queries that are read, or known to an adapter; passages by their vectors."""
        passages = self.pipeline.passages
        rows = passages.rows(train.passage_ids())
        # Passages of one text are one passage: the first of them.
        same = {id: min(ids) for id, ids in passages.duplicates.items()}
        first = passages.rows({same.get(id, id) for id in rows})
        number = {id: first[same.get(id, id)] for id in rows}
        if isinstance(student, modeling.AdaptedEncoder):
            queries: modeling.BatchSide = modeling.Known(student.remember(train.queries))
        else:
            queries = modeling.TokenizedTexts(student, train.queries, "query")
        return modeling.TripletCollator(queries, modeling.Known(self.pipeline.vectors), number)

    @cached_property
    def space(self) -> modeling.VectorSpace:
        """What the model that ships belongs to."""
        section, recipe, pipeline = self.recipe.model, self.recipe, self.pipeline
        place = pipeline.embeddings.facts.get("place") or (
            f"{Path(recipe.corpus.label).name} by {Path(section.name).name}"
        )
        named: dict[str, str | None] = {}
        if index := self._live:
            place = f"Weaviate collection {index.name}, vector {index.vector}"
            named = {"collection": index.name, "vector": index.vector}
            named["id"] = index.id_property or UUIDS
        similarity = self.similarity if section.given else pipeline.student.similarity
        ids, vectors = pipeline.passages.ids, pipeline.vectors
        return modeling.VectorSpace.of(ids, vectors, similarity, place, **named)
