"""What a trainer trains: an encoder and the part of it that learns."""

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
    """An encoder that says how its vectors compare."""

    @property
    def similarity(self) -> Similarity:
        """What the dot product of two vectors is."""
        ...

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length."""
        ...


class Student(SimilarityEncoder, Protocol):
    """A `BiEncoder`, or an `AdaptedEncoder`, whose queries alone learn."""

    @property
    def trained(self) -> nn.Module:
        """The module with the weights that learn; `encode_queries` follows them."""
        ...

    @property
    def tokenizer(self) -> Any:
        """What is saved beside the weights; None where texts are not read here."""
        ...

    @property
    def device(self) -> torch.device:
        """Where `trained` is now."""
        ...

    #: The passages' vectors that it belongs to, saved with it.
    space: VectorSpace | None

    def embed(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """float32 [rows, dimension] of a side of a batch, by `trained` or what wraps it."""
        ...

    def write_files(self, path: str | Path) -> None:
        """What goes beside weights that a trainer saves."""
        ...

    def save_pretrained(self, path: str | Path) -> None:
        """A folder that can be loaded, alone."""
        ...
