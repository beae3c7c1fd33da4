"""The `evaluation` section and the systems that `tercet eval` compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tercet.config.index import ComparedIndex
from tercet.config.model import PoolingMode
from tercet.config.parsing import key, plugin_options, request_fields

#: `evaluation.gate` where no judged query gates.
SYNTHETIC = "synthetic"

SystemKind = Literal["bm25", "base", "adapted", "dense", "vectors", "api", "hybrid", "rerank"]


@dataclass(frozen=True)
class SystemSettings:
    """One retrieval system of `tercet eval`'s table."""

    kind: SystemKind | str = key(
        "base",
        "base: the recipe's model before training; adapted: after it; dense: any bi-encoder; "
        "vectors: precomputed vectors; api: a model behind an API; hybrid: two other systems "
        "fused; rerank: another system's passages, rescored; or a plug-in, package.module:Name",
        plugin="systems",
    )
    options: dict[str, Any] = plugin_options()
    name: str = key("", "its name in the table; unset: made from its settings")
    top_k: int | None = key(None, "passages that it returns; unset: the largest cut-off", low=1)
    truncate_dim: int | None = key(
        None,
        "keep only the first dimensions of its vectors (base, adapted, dense, api); unset: all",
        low=1,
    )
    api: Literal["cohere", "openai", "tei", "vllm"] | None = key(
        None,
        "the API that embeds its texts, cohere or openai (api); that reranks, cohere, tei or vllm "
        "(rerank)",
    )
    endpoint: str | None = key(
        None, "address of the API (api, rerank); unset: https://api.openai.com/v1 or Cohere's"
    )
    key_variable: str | None = key(
        None, "environment variable of the key; unset: OPENAI_API_KEY, or CO_API_KEY (api, rerank)"
    )
    query_prompt: str = key("", "prefix of queries (api openai)")
    passage_prompt: str = key("", "prefix of passages (api openai)")
    query_request: dict[str, Any] = request_fields(
        "further fields of a request for queries, such as {input_type: query} (api openai)"
    )
    passage_request: dict[str, Any] = request_fields(
        "further fields of a request for passages (api openai)"
    )
    dollars_per_million_tokens: float | None = key(
        None, "price of the API; unset: that of its list, else unknown (api)", low=0
    )
    dollars_per_1000_searches: float | None = key(
        None, "price of the API; unset: that of its list, else unknown (rerank)", low=0
    )
    model: str = key("", "folder or Hub name (dense), the API's name of it (api)")
    dollars: float | None = key(
        None, "most that one call of the program may spend on the API (api, rerank)", low=0
    )
    revision: str | None = key(None, "Hub revision (dense, rerank)")
    pooling: PoolingMode | None = key(None, "as model.pooling (dense)")
    of: list[str] = key(
        list, "names of its parts: two systems (hybrid), one (rerank), any number (plug-in)"
    )
    weight: float | None = key(
        None,
        "share of the second part's scores in their sum, each scaled to 0 to 1 (hybrid); unset: "
        "reciprocal rank fusion",
        low=0,
        high=1,
    )
    depth: int = key(30, "passages rescored (rerank)", low=1)
    teacher: str | None = key(
        None,
        "cross-encoder or plug-in (rerank); unset: the recipe's teacher",
        plugin="teachers",
    )
    passages: str = key(
        "", "Parquet with id and vector of every passage (vectors); unset: corpus.passages.vector"
    )
    queries: str = key(
        "", "Parquet with id and vector of every test query (vectors); unset: corpus.queries.vector"
    )
    similarity: Literal["dot", "cosine"] = key("dot", "how its vectors are compared (vectors)")
    k1: float = key(0.9, "BM25's term saturation", low=0)
    b: float = key(0.4, "BM25's length normalisation", low=0, high=1)
    language: str | None = key("english", "BM25's stemmer and stop words; null for none")
    dollars_per_1000_queries: float | None = key(None, "price of an API's queries", low=0)
    dollars_per_million_passages: float | None = key(None, "price of an API's passages", low=0)

    @property
    def label(self) -> str:
        """Its name in the table."""
        names = {
            "dense": Path(self.model).name,
            "api": self.model,
            "hybrid": "+".join(self.of) + ("" if self.weight is None else f", {self.weight:g}"),
            "rerank": f"{''.join(self.of)} reranked",
        }
        cut = f", {self.truncate_dim} dimensions" if self.truncate_dim else ""
        return self.name or names.get(self.kind, self.kind.rpartition(":")[2]) + cut


@dataclass(frozen=True)
class EvaluationSection:
    """The metrics, and what `tercet eval` compares."""

    cutoffs: list[int] = key(lambda: [1, 5, 10, 100], "cut-off ranks of the metrics", low=1)
    metrics: list[str] = key(
        list, "further metrics, such as a plug-in's package.module:name@10", plugin="metrics"
    )
    primary_metric: str = key("ndcg@10", "the metric that systems are tested on", plugin="metrics")
    passages: int | None = key(
        None, "epochs search a seeded sample of this size plus all judged; unset: all", low=1
    )
    early_stopping_patience: int | None = key(
        None, "training ends after so many evaluations without a better one; unset: never", low=1
    )
    interpolation_steps: int = key(
        4,
        "steps from the base's weights to the trained ones that may ship; 1: no mixture",
        low=1,
    )
    leave_out: Literal["source_passage", "none"] = key(
        "source_passage",
        "what no ranking that is measured may hold: source_passage: the passage that is the query "
        "itself, under the query's id (ArguAna, Quora); none: nothing",
    )
    unanswerable: Literal["leave_out", "zero"] = key(
        "leave_out",
        "judged queries without a text, or without a relevant passage in the corpus: not measured, "
        "or zero for every system",
    )
    gate: str = key(
        SYNTHETIC,
        "what may turn down the choice of the held-out queries: synthetic, those alone; or a split "
        "of judgements (corpus.test_split: a seeded half of it, and the other half is reported)",
    )
    resamples: int = key(10_000, "bootstrap resamples of an interval", low=100)
    systems: list[SystemSettings] = key(
        list,
        "what `tercet eval` compares; unset: bm25, base and, once trained, adapted, and bm25 fused "
        "with each",
    )
    indexes: list[ComparedIndex] = key(
        list, "indexes to search beside exact, which is always included; unset: `index`"
    )
    baseline: str | None = key(
        None, "the system that others are compared with; unset: base, else bm25"
    )
    latency_queries: int = key(3000, "queries to time; 0: none", low=0)
    latency_batch_size: int = key(64, "queries per batch when timed in batches", low=1)
    latency_budget_seconds: float = key(
        60.0, "a system slower than this over an index is timed on fewer queries", above=0
    )
    out_of_domain_path: str | None = key(
        None, "BEIR folder outside the training domain, to measure what the model forgets"
    )
    out_of_domain_split: str = key("test", "split of its judgements")
