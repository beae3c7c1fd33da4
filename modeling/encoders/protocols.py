"""Protocols of encoders that can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tercet.core.schema import Encoder
from tercet.modeling.encoders.st_format import Similarity
from tercet.modeling.encoders.vector_space import VectorSpace


class SimilarityEncoder(Encoder, Protocol):
    """An encoder with the similarity of its vectors."""

    @property
    def similarity(self) -> Similarity:
        """How vectors compare: "cosine" or "dot"."""
        ...

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length."""
        ...


class Student(SimilarityEncoder, Protocol):
    """A trainable encoder: a `BiEncoder`, or an `AdaptedEncoder`, which trains queries only."""

    @property
    def trained(self) -> nn.Module:
        """The module that is trained; `encode_queries` uses its current weights."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, saved beside the weights; None if the student reads vectors."""
        ...

    @property
    def device(self) -> torch.device:
        """The current device of `trained`."""
        ...

    #: The passage vectors that it was trained for, saved with it.
    space: VectorSpace | None

    def embed(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Encode a side of a batch with `model`, `trained` or its wrapper; [rows, dimension]."""
        ...

    def write_files(self, path: str | Path) -> None:
        """Write the files that belong beside the weights that a trainer saves."""
        ...

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder that can be loaded on its own."""
        ...
