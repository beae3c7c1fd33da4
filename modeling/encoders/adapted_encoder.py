"""An encoder whose queries go through an adapter, while passages stay where they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tercet.core.files import read_json, write_json
from tercet.core.schema import InputError
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.protocols import SimilarityEncoder
from tercet.modeling.encoders.query_adapter import QueryAdapter
from tercet.modeling.encoders.st_format import Similarity
from tercet.modeling.encoders.vector_space import VectorSpace
from tercet.modeling.hub import push_saved, resolve
from tercet.modeling.precision import default_device

#: Files of an adapter whose encoder is behind an API; a local encoder is saved with it as one.
CONFIG, WEIGHTS = "adapter.json", "adapter.safetensors"


class AdaptedEncoder:
    """Keeps `Encoder` and `Student`; its passages' vectors are those of the encoder beneath."""

    tokenizer: Any = None

    def __init__(
        self, encoder: SimilarityEncoder, adapter: QueryAdapter, *, api: str | None = None
    ) -> None:
        """`api` names the service that `encoder` asks; None for a local `BiEncoder`."""
        self.encoder, self.adapter, self.api = encoder, adapter, api
        #: The vectors that it belongs to, where that is known.
        self.space: VectorSpace | None = None
        self._known: dict[str, np.ndarray] = {}

    @classmethod
    def fresh(
        cls, encoder: SimilarityEncoder, rank: int, *, seed: int, api: str | None = None
    ) -> AdaptedEncoder:
        """One that changes nothing yet."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = QueryAdapter(encoder.dimension, rank=rank, normalize=encoder.normalize)
        return cls(encoder, adapter.to(default_device()), api=api)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, encoder: SimilarityEncoder | None = None, **given: Any
    ) -> AdaptedEncoder:
        """A folder of `save_pretrained`, or its Hub name, over an API.

        `encoder` is what asks the API; without it one is made, with what is `given`. Raises
        InputError for a folder that is none, or of another encoder.
        """
        folder = resolve(str(path)).path
        config = read_json(folder / CONFIG)
        if config.get("api") != "cohere":
            raise InputError(f"{folder / CONFIG}: api {config.get('api')!r} is not known here")
        if encoder is None:
            # Its SDK is an extra.
            from tercet.modeling.encoders.cohere import CohereEncoder

            encoder = CohereEncoder(config["model"], output_dimension=config["dimension"], **given)
        if (encoder.name, encoder.dimension) != (config["model"], config["dimension"]):
            raise InputError(
                f"{folder} adapts {config['model']} with {config['dimension']} dimensions, not "
                f"{encoder.name} with {encoder.dimension}"
            )
        adapted = cls.fresh(encoder, config["rank"], seed=0, api=config["api"])
        adapted.adapter.load_state_dict(load_file(folder / WEIGHTS))
        adapted.adapter.eval()
        adapted.space = VectorSpace.load(folder)
        return adapted

    @property
    def name(self) -> str:
        """The encoder's."""
        return self.encoder.name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.encoder.dimension

    @property
    def similarity(self) -> Similarity:
        """The encoder's."""
        return self.encoder.similarity

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length."""
        return self.encoder.normalize

    @property
    def trained(self) -> nn.Module:
        """The adapter."""
        return self.adapter

    @property
    def device(self) -> torch.device:
        """Where the adapter is now."""
        return self.adapter.down.device

    def embed(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """As `Student.embed`, of the encoder's vectors of queries."""
        return torch.as_tensor(model(inputs["vectors"]))

    def remember(self, texts: Sequence[str]) -> np.ndarray:
        """The encoder's own vectors of queries, float32 [texts, dimension], kept to be adapted.

        Training asks for the same queries again and again, and the encoder needs no telling twice.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= zip(new, self.encoder.encode_queries(new), strict=True)
        return np.stack([self._known[text] for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        if all(text in self._known for text in texts):
            return self.adapter.apply_to(self.remember(texts))
        return self.adapter.apply_to(self.encoder.encode_queries(texts))

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [len(texts), dimension]: an adapter leaves passages as they are."""
        return self.encoder.encode_passages(texts)

    def write_files(self, path: str | Path) -> None:
        """Which encoder of an API the adapter is of; over a local one only the whole is shipped."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if self.api:
            rank = self.adapter.down.shape[1]
            config = {"model": self.name, "api": self.api, "dimension": self.dimension}
            write_json(folder / CONFIG, config | {"rank": rank})

    def save_pretrained(self, path: str | Path) -> None:
        """A query encoder as one folder: with a local model the adapter is its last layer.

        It encodes queries, and no passages: theirs are where they were.
        """
        folder = Path(path)
        if isinstance(self.encoder, BiEncoder):
            merged = self._merged(self.encoder)
            merged.space = self.space
            merged.save_pretrained(folder)
            return
        self.write_files(folder)
        weights = {name: value.cpu() for name, value in self.adapter.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        if self.space:
            self.space.save(folder)

    def _merged(self, encoder: BiEncoder) -> BiEncoder:
        other = copy.copy(encoder)
        other.backbone = copy.deepcopy(encoder.backbone)
        matrix, bias = self.adapter.matrix().T, None
        if encoder.projection is not None:
            # Lengths do not matter to what is brought to length 1 in the end.
            first = encoder.projection.weight.detach().double().cpu().numpy()
            if encoder.projection.bias is not None:
                bias = matrix @ encoder.projection.bias.detach().double().cpu().numpy()
            matrix = matrix @ first
        other.project(matrix, bias, encoder.similarity)
        return other

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a query adapter trained with Tercet",
    ) -> str:
        """Upload what `save_pretrained` writes; the commit's address. Raises InputError."""
        return push_saved(
            self.save_pretrained,
            repo_id,
            private=private,
            revision=revision,
            message=commit_message,
        )


def load_query_encoder(name_or_path: str | Path, **given: Any) -> BiEncoder | AdaptedEncoder:
    """A model folder of either kind, or a Hub name; `given` goes to its `from_pretrained`."""
    folder = resolve(str(name_or_path), given.get("revision")).path
    if (folder / CONFIG).exists():
        given.pop("revision", None)
        return AdaptedEncoder.from_pretrained(folder, **given)
    return BiEncoder.from_pretrained(name_or_path, **given)
