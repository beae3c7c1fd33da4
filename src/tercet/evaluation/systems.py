"""The retrieval systems that eval.py compares: one class per kind, behind one protocol.

A system loads its models and files when they are first used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from tercet import data, modeling, retrieval
from tercet.config.evaluation import SystemKind, SystemSettings
from tercet.config.recipe import Recipe
from tercet.config.teacher import RerankerSettings
from tercet.core import plugins
from tercet.core.artifacts import Artifact, Stage, existing, produce
from tercet.core.console import console
from tercet.core.files import digest, file_sha256, slug
from tercet.core.mapped import MappedVectors, Vectors
from tercet.core.processes import one_at_a_time
from tercet.core.schema import Encoder, Index, InputError, Query, Retriever, Teacher
from tercet.data.sources import PassagesWithQrels
from tercet.evaluation.results import SystemFacts
from tercet.modeling.cross_encoder import weight_files
from tercet.modeling.encoders.cohere_prices import RETIRED, refuse_retired
from tercet.modeling.hub import resolve
from tercet.modeling.precision import name_of
from tercet.pipeline.needs import unset
from tercet.pipeline.pipeline import Pipeline

#: Keys of a reranker behind an API: where it is, which its identity holds, and what it costs.
_OF_THE_SERVICE = ("api", "endpoint", "key_variable", "dollars", "dollars_per_1000_searches")
#: Part of the names of datasets whose vectors are in a vector space that Cohere has retired.
_OF_22_12 = "22-12"

_Kind = TypeVar("_Kind", bound="System")
#: Dollars per thousand queries and per million passages; None if unknown.
_Prices = tuple[float | None, float | None]


class System(Protocol):
    """One retrieval system over the passages of a pipeline."""

    settings: SystemSettings
    systems: Systems
    pipeline: Pipeline
    #: The default baseline is a system with the lowest number.
    baseline_order: int = 2
    #: Whether it has a `live_encoder`, which encodes queries outside the test set.
    live: bool = False

    def __init__(self, settings: SystemSettings, systems: Systems) -> None:
        self.settings = settings
        self.systems = systems
        self.pipeline = systems.pipeline

    @property
    def label(self) -> str:
        """Its name in the table."""
        return self.settings.label

    @property
    @abstractmethod
    def description(self) -> str:
        """Its model or method in words, for the report."""

    @abstractmethod
    def identity(self) -> str:
        """Digest of everything its rankings depend on, besides passages and queries."""

    @abstractmethod
    def retriever(self, over: Mapping[str, Retriever]) -> Retriever:
        """Its retriever; `over` holds those of the systems with vectors, over one index."""

    @property
    def parts(self) -> list[System]:
        """The systems that it combines."""
        return [self.systems[name] for name in self.settings.of]

    @property
    def encoded(self) -> list[EncodedSystem]:
        """The systems with vectors that it rests on: itself, or those among its parts."""
        return [each for part in self.parts for each in part.encoded]

    @property
    def reranks(self) -> bool:
        """Whether a cross-encoder is part of it."""
        return any(part.reranks for part in self.parts)

    @property
    def encoded_before(self) -> bool:
        """Whether any of its query vectors are made before the timing, as an API's are."""
        return any(each.encoded_before for each in self.encoded)

    @property
    def dimension(self) -> int | None:
        """Length of its vectors; None for a system without vectors of its own."""
        return None

    def check(self) -> None:
        """Load or look up every model and file. Raises InputError if one is missing or unfit."""
        self.identity()

    def prices(self) -> _Prices:
        """The prices in its settings plus those of its parts."""
        own = self.settings.dollars_per_1000_queries, self.settings.dollars_per_million_passages
        prices = zip(own, *(part.prices() for part in self.parts), strict=True)
        known = [[price for price in each if price is not None] for each in prices]
        queries, passages = (sum(each) if each else None for each in known)
        return queries, passages

    def facts(self) -> SystemFacts:
        """Its entry in the results."""
        settings = self.settings
        cut = f", first {settings.truncate_dim} dimensions" if settings.truncate_dim else ""
        first = f"; its first {settings.top_k} alone" if settings.top_k else ""
        queries, passages = self.prices()
        return SystemFacts(
            name=self.label,
            kind=settings.kind,
            description=self.description + cut + first,
            encoded_before=self.encoded_before,
            dimension=self.dimension,
            dollars_per_1000_queries=queries,
            dollars_per_million_passages=passages,
        )


