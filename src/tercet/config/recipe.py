"""The keys of a recipe with their defaults. `tercet.config.parsing` reads and checks them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tercet.config.chat import ChatSection
from tercet.config.corpus import CorpusSection
from tercet.config.evaluation import EvaluationSection
from tercet.config.index import IndexSection, IndexSettings, IngestKind
from tercet.config.model import ModelSection, PoolingMode
from tercet.config.parsing import key, plugin_options, request_fields, section
from tercet.config.teacher import TeacherSection
from tercet.config.training import WEIGHTLESS, training_defaults
from tercet.core.text import seconds_of


@dataclass(frozen=True)
class GeneratorSettings:
    """A query generator; several are mixed by their shares."""

    kind: Literal["spans", "seq2seq", "causal", "endpoint"] | str = key(
        "spans",
        "spans: salient spans of the passage; seq2seq: doc2query; causal: a prompted LLM; "
        "endpoint: a prompted LLM behind an API; or a plug-in, package.module:Name",
        plugin="generators",
    )
    options: dict[str, Any] = plugin_options()
    share: float = key(1.0, "weight of this generator's part of the queries", above=0)
    model: str = key("", "folder or Hub name (seq2seq, causal); the API's name of it (endpoint)")
    endpoint: str | None = key(
        None, "base URL of an OpenAI-compatible API, such as http://localhost:8000/v1 (endpoint)"
    )
    key_variable: str | None = key(
        None, "environment variable of the API's key; unset: OPENAI_API_KEY (endpoint)"
    )
    api: Literal["chat", "completion"] | None = key(
        None,
        "unset: chat, all queries of a passage in one structured answer; completion: "
        "/completions, as a local model continues the examples (endpoint)",
    )
    judge: str | None = key(
        None,
        "model of the same API that grades query and passage, and what it finds unanswerable is "
        "dropped; unset: none (endpoint)",
    )
    request: dict[str, Any] = request_fields(
        "further fields of each request, such as {reasoning_effort: low} (endpoint)"
    )
    dollars: float | None = key(
        None,
        "budget in US dollars of one program call, which stops before exceeding it (endpoint)",
        low=0,
    )
    tokens: int | None = key(
        None, "budget in tokens, read and written, of one program call (endpoint)", low=0
    )
    dollars_per_million_read: float | None = key(
        None, "price of a million tokens that the model reads (endpoint)", low=0
    )
    dollars_per_million_written: float | None = key(
        None, "price of a million tokens that the model writes (endpoint)", low=0
    )
    concurrency: int = key(8, "requests at the same time (endpoint)", low=1, high=256)
    requests_per_minute: float | None = key(
        None, "rate limit; unset: as Retry-After says (endpoint)", above=0
    )
    engine: Literal["auto", "torch", "ctranslate2"] = key(
        "auto", "inference engine (seq2seq); auto: ctranslate2 if installed and there is no GPU"
    )
    gguf_file: str | None = key(None, "GGUF file in `model` (causal)")
    style: Literal["web", "question", "keywords", "claim", "title"] | None = key(
        None,
        "built-in prompt and examples (causal, endpoint); `prompt` and `examples` replace them",
    )
    prompt: str | None = key(
        None, "template with {passage} (causal, endpoint); unset: that of the style"
    )
    examples: list[list[str]] | None = key(
        None, "few-shot pairs [passage, query] (causal, endpoint)"
    )
    passage_tokens: int | None = key(
        None, "truncate passages to this many tokens, by an estimate for endpoint", low=8
    )
    max_new_tokens: int | None = key(
        None,
        "maximum length of a query in tokens; of a whole answer for endpoint, with what the model "
        "thinks: unset 64 a query and 256",
        low=1,
    )
    batch_size: int = key(32, "queries per batch", low=1)
    temperature: float | None = key(
        None, "sampling temperature; unset: 1 (seq2seq, as in GPL), .7 (causal, endpoint)", above=0
    )
    top_k: int = key(25, "sample from the k most likely tokens", low=1)
    top_p: float = key(0.95, "nucleus sampling: cumulative probability", above=0, high=1)
    precision: Literal["auto", "fp32", "bf16"] = key(
        "auto", "precision of the model (causal, seq2seq by torch); auto: measured, kept by the run"
    )

    def misplaced(self) -> str | None:
        """What these settings lack, or hold without an effect, or None."""
        if self.kind in ("seq2seq", "causal", "endpoint") and not self.model:
            return f"is {self.kind}, which needs a `model`"
        if self.kind == "endpoint":
            return self._fault_of_endpoint()
        plain = GeneratorSettings()
        for name in _OF_AN_ENDPOINT:
            if getattr(self, name) != getattr(plain, name):
                return f"is {self.kind}: `{name}` belongs to kind endpoint"
        return None

    def _fault_of_endpoint(self) -> str | None:
        if not self.endpoint:
            return "is endpoint, which needs an `endpoint`, such as http://localhost:8000/v1"
        prices = self.dollars_per_million_read, self.dollars_per_million_written
        if self.dollars is not None and None in prices:
            return (
                "has a budget in dollars: give dollars_per_million_read and "
                "dollars_per_million_written, 0 for what costs nothing"
            )
        if self.gguf_file or self.engine != "auto" or self.precision != "auto":
            return "is endpoint: gguf_file, engine and precision belong to a local model"
        return None


#: Keys that a generator of kind endpoint has alone.
_OF_AN_ENDPOINT = (
    *("endpoint", "key_variable", "api", "judge", "request", "dollars", "tokens"),
    *("dollars_per_million_read", "dollars_per_million_written"),
    *("concurrency", "requests_per_minute"),
)


@dataclass(frozen=True)
class QueriesSection:
    """Synthetic queries."""

    generators: list[GeneratorSettings] = key(
        lambda: [GeneratorSettings()], "one or more, each with `kind`"
    )
    count: int | None = key(
        None,
        "number of queries, for which passages are sampled; unset: 3 a passage, 1,500 to 250,000; "
        "time_budget may lower it",
        low=1,
    )
    per_passage: int | None = key(
        None, "queries per passage; unset: 3, or more for a small corpus", low=1
    )
    shard_passages: int = key(256, "passages per shard; a killed run redoes one shard", low=1)


@dataclass(frozen=True)
class RetrieverSettings:
    """A retriever that mines hard negatives."""

    kind: Literal["dense", "bm25"] | str = key(
        "dense",
        "dense: an encoder; bm25: lexical search; or a plug-in, package.module:Name",
        plugin="retrievers",
    )
    options: dict[str, Any] = plugin_options()
    share: int = key(1, "weight of this retriever's part of the candidates", low=1)
    model: str | None = key(None, "folder or Hub name (dense); unset: the model being adapted")
    pooling: PoolingMode | None = key(None, "of `model`, as model.pooling (dense)")
    k1: float = key(0.9, "BM25: term saturation", low=0)
    b: float = key(0.4, "BM25: length normalisation", low=0, high=1)
    language: str | None = key("english", "BM25: stemmer and stop words; null: none")
    precision: Literal["auto", "fp32", "bf16"] = key(
        "auto", "precision of `model` (dense); auto: measured, kept by the run"
    )


@dataclass(frozen=True)
class NegativesSection:
    """Hard negative candidates of each query."""

    retrievers: list[RetrieverSettings] = key(
        lambda: [
            RetrieverSettings(kind="dense", share=15),
            RetrieverSettings(kind="bm25", share=10),
        ],
        "one or more, each with `kind`",
    )
    candidates: int = key(25, "candidates per query, without the positive", low=1)
    max_positive_ratio: float | None = key(
        None,
        "leave out what a retriever scores above this fraction of the source passage's score, for "
        "it may be relevant too; .95 is NVIDIA's, for contrastive losses; unset: leave out nothing",
        above=0,
        high=1,
    )
    shard_queries: int = key(512, "queries per shard; a killed run redoes one shard", low=1)
    index: IndexSettings = section(IndexSettings)


@dataclass(frozen=True)
class TripletsSection:
    """Training data: (query, positive, negative) triplets with target margins."""

    calibration: Literal["std_ratio", "least_squares", "none", "clipped"] = key(
        "std_ratio",
        "scaling of the teacher's scores to the student's, within lists; clipped: as in CADET",
    )
    negatives_per_query: int | None = key(
        None,
        "negatives per query, drawn anew each epoch; unset: 5, or all candidates with frozen "
        "passage vectors",
        low=1,
    )
    held_out: float = key(
        0.2,
        "fraction of queries held out to select the model; a third of them confirms the selection",
        above=0,
        high=0.5,
    )
    filter_rank: int | None = key(
        None, "drop training queries whose source passage the teacher ranks below this", low=1
    )
    filter_percentile: float | None = key(
        None,
        "drop training queries whose source passage scores below this percentile of all source "
        "passages",
        low=0,
        high=100,
    )
    filter_max_matches: int | None = key(
        None,
        "drop training queries with at least this many candidates that score like a source passage "
        "(the median or more)",
        low=1,
    )


@dataclass(frozen=True)
class LossSection:
    """The distillation loss, and an optional contrastive loss."""

    kind: Literal["margin_mse", "all_pairs", "kl", "info_nce"] | str = key(
        "all_pairs",
        "margin_mse: margins between positive and negatives, as in GPL; all_pairs: margins of all "
        "pairs in the list; kl: KL divergence of the list's score distributions; info_nce: InfoNCE "
        "alone, no distillation; or a plug-in, package.module:Name",
        plugin="losses",
    )
    options: dict[str, Any] = plugin_options()
    temperature: float = key(
        0.05, "kl: temperature of the model's scores; .05 suits cosines", above=0
    )
    teacher_temperature: float | None = key(
        None,
        "kl: temperature of the targets; unset: `temperature`, for targets on the model's scale",
        above=0,
    )
    info_nce: float = key(
        0.0,
        "weight of InfoNCE over the passages of a step in all processes, beside the other loss; "
        "0: off",
        low=0,
    )
    info_nce_temperature: float = key(
        0.05, "InfoNCE: temperature of the model's scores; .05 suits cosines", above=0
    )
    false_negative_margin: float = key(
        0.1,
        "InfoNCE: candidates whose target margin is at most this fraction of the list's largest "
        "margin are no negatives",
        low=0,
        high=1,
    )
    matryoshka: list[int] = key(
        list,
        "truncated dimensions to train too: the loss is the mean over them and the full vector",
        low=1,
    )

    @property
    def contrastive(self) -> float:
        """The weight of InfoNCE in the loss."""
        return 1.0 if self.kind == "info_nce" else self.info_nce


@dataclass(frozen=True)
class IngestSection:
    """The Weaviate collection of the corpus's own vectors."""

    collection: str | None = key(None, "Weaviate collection; unset: from the run's name")
    vector: str = key("given", "name of the vector in the collection")
    kind: IngestKind = key("hnsw", "Weaviate's index type and compression")
    metric: Literal["dot", "cosine"] = key("dot", "similarity of the vectors")


