"""One run = one YAML file: what it may say, and every default.

Reading, overriding and refusing are in `tercet.config.parsing`; this file is the list of keys.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tercet.config.chat import ChatSection
from tercet.config.corpus import CorpusSection
from tercet.config.model import ModelSection
from tercet.config.parsing import key, section


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


#: Keys of an index that holds the passages' vectors already.
LIVE = ("collection", "vector", "id")
#: As `id`: the objects' own.
UUIDS = "uuid"


@dataclass(frozen=True)
class IndexSettings:
    """A kind of index, and how it is searched."""

    backend: Literal["exact", "faiss", "weaviate"] = key("exact", "exact runs in the process")
    kind: Literal[
        "hnsw", "hnsw+pq", "hnsw+rq", "hnsw+sq", "hnsw+bq", "flat", "flat+bq", "hfresh"
    ] = key("hnsw", "Weaviate's index, and its compression")
    metric: Literal["dot", "cosine"] = key("dot", "Weaviate's distance")
    factory: str = key(
        "HNSW32", "FAISS's index_factory string; {lists} in it becomes the root of the passages"
    )
    ef: int | None = key(None, "how far HNSW looks, FAISS's or Weaviate's; unset: far", low=1)
    nprobe: int | None = key(None, "inverted lists that FAISS reads a query; unset: 32", low=1)
    on_disk: bool = key(
        False, "FAISS's inverted lists in a file, for more vectors than memory holds (IVF…)"
    )
    collection: str | None = key(
        None,
        "Weaviate collection or alias that holds the passages' vectors already and is searched as "
        "it stands (model.side query)",
    )
    vector: str | None = key(None, "its named vector; unset: the only one")
    id: str | None = key(
        None, "its property with the passages' ids, or uuid; unset: passage_id, else the UUID"
    )

    def settings(self) -> dict[str, Any]:
        """What results depend on, by key; of a collection that there is, only if it is named."""
        found = {k: v for k, v in asdict(self).items() if k != "alias"}
        return {k: v for k, v in found.items() if k not in LIVE or v is not None}


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
    calibration: Literal["spread", "least_squares", "none", "clipped"] = key(
        "spread",
        "how the teacher's scores are scaled to the student's, within lists; clipped: CADET's",
    )
    negatives_per_query: int | None = key(
        None,
        "drawn afresh from the candidates each epoch; unset: 5, or all with model.side query, "
        "where passages cost nothing",
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
    filter_fits: int | None = key(
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
    near_positive: float = key(
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
class IndexSection(IndexSettings):
    """Where evaluation searches."""

    alias: str | None = key(None, "Weaviate alias of the best model; unset: from the run's name")


@dataclass(frozen=True)
class ComparedIndex(IndexSettings):
    """One index of eval.py's table."""

    name: str = key("", "what the table calls it; unset: from what it is")

    @property
    def label(self) -> str:
        """What the table calls it."""
        kinds = {"exact": "exact", "faiss": f"faiss {self.factory}"}
        weaviate = f"weaviate {self.collection or self.kind}"
        return self.name or kinds.get(self.backend, weaviate)


SystemKind = Literal["bm25", "base", "adapted", "dense", "vectors", "cohere", "hybrid", "rerank"]


@dataclass(frozen=True)
class SystemSettings:
    """One system of eval.py's table: a way from a query's text to passages."""

    kind: SystemKind = key(
        "base",
        "base: the recipe's model as it came; adapted: as trained; dense: any bi-encoder; vectors: "
        "known by its precomputed vectors; cohere: a model behind Cohere's API; hybrid: two others "
        "fused; rerank: another's, rescored",
    )
    name: str = key("", "what the table calls it; unset: from what it is")
    top_k: int | None = key(None, "passages that it returns; unset: the largest cut-off", low=1)
    truncate_dim: int | None = key(
        None,
        "its vectors' first dimensions alone (base, adapted, dense, cohere); unset: all",
        low=1,
    )
    model: str = key("", "folder or Hub name (dense), the API's name of it (cohere)")
    dollars: float | None = key(
        None,
        "what embedding may cost in one call of the program, which stops before that (cohere)",
        low=0,
    )
    revision: str | None = key(None, "Hub revision (dense, rerank)")
    of: list[str] = key(list, "names of the systems that it is made of: two (hybrid), one (rerank)")
    depth: int = key(30, "passages rescored (rerank)", low=1)
    teacher: str | None = key(None, "cross-encoder (rerank); unset: the recipe's teacher")
    passages: str = key(
        "", "Parquet with id and vector of every passage (vectors); unset: corpus.passages.vector"
    )
    queries: str = key(
        "", "Parquet with id and vector of every test query (vectors); unset: corpus.queries.vector"
    )
    similarity: Literal["dot", "cosine"] = key("dot", "how its vectors compare (vectors)")
    k1: float = key(0.9, "BM25's term saturation", low=0)
    b: float = key(0.4, "BM25's length normalisation", low=0, high=1)
    language: str | None = key("english", "BM25's stemmer and stop words; null for none")
    dollars_per_1000_queries: float | None = key(None, "price of an API's queries", low=0)
    dollars_per_million_passages: float | None = key(None, "price of an API's passages", low=0)

    @property
    def label(self) -> str:
        """What the table calls it."""
        names = {
            "dense": Path(self.model).name,
            "cohere": self.model,
            "hybrid": "+".join(self.of),
            "rerank": f"{''.join(self.of)} reranked",
        }
        cut = f", {self.truncate_dim} dimensions" if self.truncate_dim else ""
        return self.name or names.get(self.kind, self.kind) + cut


