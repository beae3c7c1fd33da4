"""One run = one YAML file: what it may say, and every default.

Reading, overriding and refusing are in `tercet.config.parsing`; this file is the list of keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tercet.config.chat import ChatSection
from tercet.config.corpus import CorpusSection
from tercet.config.evaluation import EvaluationSection
from tercet.config.index import IndexSection, IndexSettings
from tercet.config.model import ModelSection
from tercet.config.parsing import key, section
from tercet.config.training import WEIGHTLESS, training_defaults


@dataclass(frozen=True)
class GeneratorSettings:
    """One way to write queries; several are mixed by their shares."""

    kind: Literal["spans", "seq2seq", "causal"] = key(
        "spans", "salient spans of the passage, a doc2query model, or a prompted language model"
    )
    share: float = key(1.0, "its part of the queries, beside the other generators'", above=0)
    model: str = key("", "folder or Hub name (seq2seq, causal)")
    engine: Literal["auto", "torch", "ctranslate2"] = key(
        "auto", "what runs the model (seq2seq); auto: ctranslate2 where installed and no GPU is"
    )
    gguf_file: str | None = key(None, "the GGUF file within `model` (causal)")
    style: Literal["web", "question", "keywords", "claim", "title"] | None = key(
        None, "kind of query that the model is shown (causal); `prompt` and `examples` change it"
    )
    prompt: str | None = key(None, "template with {passage}; a general one when unset (causal)")
    examples: list[list[str]] | None = key(None, "few-shot pairs [passage, query] (causal)")
    passage_tokens: int | None = key(None, "passages are cut to this many tokens", low=8)
    max_new_tokens: int | None = key(None, "longest query in tokens", low=1)
    batch_size: int = key(32, "queries a batch", low=1)
    temperature: float | None = key(
        None, "of sampling; unset: 1 (seq2seq, as GPL has it), .7 (causal)", above=0
    )
    top_k: int = key(25, "sample among the k likeliest tokens", low=1)
    top_p: float = key(0.95, "sample within this mass of probability", above=0, high=1)


@dataclass(frozen=True)
class QueriesSection:
    """Synthetic queries."""

    generators: list[GeneratorSettings] = key(
        lambda: [GeneratorSettings()], "one or more, each with `kind`"
    )
    count: int = key(250_000, "queries wanted; passages are sampled for it", low=1)
    per_passage: int | None = key(
        None, "queries a passage; unset: 3, or more where the corpus is small", low=1
    )
    shard_passages: int = key(256, "passages a shard: what a killed run does again", low=1)


@dataclass(frozen=True)
class RetrieverSettings:
    """One retriever that proposes hard negatives."""

    kind: Literal["dense", "bm25"] = key("dense", "an encoder over an exact index, or BM25")
    share: int = key(1, "its part of the candidates, beside the other retrievers'", low=1)
    model: str | None = key(None, "folder or Hub name (dense); unset: the model being adapted")
    k1: float = key(0.9, "BM25's term saturation", low=0)
    b: float = key(0.4, "BM25's length normalisation", low=0, high=1)
    language: str | None = key("english", "BM25's stemmer and stop words; null for none")


@dataclass(frozen=True)
class NegativesSection:
    """Candidates that each query's positive is compared with."""

    retrievers: list[RetrieverSettings] = key(
        lambda: [
            RetrieverSettings(kind="dense", share=15),
            RetrieverSettings(kind="bm25", share=10),
        ],
        "one or more, each with `kind`",
    )
    candidates: int = key(25, "candidates a query, the positive not counted", low=1)
    shard_queries: int = key(512, "queries a shard", low=1)
    index: IndexSettings = section(IndexSettings)


@dataclass(frozen=True)
class TeacherSection:
    """The cross-encoder whose margins are learnt."""

    name: str = key("cross-encoder/ms-marco-MiniLM-L6-v2", "folder or Hub name")
    revision: str | None = key(None, "Hub revision")
    backend: Literal["auto", "torch", "onnx"] = key(
        "auto", "auto: onnx where there is nothing else"
    )
    max_length: int = key(256, "tokens of query and passage together", low=16)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = key("auto", "auto: half if it is fast")
    shard_pairs: int = key(8192, "pairs a shard", low=1)


@dataclass(frozen=True)
class TripletsSection:
    """What training reads: (query, positive, negative) and the margin to learn."""

    teacher_weight: float | None = key(
        None,
        "lambda, the teacher's part of the target; unset: .5, unless held-out queries clearly "
        "favour another; 1 is plain GPL, with calibration: none and loss.kind: margin_mse",
        low=0,
        high=1,
    )
    calibration: Literal["std_ratio", "least_squares", "none", "clipped"] = key(
        "std_ratio",
        "how the teacher's scores are scaled to the student's, within lists; clipped: CADET's",
    )
    negatives_per_query: int | None = key(
        None,
        "drawn afresh from the candidates each epoch; unset: 5, or all where only queries are "
        "trained and passages cost nothing",
        low=1,
    )
    held_out: float = key(
        0.2,
        "part of the queries kept to choose by; a third of them guards the choice",
        above=0,
        high=0.5,
    )
    filter_rank: int | None = key(
        None, "drop training queries whose own passage the teacher ranks beyond this", low=1
    )
    filter_percentile: float | None = key(
        None,
        "drop those whose own passage it scores below this percentile of own passages",
        low=0,
        high=100,
    )
    filter_max_matches: int | None = key(
        None,
        "drop those that so many candidates fit as well as own passages do (the median)",
        low=1,
    )


