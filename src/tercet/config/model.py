"""What a recipe may say of the model that learns, and of the passages' vectors it learns beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tercet.config.parsing import key


@dataclass(frozen=True)
class ModelSection:
    """The bi-encoder to adapt."""

    name: str = key(
        "sentence-transformers/msmarco-distilbert-base-tas-b",
        "folder or Hub name; with `api` the service's name of it",
    )
    revision: str | None = key(None, "Hub revision")
    train: Literal["both", "query_encoder", "query_adapter"] = key(
        "both",
        "what learns; query_encoder: the model itself for queries alone, projected where another "
        "model made the passage vectors; query_adapter: a low-rank map of query vectors",
    )
    passage_vectors: str = key(
        "encode",
        "query_encoder, query_adapter: the frozen passage vectors; encode: by this model, once; "
        "corpus: the column corpus.passages.vector; index: those in index.collection; or a Parquet "
        "file of id and vector",
    )
    api: Literal["cohere"] | None = key(
        None,
        "query_adapter: the service that embeds queries, each paid for once; unset: a local model",
    )
    dollars: float | None = key(
        None, "api: what embedding may cost in one call of the program, which stops before", low=0
    )
    adapter_rank: int = key(64, "query_adapter: rank of the map", low=1)
    adapter_penalty: float = key(
        0.01, "query_adapter: weight of the mean squared way that query vectors are moved", low=0
    )
    regression_passages: int = key(
        100_000,
        "query_encoder: passages, a seeded sample, from which the projection into the space of "
        "another model's passage vectors is fitted",
        low=20,
    )
    pooling: Literal["mean", "cls"] | None = key(None, "unset: the model's own, else mean")
    similarity: Literal["dot", "cosine"] | None = key(
        None,
        "unset: the model's own, else cosine; of given passage vectors the index's, else cosine "
        "where they are of unit length and dot where not",
    )
    query_prompt: str | None = key(None, "put before queries; unset: the model's own")
    passage_prompt: str | None = key(None, "put before passages; unset: the model's own")
    max_length: int | None = key(None, "tokens a passage; unset: the model's own", low=8)
    query_max_length: int | None = key(None, "tokens a query; unset: as passages", low=8)
    precision: Literal["auto", "fp32", "bf16"] = key(
        "auto", "arithmetic of encoding; auto: bf16 where the hardware has it"
    )
    dropout: float = key(0.0, "dropout while training; distillation wants none", low=0, high=0.9)
    lora_rank: int | None = key(
        None,
        "LoRA: train updates of this rank to the linear layers instead of all weights, with a "
        "learning rate some ten times as high; they are merged into the model that ships",
        low=1,
    )
    lora_alpha: int | None = key(
        None, "LoRA: the updates count alpha / rank times; unset: twice", low=1
    )

    @property
    def frozen(self) -> bool:
        """Whether the passages' vectors stay as they are."""
        return self.train != "both"

    @property
    def adapter(self) -> bool:
        """Whether a map of query vectors is all that learns."""
        return self.train == "query_adapter"

    @property
    def given(self) -> bool:
        """Whether the passages' vectors exist already."""
        return self.frozen and self.passage_vectors != "encode"

    def misplaced(self) -> str | None:
        """What is set here and would change nothing, in words; None if all is well."""
        plain = ModelSection()
        readers = {
            "model.train query_encoder or query_adapter": (self.frozen, ("passage_vectors",)),
            "model.train: query_adapter": (
                self.adapter,
                ("api", "adapter_rank", "adapter_penalty"),
            ),
            "model.api": (self.api is not None, ("dollars",)),
            "the model itself learning": (
                not self.adapter,
                ("dropout", "lora_rank", "lora_alpha"),
            ),
            "a model that is read here": (
                self.api is None,
                ("revision", "pooling", "query_prompt", "passage_prompt", "max_length")
                + ("query_max_length", "precision"),
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
