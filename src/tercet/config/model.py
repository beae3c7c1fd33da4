"""The `model` section: the bi-encoder, the trained part of it, and the passage vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tercet.config.parsing import key, request_fields

#: How the vectors of a text's tokens become one.
PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


@dataclass(frozen=True)
class ModelSection:
    """The bi-encoder to adapt."""

    name: str = key(
        "sentence-transformers/all-MiniLM-L6-v2",
        "folder or Hub name; with `api` the service's model name",
    )
    revision: str | None = key(None, "Hub revision")
    train: Literal["both", "query_encoder", "query_adapter"] = key(
        "both",
        "trained part; query_encoder: the model for queries alone, projected if another model made "
        "the passage vectors; query_adapter: a low-rank map of query vectors",
    )
    passage_vectors: str = key(
        "encode",
        "frozen passage vectors (query_encoder, query_adapter); encode: by this model; corpus: "
        "column corpus.passages.vector; index: of index.collection; or a Parquet of id and vector",
    )
    api: Literal["cohere", "openai"] | None = key(
        None,
        "embedding service (query_adapter): Cohere's, or any with OpenAI's /embeddings; each text "
        "is paid for once; unset: a local model",
    )
    endpoint: str | None = key(
        None, "base URL of the service (api openai); unset: https://api.openai.com/v1"
    )
    key_variable: str | None = key(
        None, "environment variable of the key; unset: OPENAI_API_KEY (api openai)"
    )
    dollars_per_million_tokens: float | None = key(
        None, "price of the service; unset: that of its list, else unknown (api)", low=0
    )
    dollars: float | None = key(
        None,
        "budget in US dollars of one program call, which stops before exceeding it (api)",
        low=0,
    )
    adapter_rank: int = key(64, "rank of the map (query_adapter)", low=1)
    adapter_penalty: float = key(
        0.01, "weight of the mean squared displacement of query vectors (query_adapter)", low=0
    )
    regression_passages: int = key(
        100_000,
        "sample of passages on which the projection to another model's passage vectors is fitted "
        "(query_encoder)",
        low=20,
    )
    pooling: PoolingMode | None = key(
        None,
        "how token vectors become one; unset: that of the model; needed for a folder without "
        "modules.json, but for well-known names",
    )
    similarity: Literal["dot", "cosine"] | None = key(
        None,
        "unset: that of the model, else cosine; with given passage vectors that of the index, else "
        "cosine for unit vectors and dot for others",
    )
    query_prompt: str | list[str] | None = key(
        None,
        "prefix of queries; a list: that of these and none with which the base model finds most "
        "synthetic queries' passages; unset: that of the model",
    )
    passage_prompt: str | None = key(None, "prefix of passages; unset: that of the model")
    query_request: dict[str, Any] = request_fields(
        "further fields of a request for queries, such as {input_type: query} (api openai)"
    )
    passage_request: dict[str, Any] = request_fields(
        "further fields of a request for passages (api openai)"
    )
    max_length: int | None = key(
        None, "maximum tokens of a passage; unset: that of the model", low=8
    )
    query_max_length: int | None = key(
        None, "maximum tokens of a query; unset: as for passages", low=8
    )
    precision: Literal["auto", "fp32", "bf16"] = key(
        "auto",
        "precision of encoding; auto: bf16 if it is measured to be 10% faster here, else fp32; "
        "kept by the run",
    )
    dropout: float = key(0.0, "dropout in training; 0 suits distillation", low=0, high=0.9)
    lora_rank: int | None = key(
        None,
        "train LoRA updates of this rank instead of all weights, with about ten times the learning "
        "rate; they are merged into the final model",
        low=1,
    )
    lora_alpha: int | None = key(
        None, "LoRA updates are scaled by alpha / rank; unset: twice the rank", low=1
    )

    @property
    def frozen(self) -> bool:
        """Whether the passage vectors are frozen."""
        return self.train != "both"

    @property
    def adapter(self) -> bool:
        """Whether only a map of query vectors is trained."""
        return self.train == "query_adapter"

    @property
    def given(self) -> bool:
        """Whether the passage vectors are precomputed."""
        return self.frozen and self.passage_vectors != "encode"

    def misplaced(self) -> str | None:
        """A key that is set but has no effect, with the setting that it belongs to, or None."""
        plain = ModelSection()
        if isinstance(self.query_prompt, list) and (self.api or self.given):
            return "a list as model.query_prompt belongs to a local model of the passages' vectors"
        readers = {
            "model.train query_encoder or query_adapter": (self.frozen, ("passage_vectors",)),
            "model.train: query_adapter": (
                self.adapter,
                ("api", "adapter_rank", "adapter_penalty"),
            ),
            "model.api": (self.api is not None, ("dollars", "dollars_per_million_tokens")),
            "model.api: openai": (
                self.api == "openai",
                ("endpoint", "key_variable", "query_request", "passage_request"),
            ),
            "training the model itself": (
                not self.adapter,
                ("dropout", "lora_rank", "lora_alpha"),
            ),
            "a local model": (
                self.api is None,
                ("revision", "pooling", "query_max_length", "precision"),
            ),
            "a local model, or model.api: openai": (
                self.api != "cohere",
                ("query_prompt", "passage_prompt", "max_length"),
            ),
            "model.passage_vectors of another model": (
                self.given and not self.adapter,
                ("regression_passages",),
            ),
        }
        for reader, (reads, names) in readers.items():
            for name in names:
                if not reads and getattr(self, name) != getattr(plain, name):
                    return f"model.{name} belongs to {reader}"
        return None