@dataclass(frozen=True)
class LossSection:
    """What the model learns of a list, and whether it also tells its positive from a batch."""

    kind: Literal["margin_mse", "all_pairs", "kl"] = key(
        "all_pairs",
        "margin_mse: margins of the positive, as in plain GPL; all_pairs: margins of all pairs in "
        "the list; kl: the list as a distribution",
    )
    temperature: float = key(0.05, "kl: divides the model's scores; .05 is for cosines", above=0)
    teacher_temperature: float | None = key(
        None,
        "kl: divides the targets; unset: as `temperature`, right for targets on the model's scale",
        above=0,
    )
    info_nce: float = key(
        0.0, "weight of InfoNCE over all passages of a step, in all processes; 0: none", low=0
    )
    info_nce_temperature: float = key(
        0.05, "InfoNCE: divides the model's scores; .05 is for cosines", above=0
    )
    false_negative_margin: float = key(
        0.1,
        "InfoNCE: a passage of a query's list is no negative if its target margin is at most this "
        "part of the list's largest",
        low=0,
        high=1,
    )
    matryoshka: list[int] = key(
        list,
        "shorter vectors that are to work too, in dimensions: the loss is the mean over them and "
        "the whole vector",
        low=1,
    )


@dataclass(frozen=True)
class IngestSection:
    """Where scripts/ingest.py writes the vectors that the corpus carries."""

    collection: str | None = key(None, "Weaviate collection; unset: from the run's name")
    vector: str = key("given", "name of the vector in it")
    kind: Literal["hnsw", "hnsw+rq", "hnsw+sq", "hnsw+bq", "hnsw+pq", "flat", "flat+bq"] = key(
        "hnsw", "Weaviate's index, and its compression"
    )
    metric: Literal["dot", "cosine"] = key("dot", "how its vectors compare")


@dataclass(frozen=True)
class TrackingSection:
    """Where figures go besides the run's folder."""

    report_to: list[Literal["wandb", "tensorboard", "trackio"]] = key(
        list, "any of them; what eval.py finds goes to wandb"
    )
    project: str = key("tercet", "the project, of W&B and of Trackio")


@dataclass(frozen=True)
class Recipe:
    """One run, whole."""

    name: str = key("run", "the run's folder within `runs_dir`")
    runs_dir: str = key("runs", "where runs are written")
    seed: int = key(13, "seed of every draw", low=0, high=2**32 - 1)
    corpus: CorpusSection = section(CorpusSection)
    queries: QueriesSection = section(QueriesSection)
    negatives: NegativesSection = section(NegativesSection)
    teacher: TeacherSection = section(TeacherSection)
    triplets: TripletsSection = section(TripletsSection)
    loss: LossSection = section(LossSection)
    model: ModelSection = section(ModelSection)
    training: dict[str, Any] = key(
        lambda: training_defaults(ModelSection()),
        "TrainingArguments, by their own names",
    )
    index: IndexSection = section(IndexSection)
    evaluation: EvaluationSection = section(EvaluationSection)
    ingest: IngestSection = section(IngestSection)
    tracking: TrackingSection = section(TrackingSection)
    chat: ChatSection = section(ChatSection)

    @property
    def negatives_per_query(self) -> int:
        """Negatives that each query meets in an epoch."""
        unset = (
            self.negatives.candidates if self.model.frozen else min(5, self.negatives.candidates)
        )
        return self.triplets.negatives_per_query or unset

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
        """Where the run's stages are written."""
        return Path(self.runs_dir) / self.name

    @property
    def alias(self) -> str:
        """The name under which an index server knows the best model's passages."""
        return self.index.alias or self._served

    @property
    def collection(self) -> str:
        """The Weaviate collection of vectors that the corpus carries."""
        return self.ingest.collection or f"{self._served}_given"

    @property
    def _served(self) -> str:
        return "Tercet_" + re.sub(r"[^0-9A-Za-z_]", "_", self.name)

    @property
    def measures(self) -> list[str]:
        """Names of the measures of every epoch."""
        cutoffs = sorted(set(self.evaluation.cutoffs))
        return list(
            dict.fromkeys(
                [
                    *(f"map@{k}" for k in cutoffs),
                    *(f"mrr@{k}" for k in cutoffs),
                    self.evaluation.primary_metric,
                    "recall@100",
                ]
            )
        )

    @property
    def all_measures(self) -> list[str]:
        """Names of the measures that eval.py reports."""
        names = ("ndcg", "map", "mrr", "recall", "precision", "hit")
        cutoffs = sorted(set(self.evaluation.cutoffs))
        every = [f"{name}@{k}" for name in names for k in cutoffs]
        return list(dict.fromkeys([*every, self.evaluation.primary_metric]))