class EncodedSystem(System):
    """A system of an encoder and passage vectors, searched over an index."""

    @property
    def encoded_before(self) -> bool:
        """Whether its query vectors are made before the timing."""
        return False

    @property
    def published(self) -> bool:
        """Whether the index that the run publishes holds this system's vectors."""
        return False

    @property
    def encoded(self) -> list[EncodedSystem]:
        """Itself."""
        return [self]

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        return self.encoder.dimension

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """Encodes the test queries, or looks up their precomputed vectors."""

    def live_encoder(self) -> Encoder:
        """Encodes any query, for systems that are `live`."""
        raise InputError(f"{self.label} has no encoder for new queries")

    def passage_encoder(self) -> Encoder:
        """Encodes passages."""
        return self.encoder

    @cached_property
    def vectors(self) -> Vectors:
        """float32 [passages, dimension], in the corpus's order."""
        return self.embedded(self.pipeline)

    def embedded(self, pipeline: Pipeline) -> MappedVectors:
        """Vectors of the passages of any pipeline by this system's encoder, as an artefact."""
        stage = Stage(
            pipeline.recipe.folder / "vectors" / slug(self.label),
            settings={},
            inputs={"system": self.identity(), "passages": pipeline.corpus.digest_of("passages")},
            made_on=made_on(self),
        )
        with one_at_a_time(stage.path.parent):  # readers need them too, and do not lock the run
            made = produce(
                stage,
                lambda writer: data.embed_passages(
                    writer, self.passage_encoder(), pipeline.passages
                ),
            )
        return data.read_vectors(made, pipeline.passages)

    def over(self, index: Index) -> Retriever:
        """A retriever over an index of this system's vectors."""
        return retrieval.DenseRetriever(
            self.encoder, index, name=self.label, top_k=self.settings.top_k
        )

    def retriever(self, over: Mapping[str, Retriever]) -> Retriever:
        """Its retriever in `over`."""
        return over[self.label]

    def check(self) -> None:
        """Load the encoder."""
        self.identity()
        _ = self.encoder


class DenseSystem(EncodedSystem):
    """Any bi-encoder, by a folder or Hub name."""

    live = True
    #: Whether this is the recipe's own model, before or after training.
    own = False

    @property
    def _frozen(self) -> bool:
        """Whether the run trains only the query side, so that passage vectors are fixed."""
        return self.own and self.pipeline.recipe.model.frozen

    @property
    def encoded_before(self) -> bool:
        """True if the recipe's model is behind an API."""
        return self.own and self.pipeline.recipe.model.api is not None

    @property
    def description(self) -> str:
        """The model's name."""
        return self.settings.model

    def _model(self) -> Encoder:
        settings, precision = self.settings, self.pipeline.recipe.model.precision
        return modeling.BiEncoder.from_pretrained(
            settings.model,
            revision=settings.revision,
            pooling=settings.pooling,
            precision=precision,
        )

    def _model_identity(self) -> str:
        model = resolve(self.settings.model, self.settings.revision).identity
        pooling = [self.settings.pooling] if self.settings.pooling else []
        precision: modeling.Precision = self.pipeline.recipe.model.precision
        if precision == "auto":  # no step of the run has chosen: what this machine computes in
            precision = name_of(cast(modeling.BiEncoder, self.encoder).dtype_of("encode"))
        return digest([model, precision, *pooling])

    def identity(self) -> str:
        """Digest of the model and of `truncate_dim`."""
        model, dimensions = self._model_identity(), self.settings.truncate_dim
        return digest([model, dimensions]) if dimensions else model

    @cached_property
    def encoder(self) -> Encoder:
        """The model; behind an API, the test queries' vectors, so that each is sent only once."""
        model = self.live_encoder()
        return self.systems.known_queries(self.label, model) if self.encoded_before else model

    def live_encoder(self) -> Encoder:
        """The model, truncated to `truncate_dim` dimensions if that is set."""
        model = self._model()
        if not self.settings.truncate_dim or self.encoded_before:
            return model
        if self._frozen:
            raise InputError(
                f"{self.label}: the passages' vectors stay as they are: leave truncate_dim"
            )
        assert isinstance(model, modeling.BiEncoder)
        return model.truncated(self.settings.truncate_dim)


