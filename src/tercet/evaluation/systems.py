"""The systems that eval.py compares: what each is made of, loaded when first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tercet import data, modeling, retrieval
from tercet.config.evaluation import SystemSettings
from tercet.config.recipe import Recipe, TeacherSection
from tercet.core.artifacts import Artifact, Stage, existing, produce
from tercet.core.console import console
from tercet.core.files import digest, file_sha256, slug
from tercet.core.mapped import MappedVectors, Vectors
from tercet.core.schema import Encoder, InputError, Query, Retriever
from tercet.data.corpus import read_judged
from tercet.data.sources import PassagesWithQrels
from tercet.evaluation.results import SystemFacts
from tercet.modeling.cross_encoder import weight_files
from tercet.modeling.encoders.cohere_prices import RETIRED, refuse_retired
from tercet.modeling.hub import resolve
from tercet.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from tercet.modeling.encoders.cohere import CohereEncoder

#: In the names of the datasets whose vectors are of Cohere's space that was retired.
OF_22_12 = "22-12"
#: Kinds that are an encoder and vectors, and need an index to search them.
DENSE = ("base", "adapted", "dense", "vectors", "cohere")
#: Those of them whose queries are encoded before they are timed: a file's, or an API's.
ENCODED_BEFORE = ("vectors", "cohere")


def listed(recipe: Recipe) -> list[SystemSettings]:
    """The recipe's systems; where it lists none, BM25, the base and, if there is one, adapted."""
    given = recipe.evaluation.systems
    if not given:
        kinds: list[Any] = ["bm25", "base"]
        kinds += ["adapted"] if (recipe.folder / "model" / "manifest.json").exists() else []
        given = [SystemSettings(kind=kind) for kind in kinds]
    return given


