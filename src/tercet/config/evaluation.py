"""The `evaluation` section and the systems that eval.py compares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tercet.config.index import ComparedIndex
from tercet.config.parsing import key

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
    primary_metric: str = key("ndcg@10", "the metric that systems are tested on")
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
    latency_queries: int = key(3000, "queries timed, 0 for none", low=0)
    latency_batch_size: int = key(64, "queries a batch, where they are timed in batches", low=1)
    latency_budget_seconds: float = key(
        60.0, "a system and index slower than this are timed on fewer queries", above=0
    )
    out_of_domain_path: str | None = key(
        None, "BEIR folder that nothing was adapted to: what does the model forget?"
    )
    out_of_domain_split: str = key("test", "its judgements")
