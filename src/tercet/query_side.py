"""What learns where the passages' vectors stay as they are: the queries' side alone.

Vectors that another model made, closed or retired perhaps, are read once; a local model is
regressed into their space; an adapter maps the queries of the model that made them, an API's too.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet import data, modeling, retrieval
from tercet.artifacts import MANIFEST, Artifact, Stage, Writer, is_main_process, produce
from tercet.console import console
from tercet.files import digest
from tercet.given_vectors import Given, belongs, given_vectors, write_given
from tercet.mapped import Vectors
from tercet.markdown import shown
from tercet.schema import InputError

if TYPE_CHECKING:
    from tercet.pipeline import Pipeline

#: A model's vectors of passages, beside those that it is said to have made: mean cosine.
SAME_MODEL = 0.98


class QuerySide:
    """The stages and parts of a pipeline whose `model.side` is query."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.parts, self.recipe = pipeline, pipeline.parts, pipeline.recipe

    def check(self) -> None:
        """Meet the vectors, and what learns beside them. Raises InputError."""
        section = self.recipe.model
        if section.given:
            _ = self._given
        if section.api:
            self._check_key()
        elif section.given:
            self.parts.student()

    def _check_key(self) -> None:
        """Refuse a service without its key now, and not after the queries are written."""
        folder = self.recipe.folder
        paid_for = any((folder / stage / MANIFEST).exists() for stage in ("targets", "model"))
        if not paid_for and not self.parts.api().has_key:
            name = self.recipe.model.name
            raise InputError(f"{name} embeds every query: set CO_API_KEY in the environment")

    # ── the passages' vectors ────────────────────────────────────────────────────────────────

    @cached_property
    def _given(self) -> Given:
        return given_vectors(self.parts)

    def embeddings_stage(self, passages: dict[str, str]) -> Stage:
        """The vectors that are given, kept as the model's own would be."""
        settings = {"similarity": self._asked_similarity}
        inputs = passages | {"vectors": modeling.from_first_process(self._given.identity)}
        return self.pipeline.stage("embeddings", settings, inputs, revision=3)

    def write_vectors(self, writer: Writer) -> None:
        """Read them, and refuse an adapter of a model that did not make them."""
        passages = self.pipeline.passages
        scratch, asked = self.recipe.folder, self._asked_similarity
        write_given(writer, self._given, passages, asked, scratch)

    @cached_property
    def _asked_similarity(self) -> str | None:
        """How the vectors compare, as far as the recipe or a live collection says."""
        if self.recipe.model.similarity or not self.recipe.index.collection:
            return self.recipe.model.similarity
        index = retrieval.open_live(self.parts.live(self.recipe.index))
        index.discard()
        return "cosine" if index.metric == "cosine" else None

    @property
    def similarity(self) -> Any:
        """How the vectors compare: "cosine" or "dot"."""
        return self.pipeline.embeddings.facts.get("similarity") or self.recipe.model.similarity

    @cached_property
    def index(self) -> retrieval.Standing:
        """The one index of the vectors, filled when it is first searched."""
        return retrieval.Standing(self.parts.make_index())

    # ── what learns ──────────────────────────────────────────────────────────────────────────

    @property
    def digest(self) -> str:
        """Identity of the model as it starts where the vectors are another's."""
        if not self.recipe.model.adapter:
            return self.start.digest
        return digest([self.pipeline.model_digest, self.similarity])

    def fresh(self) -> modeling.Comparing:
        """The model as it starts: an adapter's is the one beneath it."""
        section = self.recipe.model
        if section.api:
            dimension = self.pipeline.embeddings.facts["dimension"] if section.given else None
            return self.parts.api(dimension)
        if not section.given:
            return self.parts.student()
        if not section.adapter:
            return self.parts.student(self.start.path)
        encoder = self.parts.student(similarity=self.similarity)
        self._refuse_stranger(encoder, self.pipeline.vectors)
        return encoder

    def _refuse_stranger(self, encoder: modeling.BiEncoder, vectors: Vectors) -> None:
        likeness = belongs(encoder, self.pipeline.passages, vectors)
        if likeness < SAME_MODEL:
            raise InputError(
                f"{encoder.name} did not make the vectors of {self._given.place} (mean cosine "
                f"{likeness:.2f} with its own): an adapter maps queries of the model that did; for "
                "another model there is model.student encoder"
            )

    @cached_property
    def start(self) -> Artifact:
        """A local model as a query encoder of vectors that another one made."""
        settings = asdict(self.recipe.model.regression) | {"seed": self.recipe.seed}
        inputs = {
            "model": self.pipeline.model_digest,
            "embeddings": self.pipeline.embeddings.digest,
        }
        stage = self.pipeline.stage("regression", settings, inputs)
        return produce(stage, lambda writer: self._regress(writer, stage), together=True)

    def _regress(self, writer: Writer, stage: Stage) -> None:
        encoder, pipeline = self.parts.student(), self.pipeline
        likeness = belongs(encoder, pipeline.passages, pipeline.vectors)
        facts: dict[str, Any] = {"likeness_before": likeness}
        if likeness < SAME_MODEL:
            facts |= modeling.regress(
                encoder,
                pipeline.passages.contents,
                pipeline.vectors,
                similarity=self.similarity,
                settings=self.recipe.model.regression,
                folder=self.recipe.folder / "regression-training",
                seed=self.recipe.seed,
                plan=stage.plan,
            ).facts
        elif is_main_process():
            console.print("      the model made these vectors: it needs no way into their space")
        if is_main_process():
            encoder.save_pretrained(writer.folder)
            writer.facts |= facts

    def student(self) -> modeling.BiEncoder | modeling.AdaptedEncoder:
        """What the trainer trains, from the start."""
        section, encoder = self.recipe.model, self.fresh()
        if section.adapter:
            return modeling.AdaptedEncoder.fresh(
                encoder, section.adapter_rank, seed=self.recipe.seed, api=section.api
            )
        assert isinstance(encoder, modeling.BiEncoder)
        return encoder

    def collator(
        self, student: modeling.BiEncoder | modeling.AdaptedEncoder, train: data.Triplets
    ) -> modeling.TripletCollator:
        """Queries that are read, or known to an adapter; passages by their vectors."""
        passages = self.pipeline.passages
        rows = passages.rows(train.passage_ids())
        # Passages of one text are one passage: the first of them.
        same = {id: min(ids) for id, ids in passages.twins.items()}
        first = passages.rows({same.get(id, id) for id in rows})
        number = {id: first[same.get(id, id)] for id in rows}
        if isinstance(student, modeling.AdaptedEncoder):
            if is_main_process():  # who evaluates
                for split in self.pipeline.SPLITS:
                    student.remember([q.text for q in self.pipeline.measured(split)[0]])
            queries: modeling.Side = modeling.Known(student.remember(train.queries))
        else:
            queries = modeling.Texts(student, train.queries, "query")
        return modeling.TripletCollator(queries, modeling.Known(self.pipeline.vectors), number)

    @property
    def space(self) -> modeling.Space:
        """What the model that ships belongs to."""
        section, facts = self.parts.live(self.recipe.index), self.pipeline.embeddings.facts
        corpus, model = self.recipe.corpus, self.recipe.model
        place = facts.get("place") or f"{corpus.label} by {model.name}"
        for path in (corpus.label, model.name, model.vectors):  # the model is to be shared
            place = place.replace(path, shown(path)) if path else place
        if section.collection:
            named = f", vector {section.vector}" if section.vector else ""
            place = f"Weaviate collection {section.collection}{named}"
        pipeline = self.pipeline
        return modeling.Space.of(
            pipeline.passages.ids,
            pipeline.vectors,
            pipeline.student.similarity,
            place,
            collection=section.collection,
            vector=section.vector,
            id=section.id,
        )

    def save(self, student: modeling.BiEncoder | modeling.AdaptedEncoder, folder: Path) -> None:
        """Write the model that ships, and the vectors that it belongs to."""
        student.space = self.space
        student.save_pretrained(folder)