class BaseSystem(DenseSystem):
    """The recipe's model before training."""

    own = True
    baseline_order = 0

    @property
    def published(self) -> bool:
        """True for query-side training, where base and adapted share the passage vectors."""
        return self._frozen

    @property
    def description(self) -> str:
        """The model's name."""
        return f"{self.pipeline.recipe.model.name}, before training"

    def _model(self) -> Encoder:
        return self.pipeline.starting_model

    def _model_identity(self) -> str:
        return self.pipeline.student.digest

    @cached_property
    def vectors(self) -> Vectors:
        """The run's embeddings, unless they are truncated."""
        whole = self._frozen or not self.settings.truncate_dim
        return self.pipeline.vectors if whole else self.embedded(self.pipeline)


class AdaptedSystem(DenseSystem):
    """The recipe's model after training."""

    own = True
    published = True

    @property
    def description(self) -> str:
        """The model's name."""
        return f"{self.pipeline.recipe.model.name}, adapted to this corpus"

    def _model(self) -> Encoder:
        self.pipeline.check_adapted()
        self._check_same_passages()
        return self.pipeline.adapted_model()

    def _model_identity(self) -> str:
        side = self.pipeline.recipe.model.train
        return digest([self.pipeline.student.digest, self._adapted().digest, side])

    @cached_property
    def vectors(self) -> Vectors:
        """The run's embeddings if only the query side was trained, else the model's own."""
        return self.pipeline.vectors if self._frozen else self.embedded(self.pipeline)

    def passage_encoder(self) -> Encoder:
        """The base model if only the query side was trained: the result encodes queries alone."""
        return self.pipeline.starting_model if self._frozen else self.encoder

    def _adapted(self) -> Artifact:
        path = self.pipeline.recipe.folder / "model"
        adapted = existing(path)
        if adapted is None:
            raise InputError(f"there is no adapted model in {path}: run `tercet adapt` first")
        return adapted

    def _check_same_passages(self) -> None:
        """Raises InputError for a model adapted to other passages; judgements may differ."""
        adapted, pipeline = self._adapted(), self.pipeline
        before = adapted.manifest["plan"]["inputs"]
        if before["embeddings"] != pipeline.embeddings.digest:
            raise InputError(
                f"{adapted.path} was adapted to another corpus than "
                f"{pipeline.recipe.corpus.label}: give the recipe that it was trained with (for "
                "another collection there is evaluation.out_of_domain_path)"
            )
        judged = pipeline.inputs("model").judged()
        if not judged.qrels and before["triplets"] != pipeline.triplets.digest:
            raise InputError(
                f"{adapted.path} was trained with other settings, so its training data may include "
                "queries held out now: give the recipe and options that it was trained with"
            )


class ApiSystem(EncodedSystem):
    """A model behind an API."""

    encoded_before = True
    live = True

    @cached_property
    def _api(self) -> modeling.ApiEncoder:
        settings = self.settings
        return modeling.open_service(
            settings.api or "",
            settings.model,
            dimension=settings.truncate_dim,
            dollars=settings.dollars,
            dollars_per_million_tokens=settings.dollars_per_million_tokens,
            endpoint=settings.endpoint,
            key_variable=settings.key_variable,
            query_prompt=settings.query_prompt,
            passage_prompt=settings.passage_prompt,
            query_request=settings.query_request,
            passage_request=settings.passage_request,
        )

    @property
    def description(self) -> str:
        """The model's name, and where prices come from."""
        name = {"cohere": "Cohere's API", "openai": "OpenAI's API"}[self.settings.api or "cohere"]
        if self.settings.endpoint:
            name = "an OpenAI-compatible API"
        return f"{self.settings.model} by {name}, prices by an estimate of tokens"

    def identity(self) -> str:
        """Digest of the model's name, its address, its dimension and its prompts."""
        own = self.settings
        read = [own.query_prompt, own.passage_prompt, own.query_request, own.passage_request]
        return digest([self._api.identity, *read] if any(read) else self._api.identity)

    @cached_property
    def encoder(self) -> Encoder:
        """The test queries' vectors."""
        return self.systems.known_queries(self.label, self._api, show_progress=self.label)

    def live_encoder(self) -> Encoder:
        """The API."""
        return self._api

    passage_encoder = live_encoder

    def check(self) -> None:
        """Print the cost of the missing vectors. Raises InputError if key or budget do not do."""
        self.identity()
        due = self._api.check_means(
            {"query": self.systems.texts, "passage": self.pipeline.passages.contents}
        )
        if due.texts:
            price = "" if due.dollars is None else f", about ${due.dollars:.2f}"
            console.print(
                f"{self.label}: {due.texts:,} texts to embed, some {due.tokens:,} tokens{price}"
            )

    def prices(self) -> _Prices:
        """The prices in the settings, else estimates from the API's price list."""
        given = super().prices()
        if given != (None, None):
            return given
        query = self._api.price(self.systems.texts)
        passage = self._api.price(self.pipeline.passages.contents)
        return query and 1e3 * query, passage and 1e6 * passage