@dataclass(frozen=True)
class TrackingSection:
    """Experiment trackers."""

    report_to: list[Literal["wandb", "tensorboard", "trackio"]] = key(
        list, "trackers of training; `tercet eval` reports to wandb alone"
    )
    project: str = key("tercet", "project in W&B and Trackio")


@dataclass(frozen=True)
class CheckpointsSection:
    """Checkpoints of training, beside those of its evaluations."""

    minutes: float = key(
        5.0, "a checkpoint is saved every so many minutes; a killed run goes on from it", low=0
    )


@dataclass(frozen=True)
class Recipe:
    """A run."""

    name: str = key("run", "name of the run: its folder in `runs_dir`")
    runs_dir: str = key("runs", "folder of all runs")
    seed: int = key(13, "random seed", low=0, high=2**32 - 1)
    time_budget: str | None = key(
        None,
        "time that the whole run may take on this machine, such as 20min or 2h: a forecast chooses "
        "the number of queries, and fewer candidates where 500 take longer; unset: no limit",
    )
    corpus: CorpusSection = section(CorpusSection)
    queries: QueriesSection = section(QueriesSection)
    negatives: NegativesSection = section(NegativesSection)
    teacher: TeacherSection = section(TeacherSection)
    triplets: TripletsSection = section(TripletsSection)
    loss: LossSection = section(LossSection)
    model: ModelSection = section(ModelSection)
    training: dict[str, Any] = key(
        lambda: training_defaults(ModelSection()),
        "transformers' TrainingArguments by name",
    )
    checkpoints: CheckpointsSection = section(CheckpointsSection)
    index: IndexSection = section(IndexSection)
    evaluation: EvaluationSection = section(EvaluationSection)
    ingest: IngestSection = section(IngestSection)
    tracking: TrackingSection = section(TrackingSection)
    chat: ChatSection = section(ChatSection)

    @property
    def budget_seconds(self) -> float | None:
        """The time budget in seconds, or None."""
        return None if self.time_budget is None else seconds_of(self.time_budget)

    @property
    def negatives_per_query(self) -> int:
        """Negatives per query and epoch."""
        unset = (
            self.negatives.candidates if self.model.frozen else min(5, self.negatives.candidates)
        )
        return self.triplets.negatives_per_query or unset

    @property
    def lexical(self) -> dict[str, Any]:
        """The parameters of the BM25 that mines negatives, as of the one in a hybrid search."""
        settings = next(
            (r for r in self.negatives.retrievers if r.kind == "bm25"), RetrieverSettings("bm25")
        )
        return {"k1": settings.k1, "b": settings.b, "language": settings.language}

    @property
    def scorer_encoders(self) -> dict[str, RetrieverSettings]:
        """The encoder of each scorer that is a bi-encoder, by its name.

        Where a retriever has the same model the passages' vectors are that one's.
        """
        mining = {r.model: r for r in self.negatives.retrievers if r.model}
        return {
            s.short_name: mining.get(s.name)
            or RetrieverSettings(model=s.name, pooling=s.pooling, precision=s.encodes_in)
            for s in self.teacher.each.values()
            if s.kind == "bi_encoder"
        }

    @property
    def weight_arguments(self) -> dict[str, Any]:
        """The TrainingArguments that change the weights."""
        return {
            name: value
            for name, value in self.training.items()
            if name not in WEIGHTLESS and not name.startswith(("hub_", "trackio_"))
        }

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.runs_dir) / self.name

    @property
    def alias(self) -> str:
        """Alias of the adapted model's collection on an index server."""
        return self.index.alias or self._served

    @property
    def collection(self) -> str:
        """Weaviate collection of the corpus's own vectors."""
        return self.ingest.collection or f"{self._served}_given"

    @property
    def _served(self) -> str:
        return "Tercet_" + re.sub(r"[^0-9A-Za-z_]", "_", self.name)

    @property
    def metrics(self) -> list[str]:
        """Metrics that every epoch computes."""
        cutoffs = sorted(set(self.evaluation.cutoffs))
        names = [f"{name}@{k}" for name in ("map", "mrr") for k in cutoffs]
        further = [*self.evaluation.metrics, self.evaluation.primary_metric, "recall@100"]
        return list(dict.fromkeys([*names, *further]))

    @property
    def all_metrics(self) -> list[str]:
        """Metrics that `tercet eval` reports."""
        names = ("ndcg", "map", "mrr", "recall", "precision", "hit")
        cutoffs = sorted(set(self.evaluation.cutoffs))
        every = [f"{name}@{k}" for name in names for k in cutoffs]
        further = [*self.evaluation.metrics, self.evaluation.primary_metric]
        return list(dict.fromkeys([*every, *further]))
