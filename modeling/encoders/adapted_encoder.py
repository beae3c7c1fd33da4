"""An encoder with an adapter on its queries; the passages' vectors stay as they are."""

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
from tercet.modeling.checks import check_finite
from tercet.modeling.encoders.api_encoder import ApiEncoder
from tercet.modeling.encoders.bi_encoder import BiEncoder, Kind
from tercet.modeling.encoders.protocols import SimilarityEncoder
from tercet.modeling.encoders.query_adapter import QueryAdapter
from tercet.modeling.encoders.services import open_service
from tercet.modeling.encoders.st_format import Similarity
from tercet.modeling.encoders.vector_space import VectorSpace
from tercet.modeling.hub import HubUpload, loading, resolve
from tercet.modeling.precision import default_device

#: Files of an adapter over an API's encoder; over a local one, both are saved as one model.
CONFIG, _WEIGHTS = "adapter.json", "adapter.safetensors"


class AdaptedEncoder(HubUpload):
    """An encoder with a trainable query adapter; implements `Student`.

    Passages are encoded by the underlying encoder, without the adapter.
    """

    tokenizer: Any = None

    def __init__(
        self, encoder: SimilarityEncoder, adapter: QueryAdapter, *, api: str | None = None
    ) -> None:
        """`api` names the service behind `encoder`; None for a local `BiEncoder`."""
        self.encoder, self.adapter, self.api = encoder, adapter, api
        #: The passage vectors that it was trained for, if known.
        self.space: VectorSpace | None = None
        self._known: dict[str, np.ndarray] = {}

    @classmethod
    def fresh(
        cls, encoder: SimilarityEncoder, rank: int, *, seed: int, api: str | None = None
    ) -> AdaptedEncoder:
        """Return one with a new adapter, which does not change queries yet."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = QueryAdapter(encoder.dimension, rank=rank, normalize=encoder.normalize)
        return cls(encoder, adapter.to(default_device()), api=api)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, encoder: SimilarityEncoder | None = None, **given: Any
    ) -> AdaptedEncoder:
        """Load an adapter over an API from a folder of `save_pretrained` or its Hub name.

        Without `encoder` one is made, with the arguments `given`. Raises InputError for a folder
        of another kind or of another encoder.
        """
        folder = resolve(str(path)).path
        config = read_json(folder / CONFIG)
        if config.get("api") not in ("cohere", "openai"):
            raise InputError(f"{folder / CONFIG}: api {config.get('api')!r} is not known here")
        if encoder is None:
            given = {k: v for k, v in config.items() if k != "rank"} | given
            encoder = open_service(given.pop("api"), given.pop("model"), **given)
        if (encoder.name, encoder.dimension) != (config["model"], config["dimension"]):
            raise InputError(
                f"{folder} adapts {config['model']} with {config['dimension']} dimensions, not "
                f"{encoder.name} with {encoder.dimension}"
            )
        adapted = cls.fresh(encoder, config["rank"], seed=0, api=config["api"])
        with loading(str(path)):
            adapted.adapter.load_state_dict(load_file(folder / _WEIGHTS))
            check_finite(str(path), adapted.adapter)
            adapted.adapter.eval()
            adapted.space = VectorSpace.load(folder)
        return adapted

    @property
    def name(self) -> str:
        """The underlying encoder's."""
        return self.encoder.name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.encoder.dimension

    @property
    def similarity(self) -> Similarity:
        """The underlying encoder's."""
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
        """The adapter's current device."""
        return self.adapter.down.device

    def embed(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Apply the adapter to the encoder's vectors of queries, as `Student.embed`."""
        return torch.as_tensor(model(inputs["vectors"]))

    def remember(self, texts: Sequence[str]) -> np.ndarray:
        """Encode queries without the adapter and cache them; float32 [texts, dimension].

        Every epoch and evaluation uses the same queries, which an API would charge for each time.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= zip(new, self.encoder.encode_queries(new), strict=True)
        return np.stack([self._known[text] for text in texts])

    def encode(self, texts: str | Sequence[str], kind: Kind = "query") -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; one text gives [dimension]."""
        return self.encode_queries(texts) if kind == "query" else self.encode_passages(texts)

    def encode_queries(self, texts: str | Sequence[str]) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; one text gives [dimension]."""
        if isinstance(texts, str):
            return self.encode_queries([texts])[0]
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        if all(text in self._known for text in texts):
            return self.adapter.apply_to(self.remember(texts))
        return self.adapter.apply_to(self.encoder.encode_queries(texts))

    def encode_passages(self, texts: str | Sequence[str]) -> np.ndarray:
        """float32 [len(texts), dimension], by the underlying encoder; one text: [dimension]."""
        return self.encoder.encode_passages(texts)

    def write_files(self, path: str | Path) -> None:
        """Write the API's encoder that the adapter belongs to; nothing over a local encoder."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        if self.api:
            rank = self.adapter.down.shape[1]
            config = {"model": self.name, "api": self.api, "dimension": self.dimension}
            own = self.encoder.settings() if isinstance(self.encoder, ApiEncoder) else {}
            write_json(folder / CONFIG, config | own | {"rank": rank})

    def save_pretrained(self, path: str | Path) -> None:
        """Write a query encoder as one folder; the adapter becomes a local model's last layer.

        It encodes queries only: passages keep their existing vectors.
        """
        folder = Path(path)
        if isinstance(self.encoder, BiEncoder):
            merged = self._merged(self.encoder)
            merged.space = self.space
            merged.save_pretrained(folder)
            return
        self.write_files(folder)
        weights = {name: value.cpu() for name, value in self.adapter.state_dict().items()}
        save_file(weights, folder / _WEIGHTS)
        if self.space:
            self.space.save(folder)

    def _merged(self, encoder: BiEncoder) -> BiEncoder:
        other = copy.copy(encoder)
        other.backbone = copy.deepcopy(encoder.backbone)
        other.project(self.adapter.matrix().T, None, encoder.similarity)
        return other


def load_query_encoder(name_or_path: str | Path, **given: Any) -> BiEncoder | AdaptedEncoder:
    """Load a model of either kind by folder or Hub name; `given` goes to `from_pretrained`."""
    folder = resolve(str(name_or_path), given.get("revision")).path
    if (folder / CONFIG).exists():
        given.pop("revision", None)
        return AdaptedEncoder.from_pretrained(folder, **given)
    return BiEncoder.from_pretrained(name_or_path, **given)