class VectorsSystem(EncodedSystem):
    """Precomputed vectors of passages and test queries, from Parquet files or the corpus."""

    encoded_before = True

    @property
    def description(self) -> str:
        """Where the vectors come from, and their similarity."""
        return (
            f"vectors of {self.settings.passages or 'the corpus itself'}, "
            f"{self.settings.similarity}"
        )

    def identity(self) -> str:
        """Digest of the files and of `similarity`."""
        settings = self.settings
        if not settings.passages:
            source = self.pipeline.corpus.manifest["plan"]["inputs"]["source corpus"]
            return digest([source, settings.similarity])
        files = [_sha256(path) for path in (settings.passages, settings.queries)]
        return digest([*files, settings.similarity])

    def check(self) -> None:
        """Read the vectors of queries and passages."""
        super().check()
        _ = self.vectors

    @cached_property
    def encoder(self) -> Encoder:
        """The test queries' vectors."""
        queries = self.systems.queries
        vectors = self._read(self.settings.queries, [query.id for query in queries], "test queries")
        return retrieval.KnownQueries(self.label, queries, vectors)

    @cached_property
    def vectors(self) -> Vectors:
        """The passages' vectors."""
        settings = self.settings
        vectors = self._read(settings.passages, self.pipeline.passages.ids, "passages")
        if vectors.shape[1] != self.dimension:
            raise InputError(
                f"{settings.passages} has {vectors.shape[1]} dimensions and {settings.queries} "
                f"{self.dimension}: make both with one model"
            )
        return vectors

    def _read(self, path: str, ids: Sequence[str], what: str) -> np.ndarray:
        """float32 [ids, dimension], of unit length where the similarity is cosine."""
        if path:
            vectors, others = retrieval.read_parquet_vectors(path, ids, what)
        else:
            path, blocks = "the corpus's own vectors", self._blocks(what)
            vectors, others = retrieval.gather_vectors(path, blocks, ids, what)
        if others:
            self.systems.notes.append(
                f"{path}: {others:,} rows are of none of the {len(ids):,} {what}"
            )
        if self.settings.similarity == "dot":
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)

    def _blocks(self, what: str) -> Iterable[tuple[str, list[str], np.ndarray]]:
        source = self.pipeline.components.source
        if not isinstance(source, PassagesWithQrels):
            raise InputError("this corpus.source holds no vectors: give two Parquet files")
        section = self.pipeline.recipe.corpus
        if what != "passages" and not section.queries.vector and _OF_22_12 in section.label:
            refuse_retired(RETIRED[0], self.pipeline.passages.contents)
        rows = source.passage_vectors() if what == "passages" else source.query_vectors()
        return ((place, [id], vector[None]) for place, id, vector in rows)


class Bm25System(System):
    """BM25, which has an index of its own."""

    baseline_order = 1

    @property
    def description(self) -> str:
        """Its parameters."""
        settings = self.settings
        return f"BM25, k1 {settings.k1:g}, b {settings.b:g}, {settings.language or 'no'} stemmer"

    def identity(self) -> str:
        """Digest of its parameters."""
        return digest([self.settings.k1, self.settings.b, self.settings.language])

    @cached_property
    def _retriever(self) -> Retriever:
        return self.pipeline.components.bm25(self.settings, self.pipeline.passages)

    def retriever(self, over: Mapping[str, Retriever]) -> Retriever:
        """BM25 over the passages; `over` is not used."""
        return self._retriever

    def check(self) -> None:
        """Build the index."""
        _ = self._retriever


class HybridSystem(System):
    """Two systems combined, by reciprocal ranks or by a weighted sum of scores."""

    @property
    def description(self) -> str:
        """The names of both, and their shares if scores are summed."""
        (first, second), weight = self.settings.of, self.settings.weight
        if weight is None:
            return f"reciprocal rank fusion of {first} and {second}"
        return f"{1 - weight:g} x {first} + {weight:g} x {second}, of scores scaled to 0 to 1"

    def identity(self) -> str:
        """Digest of both, in any order if their ranks are fused, and of the weight."""
        parts, weight = _identities(self.parts), self.settings.weight
        return digest(sorted(parts, key=str) if weight is None else [*parts, weight])

    def retriever(self, over: Mapping[str, Retriever]) -> Retriever:
        """The fusion of both retrievers."""
        of = [part.retriever(over) for part in self.parts]
        return retrieval.HybridRetriever(of, self.label, self.settings.weight)


