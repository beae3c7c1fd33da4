"""A recipe's parts: its source, models, retrievers and index, each loaded when first asked for."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet import data, modeling, retrieval
from tercet.config.evaluation import SystemSettings
from tercet.config.index import UUIDS, IndexSettings
from tercet.config.recipe import GeneratorSettings, Recipe, RetrieverSettings, TeacherSection
from tercet.core.files import digest, read_json
from tercet.core.schema import Generator, Index, InputError, Retriever
from tercet.data import Passages
from tercet.data.sources import Source, open_source
from tercet.modeling.cross_encoder import weight_files
from tercet.modeling.hub import SAFETENSORS, resolve

if TYPE_CHECKING:
    from tercet.modeling.encoders.cohere import CohereEncoder


def check_installed(*extras: str) -> None:
    """Raises InputError for the first of these packages, each an extra's only one, that lacks."""
    for extra in extras:
        found = importlib.util.find_spec(extra)
        if found is None or found.origin is None:  # a folder of that name is no package
            raise InputError(f"{extra} is not installed: pip install 'tercet[{extra}]'")


class Components:
    """What the stages of one recipe are made of."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._identities: dict[str, str] = {}
        self._apis: dict[int | None, CohereEncoder] = {}
        self._language_models: dict[tuple[str | None, ...], modeling.CausalGenerator] = {}

    def check(self) -> None:
        """Meet every source, model and server before any work. Raises InputError."""
        for name in self.models:
            modeling.check_doc2query(name)
        _ = self.source, [self.identity(name) for name in self.models]
        modeling.training_arguments(self.recipe)
        needed = {
            "peft": self.recipe.model.lora_rank is not None,
            "gguf": any(g.gguf_file for g in self.recipe.queries.generators),
        }
        asked = [extra for extra, needs in needed.items() if needs]
        check_installed(*self.recipe.tracking.report_to, *asked)
        self.make_index().discard()

    @cached_property
    def source(self) -> Source:
        """Where the corpus is read from."""
        return open_source(self.recipe.corpus)

    @property
    def models(self) -> dict[str, tuple[str | None, tuple[str, ...]]]:
        """Revision and weight files of every model by its name in the recipe."""
        recipe, teacher = self.recipe, self.recipe.teacher
        models: dict[str, tuple[str | None, tuple[str, ...]]] = {
            g.model: (None, (g.gguf_file,) if g.gguf_file else SAFETENSORS)
            for g in recipe.queries.generators
            if g.model
        }
        models |= {r.model: (None, SAFETENSORS) for r in recipe.negatives.retrievers if r.model}
        models[teacher.name] = (teacher.revision, weight_files(teacher.name, teacher.backend))
        if not recipe.model.api:
            models[recipe.model.name] = (recipe.model.revision, SAFETENSORS)
        return models

    def identity(self, name: str) -> str:
        """Digest or Hub commit of a model of the recipe, and what else decides what it writes."""
        if self.recipe.model.api and name == self.recipe.model.name:
            return f"{self.recipe.model.api} {name}"
        if name not in self._identities:
            engines = [
                modeling.describe_engine()
                for g in self.recipe.queries.generators
                if g.kind == "seq2seq"
                and g.model == name
                and modeling.seq2seq_engine(g.engine) == "ctranslate2"
            ]
            model = resolve(name, *self.models[name]).identity
            self._identities[name] = " ".join([model, *engines[:1]])
        return self._identities[name]

    def folder(self, name: str) -> Path:
        """Where a model of the recipe lies, downloaded if need be."""
        return resolve(name, *self.models[name]).path

    def student(self, path: Path | None = None, similarity: Any = None) -> modeling.BiEncoder:
        """The model as it came, or as it was adapted in `path`."""
        section = self.recipe.model
        return modeling.BiEncoder.from_pretrained(
            path or section.name,
            revision=None if path else section.revision,
            pooling=section.pooling,
            # That of given vectors is not the base's own.
            similarity=similarity or (None if path or section.given else section.similarity),
            query_prompt=section.query_prompt,
            passage_prompt=section.passage_prompt,
            max_length=section.max_length,
            query_max_length=section.query_max_length,
            precision=section.precision,
        )

    def adapted(self, path: Path) -> modeling.BiEncoder | modeling.AdaptedEncoder:
        """The model that ships, in `path`."""
        if not self.recipe.model.api:
            return self.student(path)
        dimension = read_json(path / modeling.ADAPTER_CONFIG)["dimension"]
        return modeling.AdaptedEncoder.from_pretrained(path, encoder=self.api(dimension))

    def api(self, dimension: int | None = None) -> CohereEncoder:
        """The recipe's model behind an API, with vectors of this length or its usual one.

        It is one object, so that one budget holds.
        """
        if dimension not in self._apis:
            # Its SDK is an extra.
            from tercet.modeling.encoders.cohere import CohereEncoder

            section = self.recipe.model
            self._apis[dimension] = CohereEncoder(
                section.name, output_dimension=dimension, dollars=section.dollars
            )
        return self._apis[dimension]

    def teacher(self, section: TeacherSection | None = None) -> modeling.CrossEncoderTeacher:
        """The recipe's cross-encoder, or another one."""
        section = section or self.recipe.teacher
        return modeling.CrossEncoderTeacher.from_pretrained(
            section.name,
            revision=section.revision,
            backend=section.backend,
            max_length=section.max_length,
            precision=section.precision,
        )

    def generator(self, settings: GeneratorSettings, passages: Passages) -> Generator:
        """A way to write queries about `passages`."""
        if settings.kind == "spans":
            return data.SpanGenerator(passages.contents)
        longest = settings.max_new_tokens or {"seq2seq": 64, "causal": 32}[settings.kind]
        given: dict[str, Any] = {
            "passage_tokens": settings.passage_tokens,
            "batch_size": settings.batch_size,
            "sampling": modeling.Sampling(
                top_k=settings.top_k,
                top_p=settings.top_p,
                temperature=settings.temperature or {"causal": 0.7}.get(settings.kind, 1.0),
                max_new_tokens=longest,
            ),
        }
        given = {name: value for name, value in given.items() if value is not None}
        if settings.kind == "causal":
            return self._causal(settings, given)
        if modeling.seq2seq_engine(settings.engine) == "ctranslate2":
            return modeling.CT2Generator.from_pretrained(settings.model, **given)
        return modeling.Seq2SeqGenerator.from_pretrained(settings.model, **given)

    def _causal(self, settings: GeneratorSettings, given: dict[str, Any]) -> Generator:
        """One loaded model for all generators that differ in what it is shown."""
        loaded = (settings.model, settings.gguf_file, *(str(value) for value in given.values()))
        if loaded not in self._language_models:
            self._language_models[loaded] = modeling.CausalGenerator.from_pretrained(
                settings.model, gguf_file=settings.gguf_file, **given
            )
        style = modeling.STYLES.get(settings.style or "", modeling.DEFAULT_STYLE)
        examples = settings.examples
        return self._language_models[loaded].shown(
            settings.prompt or style.prompt,
            style.examples if examples is None else [(text, query) for text, query in examples],
            style=settings.style or "",
        )

    def bm25(self, settings: RetrieverSettings | SystemSettings, passages: Passages) -> Retriever:
        """BM25 over `passages`."""
        return retrieval.BM25Retriever(
            passages,
            k1=settings.k1,
            b=settings.b,
            language=settings.language,
            ids=passages.ids,
        )

    def make_index(self) -> Index:
        """A fresh index of the recipe's kind."""
        return self.index_of(self.recipe.index)

    def index_of(self, settings: IndexSettings) -> Index:
        """A fresh index of any kind, marked as this run's where it stands on a server."""
        name = f"Tercet_{self.recipe.name}"
        return retrieval.make_index(self.live(settings), name, owner=self._owner)

    def live(self, settings: IndexSettings) -> IndexSettings:
        """The settings, with the ids of a collection that is the corpus too as they are there."""
        corpus = self.recipe.corpus
        if corpus.source == "weaviate" and settings.collection == corpus.path and not settings.id:
            return replace(settings, id=corpus.passages.id or UUIDS)
        return settings

    @property
    def _owner(self) -> str:
        """This run's folder, of all folders of all machines that share a server."""
        return f"Tercet run {digest([platform.node(), str(self.recipe.folder.resolve())])[:16]}"
