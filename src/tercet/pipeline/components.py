"""Loads the components of a recipe: source, models, retrievers, indexes."""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet import data, modeling, retrieval
from tercet.config.evaluation import SystemSettings
from tercet.config.index import UUIDS, IndexSettings
from tercet.config.plugins import every_plugin
from tercet.config.recipe import GeneratorSettings, Recipe, RetrieverSettings
from tercet.config.teacher import RerankerSettings, ScorerSettings
from tercet.core import plugins
from tercet.core.environment import recorded
from tercet.core.extras import check_installed
from tercet.core.files import digest, read_json, weights_digest
from tercet.core.plugins import is_plugin
from tercet.core.schema import (
    Generator,
    Index,
    InputError,
    ModelStamp,
    Retriever,
    Source,
    Teacher,
)
from tercet.data import Passages
from tercet.data.sources import open_source
from tercet.modeling.cross_encoder import weight_files
from tercet.modeling.hub import local_folder, resolve
from tercet.modeling.model_files import SAFETENSORS
from tercet.pipeline.given_vectors import PrecomputedVectors, given_vectors

if TYPE_CHECKING:
    from tercet.core.artifacts import Artifact
    from tercet.core.mapped import Vectors
    from tercet.retrieval.weaviate.live import LiveCollection


#: New tokens of a query, by the kind of its generator.
LONGEST = {"seq2seq": 64, "causal": 32}
#: The file of a student artifact that names a model instead of holding one.
STUDENT = "student.json"