class RerankSystem(System):
    """A system whose first passages are reordered by a cross-encoder."""

    reranks = True

    @property
    def description(self) -> str:
        """The system's name, the depth, and the cross-encoder's name."""
        of, teacher = "".join(self.settings.of), Path(self._section.name).name
        teacher += " behind an API" if self._section.api else ""
        return f"first {self.settings.depth} of {of}, reordered by {teacher}"

    @property
    def encoded_before(self) -> bool:
        """Whether vectors or an API's scores are made before the timing."""
        return self._section.api is not None or super().encoded_before

    @property
    def _section(self) -> RerankerSettings:
        section, own = self.pipeline.recipe.teacher.reranker, self.settings
        if own.teacher is None:
            if section is None:
                raise InputError(
                    f"system {self.label}: no scorer of teacher.scorers reranks: give its `teacher`"
                )
            return section
        # How the recipe's teacher is read is not how another is.
        other = RerankerSettings(
            name=own.teacher or "",
            options=own.options,
            revision=own.revision,
            **{name: getattr(own, name) for name in _OF_THE_SERVICE},
        )
        of_all = ("backend", "max_length", "precision", "shard_pairs")
        read = section or RerankerSettings()
        return replace(other, **{key: getattr(read, key) for key in of_all})

    def identity(self) -> str:
        """Digest of the first-stage system, the cross-encoder and the depth."""
        teacher = self._section
        if plugins.is_plugin("teachers", teacher.name):
            model = plugins.identity("teachers", teacher.name)
        elif teacher.api:
            model = " ".join(filter(None, (teacher.api, teacher.endpoint, teacher.name)))
        else:
            files = weight_files(teacher.name, teacher.backend)
            model = resolve(teacher.name, teacher.revision, files).identity
            if teacher.precision == "auto":  # as of a model's own precision
                read = cast(modeling.CrossEncoderTeacher, self.systems.teacher(teacher))
                teacher = replace(teacher, precision=read.precision)
        left = {"name", "revision", *_OF_THE_SERVICE, *(() if teacher.options else ("options",))}
        settings = {
            k: v
            for k, v in asdict(teacher).items()
            if k not in left and not unset(f"teacher.{k}", v)
        }
        return digest([_identities(self.parts), model, settings, self.settings.depth])

    def retriever(self, over: Mapping[str, Retriever]) -> Retriever:
        """The first-stage retriever, reranked."""
        (part,) = self.parts
        return retrieval.RerankedRetriever(
            part.retriever(over),
            self.systems.teacher(self._section),
            self.pipeline.passages.texts,
            self.settings.depth,
            name=self.label,
        )


class PluginSystem(System):
    """A plug-in: a retriever made of the passages, and of those of the systems in `of`."""

    @property
    def description(self) -> str:
        """The plug-in's name."""
        of = f" of {', '.join(self.settings.of)}" if self.settings.of else ""
        return f"plug-in {self.settings.kind}{of}"

    def identity(self) -> str:
        """Digest of its code, its options and its parts."""
        code = plugins.identity("systems", self.settings.kind)
        return digest([code, self.settings.options, _identities(self.parts)])

    @cached_property
    def _alone(self) -> Retriever:
        return self._made_of([])

    def _made_of(self, parts: Sequence[Retriever]) -> Retriever:
        passages, options = self.pipeline.passages, self.settings.options
        return plugins.make("systems", self.settings.kind, options, passages, *parts)

    def retriever(self, over: Mapping[str, Retriever]) -> Retriever:
        """What it makes of the passages and of its parts' retrievers."""
        if not self.parts:
            return self._alone
        return self._made_of([part.retriever(over) for part in self.parts])

    def check(self) -> None:
        """Make one without parts."""
        self.identity()
        if not self.parts:
            _ = self._alone


_CLASSES: dict[str, type[System]] = {
    "bm25": Bm25System,
    "base": BaseSystem,
    "adapted": AdaptedSystem,
    "dense": DenseSystem,
    "vectors": VectorsSystem,
    "api": ApiSystem,
    "hybrid": HybridSystem,
    "rerank": RerankSystem,
}