class Systems:
    """The systems by label, over the passages of one pipeline."""

    def __init__(
        self, pipeline: Pipeline, settings: Sequence[SystemSettings], queries: Sequence[Query]
    ) -> None:
        self.pipeline = pipeline
        self.settings = {system.label: system for system in settings}
        self.queries = queries
        self._encoders: dict[str, Encoder] = {}
        self._vectors: dict[str, Vectors] = {}
        self._apis: dict[str, CohereEncoder] = {}
        self._bm25: dict[str, Retriever] = {}
        self._teachers: dict[TeacherSection, modeling.CrossEncoderTeacher] = {}
        #: What the report must tell of the files that were read.
        self.notes: list[str] = []

    def check(self) -> None:
        """Meet every model and file. Raises InputError."""
        for label in self.settings:
            self.identity(label)
            if self.settings[label].kind == "cohere":
                self._check_means(label)
            elif self.settings[label].kind in DENSE:
                self.encoder(label)
            if self.settings[label].kind == "vectors":
                self.vectors(label)
            if self.settings[label].kind == "bm25":
                self.retriever(label, {})

    def reranks(self, label: str) -> bool:
        """Whether a teacher has a part in a system."""
        system = self.settings[label]
        return system.kind == "rerank" or any(map(self.reranks, system.of))

    def encoded_before(self, label: str) -> bool:
        """Whether a system encodes no query, or not all it needs to: vectors were made before."""
        return any(
            self.settings[name].kind in ENCODED_BEFORE or self._asks_api(self.settings[name])
            for name in self.dense(label)
        )

    def _asks_api(self, system: SystemSettings) -> bool:
        """Whether the recipe's own model is behind an API."""
        own = system.kind in ("base", "adapted")
        return own and self.pipeline.recipe.model.api is not None

    def _prices(self, label: str) -> tuple[float | None, float | None]:
        """Dollars per thousand queries and per million passages: a system's and all its parts'."""
        system = self.settings[label]
        given = system.dollars_per_1000_queries, system.dollars_per_million_passages
        if system.kind == "cohere" and given == (None, None):
            api, texts = self._api(label), [query.text for query in self.queries]
            query, passage = api.price(texts), api.price(self.pipeline.passages.contents)
            return query and 1e3 * query, passage and 1e6 * passage
        prices = zip(given, *map(self._prices, system.of), strict=True)
        known = [[price for price in each if price is not None] for each in prices]
        queries, passages = (sum(each) if each else None for each in known)
        return queries, passages

    def _api(self, label: str) -> CohereEncoder:
        if label not in self._apis:
            system = self.settings[label]
            # Its SDK is an extra.
            from tercet.modeling.encoders.cohere import CohereEncoder

            self._apis[label] = CohereEncoder(
                system.model, output_dimension=system.truncate_dim, dollars=system.dollars
            )
        return self._apis[label]

    def _check_means(self, label: str) -> None:
        """Say what an API's vectors will cost. Raises InputError where key or budget lack."""
        due = self._api(label).check_means(
            {
                "query": [query.text for query in self.queries],
                "passage": self.pipeline.passages.contents,
            }
        )
        if due.texts:
            price = "" if due.dollars is None else f", about ${due.dollars:.2f}"
            console.print(
                f"{label}: {due.texts:,} texts to embed, some {due.tokens:,} tokens{price}"
            )

    def dense(self, label: str) -> list[str]:
        """The systems with vectors that this one rests on: itself, or those it is made of."""
        system = self.settings[label]
        if system.kind in DENSE:
            return [label]
        return [name for part in system.of for name in self.dense(part)]

    def encoder(self, label: str) -> Encoder:
        """What encodes a system's queries."""
        if label not in self._encoders:
            self._encoders[label] = self._load(self.settings[label])
        return self._encoders[label]

    def _load(self, system: SystemSettings) -> Encoder:
        if system.kind == "cohere":
            texts = [query.text for query in self.queries]
            vectors = self._api(system.label).encode_queries(texts, show_progress=system.label)
            return retrieval.KnownQueries(system.label, self.queries, vectors)
        if system.kind == "vectors":
            ids = [query.id for query in self.queries]
            vectors = self._read(system.queries, ids, "test queries")
            return retrieval.KnownQueries(system.label, self.queries, _as_asked(vectors, system))
        model = self.live_encoder(system.label)
        if self._asks_api(system):  # each query once, and its answer is no time of ours
            vectors = model.encode_queries([query.text for query in self.queries])
            return retrieval.KnownQueries(system.label, self.queries, vectors)
        return model

    def live_encoder(self, label: str) -> Encoder:
        """What encodes any query of a system, where its `encoder` may know the test queries alone.

        Not of a system that is known by its vectors.
        """
        system = self.settings[label]
        if system.kind == "cohere":
            return self._api(label)
        model = self._model(system)
        if not system.truncate_dim or self._asks_api(system):
            return model
        if self.pipeline.recipe.model.frozen and system.kind in ("base", "adapted"):
            raise InputError(
                f"{system.label}: the passages' vectors stay as they are: leave truncate_dim"
            )
        assert isinstance(model, modeling.BiEncoder)
        return model.truncated(system.truncate_dim)

    def _model(self, system: SystemSettings) -> Encoder:
        if system.kind == "base":
            return self.pipeline.starting_model
        if system.kind == "adapted":
            self.pipeline.check_adapted()
            self._check_same_passages()
            return self.pipeline.adapted_model()
        precision = self.pipeline.recipe.model.precision
        return modeling.BiEncoder.from_pretrained(
            system.model, revision=system.revision, precision=precision
        )

    def vectors(self, label: str) -> Vectors:
        """float32 [passages, dimension] of a system with vectors, in the corpus's order."""
        if label not in self._vectors:
            self._vectors[label] = self._embed(self.settings[label])
        return self._vectors[label]

    def _embed(self, system: SystemSettings) -> Vectors:
        if system.kind == "vectors":
            ids = self.pipeline.passages.ids
            vectors = self._read(system.passages, ids, "passages")
            if vectors.shape[1] != self.encoder(system.label).dimension:
                raise InputError(
                    f"{system.passages} has {vectors.shape[1]} dimensions and {system.queries} "
                    f"{self.encoder(system.label).dimension}: make both with one model"
                )
            return _as_asked(vectors, system)
        stay = self.pipeline.recipe.model.frozen and system.kind in ("base", "adapted")
        if stay or (system.kind == "base" and not system.truncate_dim):
            return self.pipeline.vectors
        return self.embedded(self.pipeline, system.label)

    def _read(self, path: str, ids: Sequence[str], what: str) -> np.ndarray:
        if path:
            vectors, others = retrieval.read_parquet_vectors(path, ids, what)
        else:
            source = self.pipeline.components.source
            if not isinstance(source, PassagesWithQrels):
                raise InputError("this corpus.source holds no vectors: give two Parquet files")
            section = self.pipeline.recipe.corpus
            if what != "passages" and not section.queries.vector and OF_22_12 in section.label:
                refuse_retired(RETIRED[0], self.pipeline.passages.contents)
            of = source.passage_vectors if what == "passages" else source.query_vectors
            path = "the corpus's own vectors"
            blocks = ((place, [id], vector[None]) for place, id, vector in of())
            vectors, others = retrieval.gather_vectors(path, blocks, ids, what)
        if others:
            self.notes.append(f"{path}: {others:,} rows are of none of the {len(ids):,} {what}")
        return vectors

    def embedded(self, pipeline: Pipeline, label: str) -> MappedVectors:
        """Vectors of a pipeline's passages by a system's encoder, kept as an artefact."""
        stage = Stage(
            pipeline.recipe.folder / "vectors" / slug(label),
            settings={},
            inputs={
                "system": self.identity(label),
                "passages": pipeline.corpus.digest_of("passages"),
            },
        )
        made = produce(
            stage,
            lambda writer: data.embed_passages(
                writer, self._passage_encoder(label), pipeline.passages
            ),
        )
        return data.read_vectors(made, pipeline.passages)

    def _passage_encoder(self, label: str) -> Encoder:
        kind = self.settings[label].kind
        if kind == "adapted" and self.pipeline.recipe.model.frozen:
            return self.pipeline.starting_model  # what ships encodes queries alone
        return self._api(label) if kind == "cohere" else self.encoder(label)

    def identity(self, label: str) -> str:
        """Digest of all that a system's rankings depend on, beside passages and queries."""
        system = self.settings[label]
        if system.kind == "bm25":
            return digest([system.k1, system.b, system.language])
        if system.kind in ("base", "adapted", "dense"):
            whole = self._model_identity(system)
            return digest([whole, system.truncate_dim]) if system.truncate_dim else whole
        if system.kind == "cohere":
            return digest(self._api(label).identity)
        if system.kind == "vectors" and not system.passages:
            source = self.pipeline.corpus.manifest["plan"]["inputs"]["source"]
            return digest([source, system.similarity])
        if system.kind == "vectors":
            return digest([_sha256(system.passages), _sha256(system.queries), system.similarity])
        of = [[self.identity(part), self.settings[part].top_k] for part in system.of]
        if system.kind == "hybrid":
            return digest(sorted(of, key=str))
        teacher = self._teacher(system)
        files = weight_files(teacher.name, teacher.backend)
        model = resolve(teacher.name, teacher.revision, files).identity
        settings = {k: v for k, v in asdict(teacher).items() if k not in ("name", "revision")}
        return digest([of, model, settings, system.depth])

    def _model_identity(self, system: SystemSettings) -> str:
        if system.kind == "base":
            return self.pipeline.student.digest
        if system.kind == "adapted":
            side = self.pipeline.recipe.model.train
            return digest([self.pipeline.student.digest, self._adapted().digest, side])
        model = resolve(system.model, system.revision).identity
        return digest([model, self.pipeline.recipe.model.precision])

    def _check_same_passages(self) -> None:
        """Refuse a model adapted to other passages; other judgements are well."""
        adapted, pipeline = self._adapted(), self.pipeline
        before = adapted.manifest["plan"]["inputs"]
        if before["embeddings"] != pipeline.embeddings.digest:
            raise InputError(
                f"{adapted.path} was adapted to another corpus than "
                f"{pipeline.recipe.corpus.label}: give the recipe that it was trained with (for "
                "another collection there is evaluation.out_of_domain_path)"
            )
        _, qrels = read_judged(pipeline.corpus, pipeline.recipe.corpus.test_split)
        if not qrels and before["triplets"] != pipeline.triplets.digest:
            raise InputError(
                f"{adapted.path} was trained with other settings, so it may have learnt from what "
                "is held out now: give the recipe and options that it was trained with"
            )

    def _adapted(self) -> Artifact:
        path = self.pipeline.recipe.folder / "model"
        adapted = existing(path)
        if adapted is None:
            raise InputError(f"there is no adapted model in {path}: run train.py first")
        return adapted

    def _teacher(self, system: SystemSettings) -> TeacherSection:
        section = self.pipeline.recipe.teacher
        if system.teacher is None:
            return section
        return replace(section, name=system.teacher, revision=system.revision)

    def retriever(self, label: str, dense: Mapping[str, Retriever]) -> Retriever:
        """A system over one index, which `dense` holds the systems with vectors of."""
        system = self.settings[label]
        if system.kind in DENSE:
            return dense[label]
        if system.kind == "bm25":
            if label not in self._bm25:
                self._bm25[label] = self.pipeline.components.bm25(system, self.pipeline.passages)
            return self._bm25[label]
        of = [self.retriever(part, dense) for part in system.of]
        if system.kind == "hybrid":
            return retrieval.HybridRetriever(of, name=label)
        texts = self.pipeline.passages.texts
        section = self._teacher(system)
        if section not in self._teachers:
            self._teachers[section] = self.pipeline.components.teacher(section)
        teacher = self._teachers[section]
        return retrieval.RerankedRetriever(of[0], teacher, texts, system.depth, name=label)

    def facts(self, label: str) -> SystemFacts:
        """What the report says that a system is."""
        system, recipe = self.settings[label], self.pipeline.recipe
        names = {
            "bm25": f"BM25, k1 {system.k1:g}, b {system.b:g}, {system.language or 'no'} stemmer",
            "base": f"{recipe.model.name}, as it came",
            "adapted": f"{recipe.model.name}, adapted to this corpus",
            "dense": system.model,
            "vectors": f"vectors of {system.passages or 'the corpus itself'}, {system.similarity}",
            "cohere": f"{system.model} by Cohere's API, prices by an estimate of tokens",
            "hybrid": "reciprocal rank fusion of " + " and ".join(system.of),
            "rerank": f"first {system.depth} of {''.join(system.of)}, reordered by "
            f"{Path(self._teacher(system).name).name}",
        }
        queries, passages = self._prices(label)
        first = f"; its first {system.top_k} alone" if system.top_k else ""
        cut = f", first {system.truncate_dim} dimensions" if system.truncate_dim else ""
        return SystemFacts(
            name=label,
            kind=system.kind,
            description=names[system.kind] + cut + first,
            encoded_before=self.encoded_before(label),
            dimension=self.encoder(label).dimension if system.kind in DENSE else None,
            dollars_per_1000_queries=queries,
            dollars_per_million_passages=passages,
        )


def _sha256(path: str) -> str:
    try:
        return file_sha256(Path(path))
    except OSError:
        raise InputError(f"{path}: no such file: give a Parquet of id and vector") from None


def _as_asked(vectors: np.ndarray, system: SystemSettings) -> np.ndarray:
    if system.similarity == "dot":
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