class Components:
    """The components of one recipe, each loaded when first used."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe: Any = recipe
        #: What each T5's queries are written with, where the run has begun to: `engine_of`.
        self.engines: Mapping[str, str] = {}
        self._identities: dict[str, str] = {}
        self._apis: dict[tuple[int | None, str | None], modeling.ApiEncoder] = {}
        self._completions: dict[str, modeling.Completions] = {}
        self._base: list[modeling.SimilarityEncoder] = []
        self._language_models: dict[tuple[str | None, ...], modeling.CausalGenerator] = {}

    def reading(self, recipe: Any) -> Components:
        """The same components with loaded models shared, reading a view of the recipe."""
        other = copy.copy(self)
        other.recipe = recipe
        return other

    def settled(self, recipe: Recipe) -> Components:
        """The same components with a recipe of other number formats: models are loaded again."""
        other = self.reading(recipe)
        other._base, other._language_models = [], {}
        return other

    def check(self) -> None:
        """Find every plug-in, source, model and server before any work. Raises InputError."""
        self.check_plugins()
        for name in self.models:
            modeling.check_doc2query(name)
        _ = self.source, [self.identity(name) for name in self.models]
        modeling.training_arguments(self.recipe)
        for each in self.recipe.queries.generators:
            self._check_reading(each)
        needed = {
            "peft": self.recipe.model.lora_rank is not None,
            "gguf": any(g.gguf_file for g in self.recipe.queries.generators),
        }
        asked = [extra for extra, needs in needed.items() if needs]
        check_installed(*self.recipe.tracking.report_to, *asked)
        self.make_index().discard()

    def check_indexes(self) -> None:
        """Make the recipe's indexes, empty, as a run fills them later. Raises InputError."""
        recipe = self.recipe
        known = not (recipe.model.given or recipe.model.api)
        dimension = self.base_model().dimension if known else 0
        for path in ("index", "negatives.index"):
            settings = recipe.index if path == "index" else recipe.negatives.index
            try:
                retrieval.try_out(self.index_of(settings), dimension)
            except InputError as error:
                said = str(error)
                own = said.startswith(("index:", "index."))
                raise InputError(f"{path}{said[5:]}" if own else f"{path}: {said}") from error

    def check_plugins(self) -> None:
        """Load every plug-in, and see that it takes its options. Raises InputError."""
        for each in every_plugin(self.recipe):
            try:
                plugins.check(each.group, each.name, each.options, *each.parts)
            except InputError as error:
                raise InputError(f"{each.path}.{each.field}: {error}") from error

    @cached_property
    def source(self) -> Source:
        """The source of the corpus."""
        return open_source(self.recipe.corpus)

    @cached_property
    def passage_vectors(self) -> PrecomputedVectors:
        """The vectors that `model.passage_vectors` names. Raises InputError if there are none."""
        return given_vectors(self.recipe, self.source, self.live)

    @cached_property
    def live_collection(self) -> LiveCollection | None:
        """The collection that `index` searches as it stands, its connection closed; else None."""
        if not self.recipe.index.collection:
            return None
        index = retrieval.open_live(self.live(self.recipe.index))
        index.discard()
        return index

    @property
    def live_metric(self) -> str | None:
        """How that collection compares vectors; None where there is none."""
        return self.live_collection.metric if self.live_collection else None

    def check_live_metric(self, similarity: str | None) -> None:
        """Raise InputError for dot-product queries over a live index that compares by cosine."""
        if self.live_metric == "cosine" and similarity == "dot":
            raise InputError(
                f"index.collection {self.recipe.index.collection} compares by cosine, and the "
                "model by dot: set model.similarity cosine, or leave it out"
            )

    def identity_of(self, role: str) -> str:
        """Identity of the models of a role: "base", "teacher", "generators" or "retrievers"."""
        recipe = self.recipe
        names = {
            "base": [recipe.model.name],
            "teacher": [] if is_plugin("teachers", recipe.teacher.name) else [recipe.teacher.name],
            "generators": [g.model for g in recipe.queries.generators if g.model],
            "retrievers": [r.model for r in recipe.negatives.retrievers if r.model],
        }
        if role == "teacher" and recipe.teacher.api:
            return _place_of(recipe.teacher)
        if role == "generators":
            behind = {g.model: _place_of(g) for g in recipe.queries.generators if g.endpoint}
            return " ".join(behind.get(name) or self.identity(name) for name in names[role])
        return " ".join(self.identity(name) for name in names[role])

    def identity_of_source(self, name: str) -> str:
        """Identity of what lies outside the run, the same in every process of a launch."""
        kind, _, model = name.partition(" ")
        identities: dict[str, Callable[[], str]] = {
            "retriever": lambda: self.identity(model),
            "scorer": lambda: self._identity_of_scorer(model),
            "corpus": self._identity_of_corpus,
            "passage_vectors": lambda: self.passage_vectors.identity(),
            "live_metric": lambda: str(self.live_metric),
        }
        return modeling.from_first_process(identities[kind])

    def _identity_of_scorer(self, name: str) -> str:
        """Of a scorer, by its name in reports; a plug-in's code is told apart elsewhere."""
        scorer = next(s for s in self.recipe.teacher.each.values() if s.short_name == name)
        if scorer.kind == "api":
            return _place_of(scorer)
        return self.identity(scorer.name) if scorer.name in self.models else ""

    def _identity_of_corpus(self) -> str:
        own, options = self.source.identity(), self.recipe.corpus.options
        return digest([own, options]) if options else own

    def identities_of_plugins(self, values: list[Any]) -> dict[str, str]:
        """Identities of the plug-ins that are named among the values of recipe keys.

        Raises InputError in a process that has other code than the first one.
        """
        found, text = {}, json.dumps(values)
        for each in every_plugin(self.recipe):
            if json.dumps(each.value) in text:
                own = plugins.identity(each.group, each.name)
                if modeling.from_first_process(partial(str, own)) != own:
                    raise InputError(f"plug-in {each.name}: this process has {own}, the first not")
                found[f"plugin {each.group} {each.name}"] = own
        return found

    @property
    def models(self) -> dict[str, tuple[str | None, tuple[str, ...]]]:
        """Revision and weight files of every model, by its name in the recipe."""
        recipe = self.recipe
        models: dict[str, tuple[str | None, tuple[str, ...]]] = {
            g.model: (None, (g.gguf_file,) if g.gguf_file else SAFETENSORS)
            for g in recipe.queries.generators
            if g.model and not g.endpoint
        }
        models |= {r.model: (None, SAFETENSORS) for r in recipe.negatives.retrievers if r.model}
        for each in recipe.teacher.each.values():
            if each.kind == "bi_encoder":
                models[each.name] = (None, SAFETENSORS)
            elif each.kind == "cross_encoder" and not is_plugin("teachers", each.name):
                models[each.name] = (each.revision, weight_files(each.name, each.backend))
        if not recipe.model.api:
            models[recipe.model.name] = (recipe.model.revision, SAFETENSORS)
        return models

    def identity(self, name: str) -> str:
        """Digest or Hub commit of a model, with the engine that runs it where that matters."""
        if self.recipe.model.api and name == self.recipe.model.name:
            return _place_of(self.recipe.model)
        if name not in self._identities:
            engines = [
                self.engines.get(name) or self.engine_of(g)
                for g in self.recipe.queries.generators
                if g.kind == "seq2seq" and g.model == name
            ]
            others = [engine for engine in engines if engine != "torch"]
            model = resolve(name, *self.models[name]).identity
            self._identities[name] = " ".join([model, *others[:1]])
        return self._identities[name]

    def folder(self, name: str) -> Path:
        """Folder of a model, downloaded if necessary."""
        return resolve(name, *self.models[name]).path

    def base(self, path: Path | None = None, similarity: Any = None) -> modeling.BiEncoder:
        """A new instance of the base model, or of one that was made of it, in `path`."""
        section = self.recipe.model
        return modeling.BiEncoder.from_pretrained(
            path or section.name,
            revision=None if path else section.revision,
            pooling=section.pooling,
            # That of given vectors is not the base's own.
            similarity=similarity or (None if path or section.given else section.similarity),
            query_prompt=_given_prompt(section),
            passage_prompt=section.passage_prompt,
            max_length=section.max_length,
            query_max_length=section.query_max_length,
            precision=section.precision,
        )

    def base_model(self) -> modeling.SimilarityEncoder:
        """The base model as it is on disk or behind its API, one instance a run."""
        if not self._base:
            self._base.append(self.api() if self.recipe.model.api else self.base())
        return self._base[0]

    def starting_model(self, student: Artifact) -> modeling.SimilarityEncoder:
        """The encoder of a student artifact."""
        if not self.recipe.model.given:
            base = self.base_model()
            return _prompted(base, student) if isinstance(base, modeling.BiEncoder) else base
        if STUDENT in student.manifest["files"]:
            return self.student_of(read_json(student.file(STUDENT)))
        return self.new_student(student)

    def student_of(self, about: Mapping[str, Any]) -> modeling.SimilarityEncoder:
        """The model that made given vectors, of this `similarity` and `dimension`."""
        if self.recipe.model.api:
            return self.api(about["dimension"], about["similarity"])
        return self.base(similarity=about["similarity"])

    def new_student(self, student: Artifact) -> modeling.BiEncoder:
        """A new instance of the encoder of a student artifact, to be trained."""
        if self.recipe.model.given:
            return self.base(student.path)
        return _prompted(self.base(), student)

    def adapted(self, path: Path) -> modeling.BiEncoder | modeling.AdaptedEncoder:
        """The adapted model in `path`."""
        if not self.recipe.model.api:
            return self.base(path)
        kept = read_json(path / modeling.ADAPTER_CONFIG)
        encoder = self.api(kept["dimension"], kept.get("similarity"))
        return modeling.AdaptedEncoder.from_pretrained(path, encoder=encoder)

    def stamp(self, encoder: modeling.SimilarityEncoder, folder: Path, hub: str = "") -> ModelStamp:
        """What a server records beside vectors that the adapted model in `folder` searches."""
        config = getattr(encoder, "config", None)
        return ModelStamp(
            model=weights_digest(folder),
            model_name=hub or Path(*folder.resolve().parts[-3:]).as_posix(),
            base=self.recipe.model.name,
            run=self.recipe.name,
            dimensions=encoder.dimension,
            similarity=encoder.similarity,
            query_prompt=config.query_prompt if config else "",
        )

    def api(
        self, dimension: int | None = None, similarity: str | None = None
    ) -> modeling.ApiEncoder:
        """The recipe's model behind an API, with vectors of this or its default dimension.

        All callers share one object, and so one budget.
        """
        section = self.recipe.model
        if section.api == "cohere":
            similarity = None  # it has cosine alone
        if (dimension, similarity) not in self._apis:
            of_openai = {} if section.api == "cohere" else self._of_openai(similarity)
            self._apis[dimension, similarity] = modeling.open_service(
                section.api,
                section.name,
                dimension=dimension,
                dollars=section.dollars,
                dollars_per_million_tokens=section.dollars_per_million_tokens,
                **of_openai,
            )
        return self._apis[dimension, similarity]

    def _of_openai(self, similarity: str | None) -> dict[str, Any]:
        section = self.recipe.model
        return {
            "endpoint": section.endpoint,
            "key_variable": section.key_variable,
            "similarity": similarity or section.similarity,
            "query_prompt": section.query_prompt,
            "passage_prompt": section.passage_prompt,
            "query_request": section.query_request,
            "passage_request": section.passage_request,
            "max_length": section.max_length,
        }

    def scorer(
        self, settings: ScorerSettings, passages: Passages, vectors: Callable[[], Vectors]
    ) -> Teacher:
        """A scorer of pairs of `passages`; `vectors` gives those of a bi-encoder."""
        if settings.kind == "bm25":
            return self.bm25(settings, passages)
        if settings.kind == "bi_encoder":
            return data.DenseScorer(self.scorer_encoder(settings), passages, vectors())
        return self.teacher(settings)

    def scorer_encoder(self, settings: ScorerSettings) -> modeling.BiEncoder:
        """A scorer's bi-encoder."""
        return self.other_encoder(self.recipe.scorer_encoders[settings.short_name])

    def teacher(self, section: RerankerSettings | None = None) -> Teacher:
        """The recipe's one reranker, or another section's."""
        section = section or self.recipe.teacher
        if is_plugin("teachers", section.name):
            return plugins.make("teachers", section.name, section.options)
        if section.api:
            return modeling.ApiReranker(
                section.name,
                api=section.api,
                endpoint=section.endpoint,
                key_variable=section.key_variable,
                dollars=section.dollars,
                dollars_per_1000_searches=section.dollars_per_1000_searches,
            )
        return modeling.CrossEncoderTeacher.from_pretrained(
            section.name,
            revision=section.revision,
            backend=section.backend,
            max_length=section.max_length,
            precision=section.precision,
            asked=modeling.Asked(
                section.format, section.instruction, section.label, section.answers
            ),
        )

    def generator(self, settings: GeneratorSettings, passages: Passages) -> Generator:
        """A generator of queries about `passages`."""
        if settings.kind == "spans":
            return data.SpanGenerator(passages.contents)
        if settings.kind == "endpoint":
            return self._endpoint(settings)
        if settings.kind not in ("seq2seq", "causal"):
            return plugins.make("generators", settings.kind, settings.options)
        longest = settings.max_new_tokens or LONGEST[settings.kind]
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
            return self._causal(settings, given | {"precision": settings.precision})
        if self._on_ct2(settings):
            try:
                return modeling.CT2Generator.from_pretrained(settings.model, **given)
            except modeling.NotConverted as error:
                modeling.tell_once(f"{error}; torch runs it")
        given["precision"] = settings.precision
        return modeling.Seq2SeqGenerator.from_pretrained(settings.model, **given)

    def engine_of(self, settings: GeneratorSettings) -> str:
        """What a T5's queries are written with on this machine: "torch", or CTranslate2's way."""
        return modeling.describe_engine() if self._on_ct2(settings) else "torch"

    def _on_ct2(self, settings: GeneratorSettings) -> bool:
        """Whether CTranslate2 runs a seq2seq generator: chosen, and able to convert its kind."""
        if modeling.seq2seq_engine(settings.engine) != "ctranslate2":
            return False
        name = settings.model or ""
        here = local_folder(name)
        runs = modeling.runs_on_ct2(here if here.is_dir() else self.folder(name))
        if not runs:
            modeling.tell_once(f"{settings.model} is none that CTranslate2 runs: torch runs it")
        return runs

    def _check_reading(self, settings: GeneratorSettings) -> None:
        """Raise InputError for prompts that are longer than a generator can read."""
        if settings.kind not in LONGEST or settings.gguf_file:
            return
        prompt, examples = _shown(settings)
        modeling.check_reading(
            settings.kind,
            settings.model or "",
            prompt=prompt,
            examples=examples,
            passage_tokens=settings.passage_tokens,
            max_new_tokens=settings.max_new_tokens or LONGEST[settings.kind],
        )

    def _causal(self, settings: GeneratorSettings, given: dict[str, Any]) -> Generator:
        """A prompted model; generators that differ in the prompt alone share the loaded weights."""
        loaded = (settings.model, settings.gguf_file, *(str(value) for value in given.values()))
        if loaded not in self._language_models:
            self._language_models[loaded] = modeling.CausalGenerator.from_pretrained(
                settings.model, gguf_file=settings.gguf_file, **given
            )
        prompt, examples = _shown(settings)
        return self._language_models[loaded].shown(prompt, examples, style=settings.style or "")

    def _endpoint(self, settings: GeneratorSettings) -> Generator:
        """A prompted model behind an API."""
        prompt, examples = _shown(settings)
        return modeling.EndpointGenerator(
            self.completions(settings),
            prompt=prompt,
            examples=examples,
            style=settings.style or "",
            api=settings.api or "chat",
            sampling=modeling.Sampling(
                top_p=settings.top_p,
                temperature=settings.temperature or 0.7,
                max_new_tokens=32,
            ),
            max_new_tokens=settings.max_new_tokens,
            passage_tokens=settings.passage_tokens or 512,
            request=settings.request,
            judge=settings.judge,
        )

    def completions(self, settings: GeneratorSettings) -> modeling.Completions:
        """The endpoint of a generator, one object a run, and so one budget."""
        name = repr(settings)
        if name not in self._completions:
            self._completions[name] = modeling.Completions(
                settings.model,
                endpoint=settings.endpoint or "",
                key_variable=settings.key_variable or modeling.KEY_VARIABLE,
                concurrency=settings.concurrency,
                requests_per_minute=settings.requests_per_minute,
                dollars=settings.dollars,
                tokens=settings.tokens,
                dollars_per_million_read=settings.dollars_per_million_read,
                dollars_per_million_written=settings.dollars_per_million_written,
            )
        return self._completions[name]

    def other_encoder(self, settings: RetrieverSettings) -> modeling.BiEncoder:
        """A retriever's own model."""
        return modeling.BiEncoder.from_pretrained(
            settings.model or "", pooling=settings.pooling, precision=settings.precision
        )

    def bm25(
        self, settings: RetrieverSettings | SystemSettings | ScorerSettings, passages: Passages
    ) -> retrieval.BM25Retriever:
        """BM25 over `passages`."""
        return retrieval.BM25Retriever(
            passages,
            k1=settings.k1,
            b=settings.b,
            language=settings.language,
            ids=passages.ids,
        )

    def text_retriever(self, settings: RetrieverSettings, passages: Passages) -> Retriever:
        """A retriever of `passages` that is not dense: BM25 or a plug-in."""
        if settings.kind == "bm25":
            return self.bm25(settings, passages)
        return plugins.make("retrievers", settings.kind, settings.options, passages)

    def make_index(self) -> Index:
        """A new index of the recipe's kind."""
        return self.index_of(self.recipe.index)

    def index_of(self, settings: IndexSettings) -> Index:
        """A new index of any kind; on a server it is marked as this run's."""
        name = f"Tercet_{self.recipe.name}"
        return retrieval.make_index(self.live(settings), name, owner=self._owner)

    def live(self, settings: IndexSettings) -> IndexSettings:
        """The index settings, with ids and tenants of a collection that is the corpus too."""
        corpus = self.recipe.corpus
        if corpus.source != "weaviate" or settings.collection != corpus.path:
            return settings
        return replace(
            settings,
            id=settings.id or corpus.passages.id or UUIDS,
            tenant=settings.tenant or corpus.tenant,
        )

    @property
    def _owner(self) -> str:
        """Identifies this run's folder among all machines that share a server."""
        return f"Tercet run {digest([platform.node(), str(self.recipe.folder.resolve())])[:16]}"


def _given_prompt(section: Any) -> str | None:
    """The prefix of queries that is given; None for the model's own, and for several."""
    prompt: str | list[str] | None = section.query_prompt
    return None if isinstance(prompt, list) else prompt


def _prompted(base: modeling.BiEncoder, student: Artifact) -> modeling.BiEncoder:
    """The base model with the prefix of queries that was chosen for a student, if one was."""
    if STUDENT not in student.manifest["files"]:
        return base
    prompt: str | None = read_json(student.file(STUDENT)).get("query_prompt")
    return base if prompt is None else base.prompted(prompt)


def _shown(settings: GeneratorSettings) -> tuple[str, Sequence[tuple[str, str]]]:
    """The prompt and the examples that a model is shown."""
    style = modeling.STYLES.get(settings.style or "", modeling.DEFAULT_STYLE)
    given = settings.examples
    examples = style.examples if given is None else [(text, query) for text, query in given]
    return settings.prompt or style.prompt, examples


def _place_of(section: Any) -> str:
    """What a model behind an API is known by: the service, its address if given, and the name."""
    given = [recorded(section.endpoint)] if section.endpoint else []
    name = section.model if isinstance(section, GeneratorSettings) else section.name
    return " ".join([section.api or "chat", *given, name])