class Systems(dict[str, System]):
    """The systems of a recipe by label, in its order, and what they share."""

    def __init__(
        self, pipeline: Pipeline, settings: Sequence[SystemSettings], queries: Sequence[Query]
    ) -> None:
        self.pipeline = pipeline
        self.queries = queries
        #: Notes on the files that were read, for the report.
        self.notes: list[str] = []
        self._teachers: dict[RerankerSettings, Teacher] = {}
        super().__init__(
            {each.label: _CLASSES.get(each.kind, PluginSystem)(each, self) for each in settings}
        )

    @property
    def texts(self) -> list[str]:
        """The texts of the test queries."""
        return [query.text for query in self.queries]

    def last(self, kind: type[_Kind]) -> _Kind | None:
        """The last system of a class, such as `AdaptedSystem`, or None."""
        return next((each for each in reversed(self.values()) if isinstance(each, kind)), None)

    def check(self) -> None:
        """Load or look up every model and file. Raises InputError if one is missing or unfit."""
        for system in self.values():
            system.check()

    def known_queries(self, label: str, encoder: Any, **options: Any) -> Encoder:
        """The test queries' vectors by an encoder, each of which is encoded once, beforehand."""
        vectors = encoder.encode_queries(self.texts, **options)
        return retrieval.KnownQueries(label, self.queries, vectors)

    def teacher(self, section: RerankerSettings) -> Teacher:
        """A cross-encoder, loaded once."""
        if section not in self._teachers:
            self._teachers[section] = self.pipeline.components.teacher(section)
        return self._teachers[section]


def compared_systems(recipe: Recipe) -> list[SystemSettings]:
    """The recipe's systems; by default BM25, the base and, once trained, the adapted model.

    Where the base model ships, systems that differ only in which of the two they use are one.
    """
    if not ships_base(recipe):
        return _listed(recipe)
    return list({label: each for label, each in _with_base(_listed(recipe)).values()}.values())


def compared_baseline(recipe: Recipe) -> str | None:
    """The label in `compared_systems` of the baseline that the recipe names, if it names one."""
    name = recipe.evaluation.baseline
    found = _with_base(_listed(recipe)) if ships_base(recipe) else {}
    return found[name][0] if name in found else name


def ships_base(recipe: Recipe) -> bool:
    """Whether the run is trained and ships the base model unchanged."""
    model = existing(recipe.folder / "model")
    return bool(model and model.facts["base_kept"])


def _listed(recipe: Recipe) -> list[SystemSettings]:
    if recipe.evaluation.systems:
        return recipe.evaluation.systems
    kinds: list[SystemKind] = ["base"]
    if existing(recipe.folder / "model"):
        kinds.append("adapted")
    dense = [SystemSettings(kind=kind) for kind in kinds]
    hybrids = [SystemSettings(kind="hybrid", of=["bm25", kind]) for kind in kinds]
    return [SystemSettings(kind="bm25"), *dense, *hybrids]


def _with_base(listed: Sequence[SystemSettings]) -> dict[str, tuple[str, SystemSettings]]:
    """Label -> the system, and its label, with the base model in place of the adapted one.

    Of systems that are then the same the first gives the label.
    """
    given = {each.label: each for each in listed}
    made: dict[str, tuple[str, SystemSettings]] = {}

    def of(label: str) -> tuple[str, SystemSettings]:
        if label in made:
            return made[label]
        each = given[label]
        if each.kind in ("base", "adapted"):
            each = replace(each, kind="base", name=each.name if each.kind == "base" else "")
            each = replace(each, name=f"{each.label} (ships)")
        else:
            each = replace(each, of=[of(part)[0] for part in each.of])
        same = (x for x in made.values() if replace(x[1], name="") == replace(each, name=""))
        made[label] = next(same, (each.label, each))
        return made[label]

    for label in given:
        of(label)
    return {label: made[label] for label in given}


def made_on(system: System) -> dict[str, str]:
    """What a system's numbers depend on besides its models; nothing where none of them runs here.

    As `Stage.made_on`.
    """
    return modeling.circumstances() if _runs_here(system) else {}


def _runs_here(system: System) -> bool:
    elsewhere = system.settings.kind in ("bm25", "vectors", "api", "hybrid")
    return not elsewhere or any(map(_runs_here, system.parts))


def _identities(parts: Sequence[System]) -> list[list[Any]]:
    return [[part.identity(), part.settings.top_k] for part in parts]


def _sha256(path: str) -> str:
    try:
        return file_sha256(Path(path))
    except OSError:
        raise InputError(f"{path}: no such file: give a Parquet of id and vector") from None
