"""The bi-encoder: encodes queries and passages alike in training, evaluation and once shared."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from tercet.core.console import WORTH_A_BAR, count_batch, progress
from tercet.core.schema import InputError
from tercet.modeling.batching import (
    has_position_table,
    plan_batches,
    position_limit,
    run_halving,
)
from tercet.modeling.checks import check_vocabulary
from tercet.modeling.encoders.backbones import load_backbone, width
from tercet.modeling.encoders.layers import Layers
from tercet.modeling.encoders.pooling import modes_of, pooled
from tercet.modeling.encoders.st_files import read_layers, write_config
from tercet.modeling.encoders.st_format import (
    EncoderConfig,
    Similarity,
    read_config,
    transformer_folder,
)
from tercet.modeling.encoders.texts import COUNTED, Kind as Kind, TextReader
from tercet.modeling.encoders.vector_space import VectorSpace
from tercet.modeling.hub import HubUpload, loading, quiet, resolve
from tercet.modeling.precision import Precision, default_device, faster_dtype, known_dtype

_DEFAULT_BATCH_TOKENS = {"cpu": 2_048, "cuda": 131_072}  # CPU: larger batches are slower
_MEASURED_TOKENS, _MEASURED_LENGTH = 1_024, 128  # of a batch that tells which format is faster


class BiEncoder(HubUpload):
    """A transformer with its pooling and prompts; implements `tercet.core.schema.Encoder`.

    `backbone` is the transformer, an ordinary module: train it directly, with `collate`d inputs
    and `pool` over its last hidden state, and this object encodes with the trained weights. The
    layers after pooling are its submodule `backbone.projection`, so that both are trained and saved
    together; `pool` uses it, the backbone's `forward` does not.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: Any,
        config: EncoderConfig,
        *,
        name: str,
        identity: str = "",
        precision: Precision = "auto",
        batch_tokens: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.tokenizer = tokenizer
        limit = position_limit(backbone.config)
        self.config = config.settled(limit, tokenizer.model_max_length, name)
        self.precision = precision
        self.batch_tokens = batch_tokens
        self.identity = identity
        #: The passage vectors that it encodes queries for, if it encodes queries only.
        self.space: VectorSpace | None = None
        self._name = name
        self._states: int | None = None
        self._first: int | None = self.config.truncate_dim
        self._faster: dict[tuple[str, str], torch.dtype] = {}
        if tokenizer.pad_token_id is None:
            raise InputError(f"model {name!r}: its tokenizer has no padding token")
        check_vocabulary(name, backbone, tokenizer)
        if has_position_table(backbone):
            # Padding on the left would move a text's positions, by as much as its batch is long.
            tokenizer.padding_side = "right"
        self._texts = TextReader(tokenizer, self.config)
        #: Counts of tokens and cut texts, for `tercet.core.resources`.
        self.counts = self._texts.counts
        known_dtype(precision, "cpu")  # refuses an unknown precision now, not after hours
        for parameter_name, parameter in backbone.named_parameters():
            # `pool` does not use it: data-parallel training would wait for its gradient.
            if parameter_name.startswith("pooler."):
                parameter.requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        pooling: str | None = None,
        similarity: Similarity | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        max_length: int | None = None,
        query_max_length: int | None = None,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
        batch_tokens: int | None = None,
    ) -> BiEncoder:
        """Load a local folder or a Hub name, in float32, with the settings in its files.

        An argument that is not None overrides a file. Similarity is cosine, and lengths are 512
        tokens or the model's limit, where nothing says them; `pooling` has to be given for a folder
        without modules.json, but for some well-known names. Raises InputError for a model that
        cannot be reproduced.
        """
        name = str(name_or_path)
        with loading(name):
            model = resolve(name, revision)
            overrides: dict[str, Any] = {
                "pooling": pooling,
                "similarity": similarity,
                "query_prompt": query_prompt,
                "passage_prompt": passage_prompt,
                "max_length": max_length,
                "query_max_length": query_max_length,
            }
            given = {key: value for key, value in overrides.items() if value is not None}
            config = read_config(model.path, name, pooling)
            inner = transformer_folder(model.path)
            backbone, tokenizer = load_backbone(name, inner, static=config.static)
            layers = read_layers(model.path, config)
            encoder = cls(
                backbone.to(device or default_device()),
                tokenizer,
                config.within(position_limit(backbone.config)).overridden(given),
                name=name,
                identity=model.identity,
                precision=precision,
                batch_tokens=batch_tokens,
            )
            encoder._look()
            if layers is not None:
                encoder._attach(layers)
            encoder.space = VectorSpace.load(model.path)
        return encoder

    @property
    def name(self) -> str:
        """The name or path of the model."""
        return self._name

    def _look(self) -> None:
        """See that the network reads texts of unequal length, and how wide its states are."""
        ids = [[i % self._vocabulary for i in range(first, 8)] for first in (1, 4)]
        inputs = {key: value.to(self.device) for key, value in self.collate(ids).items()}
        self._states = width(self.name, self.backbone, inputs)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._first or self._whole

    @property
    def _whole(self) -> int:
        widths = [] if self.projection is None else self.projection.widths()
        return next((each[1] for each in reversed(widths) if each), self._pooled)

    @property
    def _hidden(self) -> int:
        return self._states or int(self.backbone.config.get_text_config().hidden_size)

    @property
    def _pooled(self) -> int:
        return self._hidden * len(modes_of(self.config.pooling))

    @property
    def _vocabulary(self) -> int:
        return int(self.backbone.config.get_text_config().vocab_size)

    @property
    def projection(self) -> Layers | None:
        """The float32 layers between pooling and the vector, or None."""
        if not self.config.layers:
            return None
        layers: Layers = self.backbone.projection
        return layers

    def project(self, weight: np.ndarray, bias: np.ndarray | None, similarity: Similarity) -> None:
        """Map vectors into the space of another model, whose `similarity` they then have.

        A vector becomes `weight` [out, in] times it, plus `bias` [out]; both are trained with the
        backbone, after the layers that are there. Raises InputError for a wrong `in`.
        """
        if self._first:
            raise InputError(
                f"model {self.name!r} keeps {self._first} dimensions of its vectors: they cannot be"
                " mapped into another space"
            )
        before = self.projection or Layers((), ())
        moved = None if bias is None else torch.as_tensor(bias)
        layers = before.with_dense(torch.as_tensor(weight), moved, unit=self.normalize)
        self._attach(layers.to(self.device))
        self.config = replace(self.config, similarity=similarity, layers=layers.specs)

    def _attach(self, layers: Layers) -> None:
        """Make `layers` the backbone's. Raises InputError if their widths do not fit."""
        given = self._pooled
        for taken in filter(None, layers.widths()):
            if taken[0] != given:
                raise InputError(
                    f"model {self.name!r} has vectors of {given} dimensions, and its projection"
                    f" takes {taken[0]}"
                )
            given = taken[1]
        self.backbone.add_module("projection", layers.to(self.device))

    @property
    def has_segments(self) -> bool:
        """Whether a single text has token types other than 0."""
        return bool(self._texts.segments)

    def skipped(self, kind: Kind) -> int:
        """How many of the first tokens of a text of this `kind` pooling leaves out."""
        return self._texts.skipped[kind]

    def truncated(self, dimension: int) -> BiEncoder:
        """Return the same model with vectors of the first `dimension` dimensions.

        Raises InputError for a `dimension` out of range.
        """
        if not 1 <= dimension <= self.dimension:
            raise InputError(
                f"model {self.name!r} has {self.dimension} dimensions: truncate_dim {dimension}"
            )
        other = copy.copy(self)
        other._first = dimension
        return other

    @property
    def similarity(self) -> Similarity:
        """How vectors compare: by "cosine" (they are unit vectors) or "dot"."""
        return self.config.similarity

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length."""
        return self.config.similarity == "cosine"

    @property
    def device(self) -> torch.device:
        """The backbone's current device: a trainer may move it."""
        return next(self.backbone.parameters()).device

    def dtype_of(self, use: Literal["encode", "train"]) -> torch.dtype:
        """The format of its matrix products, measured where `precision` is "auto".

        Its `precision` is that of encoding; the faster format of training may be another.
        """
        device = self.device
        known = known_dtype(self.precision if use == "encode" else "auto", device)
        if known is not None:
            return known
        key = use, device.type
        if key not in self._faster:
            work = self._encode_once if use == "encode" else self._learn_once
            self._faster[key] = faster_dtype(use, self.backbone.config, device, work)
        return self._faster[key]

    def _encode_once(self, dtype: torch.dtype) -> None:
        with self._inference(dtype):
            self._embed_once()

    def _learn_once(self, dtype: torch.dtype) -> None:
        learned = [p for p in self.backbone.parameters() if p.requires_grad]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            vectors = self._embed_once(_MEASURED_TOKENS // 2)
        torch.autograd.grad(vectors.square().sum(), learned, allow_unused=True)

    def _embed_once(self, tokens: int = _MEASURED_TOKENS) -> Tensor:
        """Encode a batch of made-up tokens of a passage's usual length."""
        length = min(_MEASURED_LENGTH, self.config.max_length or _MEASURED_LENGTH)
        ids = torch.arange(tokens // length * length, device=self.device)
        ids = (ids * 31 % self._vocabulary).view(-1, length)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return self.embed(self.backbone, inputs)

    def pool(
        self, last_hidden_state: Tensor, attention_mask: Tensor, counted: Tensor | None = None
    ) -> Tensor:
        """Pool token states [batch, tokens, hidden] to vectors, float32 [batch, dimension].

        `counted` [batch, tokens] is 0 at tokens that are left out, besides those of padding.
        """
        mask = attention_mask if counted is None else counted
        vectors = pooled(self.config.pooling, last_hidden_state.float(), attention_mask, mask)
        if self.projection is not None:
            vectors = self.projection(vectors)
        vectors = vectors[:, : self._first]
        return F.normalize(vectors, dim=-1) if self.normalize else vectors

    @property
    def trained(self) -> nn.Module:
        """The module that a trainer trains."""
        return self.backbone

    def embed(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Encode `collate`d inputs with `trained` or its wrapper; float32 [texts, dimension]."""
        read = {name: value for name, value in inputs.items() if name != COUNTED}
        states = model(**read).last_hidden_state
        return self.pool(states, inputs["attention_mask"], inputs.get(COUNTED))

    def tokenize(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        """Token ids of each text with its prompt and special tokens, truncated; not padded."""
        return self._texts.tokenize(texts, kind)

    def collate(
        self, ids: Sequence[Sequence[int] | np.ndarray], kind: Kind | None = None
    ) -> dict[str, Tensor]:
        """Return what `embed` reads, as `TextReader.collate`."""
        return self._texts.collate(ids, kind)

    def batches(self, lengths: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the batches of `encode` for texts of these token counts, as positions."""
        return plan_batches(lengths, self.tokens_at_once)

    @property
    def tokens_at_once(self) -> int:
        """Tokens in a batch of `encode`, padding included."""
        return self.batch_tokens or _DEFAULT_BATCH_TOKENS.get(self.device.type, 8_192)

    def encode_queries(
        self, texts: Sequence[str], *, show_progress: str | None = None
    ) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; `show_progress` titles a bar."""
        return self.encode(texts, "query", show_progress=show_progress)

    def encode_passages(
        self, texts: Sequence[str], *, show_progress: str | None = None
    ) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; `show_progress` titles a bar.

        Raises InputError if only queries were trained, towards passage vectors that stay fixed.
        """
        if self.space:
            raise InputError(
                f"model {self.name!r} encodes queries alone, for {self.space.place}: its passages "
                "keep the vectors that they have there"
            )
        return self.encode(texts, "passage", show_progress=show_progress)

    def encode(
        self, texts: str | Sequence[str], kind: Kind = "query", *, show_progress: str | None = None
    ) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; one text gives [dimension].

        `kind` chooses the prompt and the length; `show_progress` titles a bar. Raises InputError
        naming a text whose vector is not finite or is zero.
        """
        if isinstance(texts, str):
            return self.encode([texts], kind)[0]
        ids = self._texts.arrays(texts, kind)
        # Sorted by content: the vectors do not depend on the order of `texts`.
        order = np.array(sorted(range(len(ids)), key=lambda i: ids[i].tobytes()), dtype=np.int64)
        vectors = np.empty((len(ids), self.dimension), dtype=np.float32)
        shown = show_progress is not None and len(ids) >= WORTH_A_BAR
        unit = "queries" if kind == "query" else "passages"
        bar = progress(show_progress or "", len(ids), unit, shown=shown)
        with self._inference(self.dtype_of("encode")), bar as advance:
            for places in self.batches([len(ids[i]) for i in order]):
                batch = order[places]
                rows = run_halving(lambda part: self._vectors([ids[i] for i in part], kind), batch)
                self._check(rows, batch, texts, kind)
                vectors[batch] = rows
                advance(len(batch))
                count_batch(len(batch), sum(len(ids[i]) for i in batch))
        return vectors

    def set_dropout(self, p: float) -> None:
        """Set the probability of every dropout in the backbone, but not in its config."""
        for module in self.backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = p
            for key, value in list(vars(module).items()):  # ModernBERT's attention: a plain number
                if "dropout" in key and isinstance(value, int | float):
                    setattr(module, key, p)
            for key, child in list(module.named_children()):  # and an Identity where it was zero
                if "drop" in key and isinstance(child, nn.Identity):
                    setattr(module, key, nn.Dropout(p).train(module.training))

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder that AutoModel, SentenceTransformer and `from_pretrained` load."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        # The projection has its own file: a plain AutoModel has no such weights.
        weights = {
            name: value
            for name, value in self.backbone.state_dict().items()
            if not name.startswith("projection.")
        }
        with quiet():
            self.backbone.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)
        self.write_files(folder)
        if self.space:
            self.space.save(folder)

    def write_files(self, path: str | Path) -> None:
        """Write pooling, projection, prompts and lengths beside weights that a trainer saves."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        # Truncation is not saved: the weights are those of full vectors.
        write_config(folder, self.config, self._hidden, self.projection)

    def _vectors(self, ids: Sequence[np.ndarray], kind: Kind) -> np.ndarray:
        inputs = {key: value.to(self.device) for key, value in self.collate(ids, kind).items()}
        return self.embed(self.backbone, inputs).cpu().numpy()

    @contextmanager
    def _inference(self, dtype: torch.dtype) -> Iterator[None]:
        training, device = self.backbone.training, self.device
        if training:  # visiting all modules takes a millisecond, much for a single query
            self.backbone.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
            ):
                yield
        finally:
            if training:
                self.backbone.train()

    def _check(self, rows: np.ndarray, batch: np.ndarray, texts: Sequence[str], kind: Kind) -> None:
        wrong = ~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1)
        if wrong.any():
            position = int(batch[wrong.argmax()])
            raise InputError(
                f"model {self.name!r}: the vector of {kind} {position} is not finite or is zero"
                f" (it begins {texts[position][:60]!r}); precision fp32 may help"
            )