@dataclass(frozen=True)
class EvaluationSection:
    """What every epoch measures, and what eval.py compares."""

    cutoffs: list[int] = key(lambda: [1, 5, 10, 100], "figures are given at these ranks", low=1)
    primary: str = key("ndcg@10", "the measure that systems are tested on")
    passages: int | None = key(
        None, "epochs search a seeded sample of this size plus all judged; unset: all", low=1
    )
    early_stopping_patience: int | None = key(
        None, "training ends after so many evaluations without a better one; unset: never", low=1
    )
    interpolation_steps: int = key(
        4, "steps from the model as it came to the trained one that may ship; 1: no mixture", low=1
    )
    resamples: int = key(10_000, "bootstrap resamples of an interval", low=100)
    systems: list[SystemSettings] = key(
        list, "what eval.py compares; unset: bm25, base and, where there is one, adapted"
    )
    indexes: list[ComparedIndex] = key(
        list, "where it searches, beside exact, which is always there; unset: `index`"
    )
    baseline: str | None = key(
        None, "the system that others are compared with; unset: base, else bm25"
    )
    clock_queries: int = key(3000, "queries timed, 0 for none", low=0)
    clock_batch: int = key(64, "queries a batch, where they are timed in batches", low=1)
    clock_seconds: float = key(
        60.0, "a system and index slower than this are timed on fewer queries", above=0
    )
    second_path: str | None = key(
        None, "BEIR folder that nothing was adapted to: what does the model forget?"
    )
    second_split: str = key("test", "its judgements")


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


#: Names of TrainingArguments that change no weight: a finished model is of any of their values.
WEIGHTLESS = {
    "dataloader_num_workers",
    "ddp_timeout",
    "disable_tqdm",
    "log_level",
    "logging_steps",
    "push_to_hub",
    "save_total_limit",
}

#: What Tercet sets of TrainingArguments; any other of its names may be given as it is.
TRAINING: dict[str, tuple[Any, str]] = {
    "num_train_epochs": (1.0, "epochs; an adapter's 10"),
    "learning_rate": (2e-5, "peak learning rate; an adapter's 1e-3"),
    "per_device_train_batch_size": (16, "queries a step and process; an adapter's 64"),
    "gradient_accumulation_steps": (1, "steps whose gradients are added up"),
    "lr_scheduler_type": ("linear", "how the learning rate falls"),
    "warmup_steps": (0.05, "steps of rising learning rate, a part of all if below 1"),
    "weight_decay": (0.0, "AdamW's weight decay"),
    "bf16": (None, "bf16 autocast; unset: where the hardware is fast at it"),
    "logging_steps": (10, "steps between two logged losses"),
    "eval_strategy": ("epoch", "when to evaluate: epoch or steps"),
    "save_strategy": ("epoch", "when to save a checkpoint that a killed run resumes from"),
    "save_total_limit": (2, "checkpoints kept, the best always among them"),
    "metric_for_best_model": ("mrr@10", "the held-out queries' figure that chooses what ships"),
    "dataloader_num_workers": (0, "processes that prepare batches"),
    "ddp_timeout": (7200, "seconds a process waits for another"),
}

#: What an adapter's training has in their place: it has few weights, and its steps take no time.
ADAPTER_TRAINING: dict[str, Any] = {
    "num_train_epochs": 10.0,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 64,
}


def training_defaults(model: ModelSection) -> dict[str, Any]:
    """TrainingArguments that a recipe does not give, for what its model trains."""
    defaults = {name: default for name, (default, _) in TRAINING.items()}
    return defaults | (ADAPTER_TRAINING if model.adapter else {})


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
                    self.evaluation.primary,
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
        return list(dict.fromkeys([*every, self.evaluation.primary]))
