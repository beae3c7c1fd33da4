"""The teacher: a frozen cross-encoder that scores a query and a passage read together."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from transformers import AutoModelForSequenceClassification

from tercet.core.console import count_batch
from tercet.core.schema import InputError
from tercet.modeling.batching import (
    cut_count,
    cut_texts,
    pad,
    plan_batches,
    position_limit,
    run_halving,
    shortened,
)
from tercet.modeling.hub import SAFETENSORS, load_model, load_tokenizer, local_folder, resolve
from tercet.modeling.precision import (
    Precision,
    default_device,
    faster_dtype,
    known_dtype,
    name_of,
)

_Backend = Literal["auto", "torch", "onnx"]
#: Padded inputs, int64 [batch, tokens] by name -> raw logits, float32 [batch, labels].
_Forward = Callable[[dict[str, np.ndarray]], np.ndarray]

_ONNX = ("model.onnx", "onnx/model.onnx")
_DEFAULT_MAX_LENGTH = 256
_MIN_MAX_LENGTH = 16
_ONNX_LENGTH_LIMIT = 512  # not in the file; no known cross-encoder has less
_DEFAULT_BATCH_TOKENS = {"cpu": 1_024, "cuda": 65_536}  # CPU: larger batches are slower
_TOKENIZE_AT_ONCE = 4_096  # pairs
_MEASURED_TOKENS, _MEASURED_LENGTH = 1_024, 128  # of a batch that tells which format is faster


class CrossEncoderTeacher:
    """A cross-encoder with one label; implements `tercet.core.schema.Teacher`.

    A pair is truncated to `max_length` tokens by cutting the passage; a query is cut only if it is
    longer than half of that, to half.
    """

    def __init__(
        self,
        forward: _Forward,
        tokenizer: Any,
        input_names: Sequence[str],
        *,
        name: str,
        identity: str,
        max_length: int,
        batch_tokens: int,
        precision: Precision = "auto",
    ) -> None:
        """`precision` is what `forward` computes in; "auto" for an ONNX file, which decides."""
        self.tokenizer = tokenizer
        self.precision = precision
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.identity = identity
        #: Counts of tokens and cut texts, for `tercet.core.resources`.
        self.counts: Counter[str] = Counter()
        self._forward = forward
        self._input_names = list(input_names)
        self._name = name

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        backend: _Backend = "auto",
        max_length: int | None = None,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
        batch_tokens: int | None = None,
    ) -> CrossEncoderTeacher:
        """Load a local folder or a Hub name; "auto" runs ONNX if a folder has nothing else.

        `max_length` defaults to 256 tokens or the model's limit. `precision` and `device` apply to
        torch only: an ONNX file has its own precision. Raises InputError for a model that does
        not give exactly one logit.
        """
        name = str(name_or_path)
        model = resolve(name, revision, weight_files(name, backend))
        onnx = is_onnx(name, backend)
        place = torch.device(device or default_device())
        tokenizer = load_tokenizer(name, model.path)
        if onnx:
            forward, input_names = _onnx_forward(name, model.path)
            limit = min(tokenizer.model_max_length, _ONNX_LENGTH_LIMIT)
        else:
            network = load_model(
                AutoModelForSequenceClassification, name, model.path, dtype=torch.float32
            )
            network = network.to(place)
            dtype = known_dtype(precision, place) or faster_dtype(
                "score", network.config, place, lambda dtype: _score_once(network, dtype)
            )
            forward, precision = _torch_forward(network, dtype), name_of(dtype)
            accepted = inspect.signature(network.forward).parameters
            input_names = [key for key in tokenizer.model_input_names if key in accepted]
            limit = position_limit(network.config)
        longest = max_length or min(_DEFAULT_MAX_LENGTH, limit)
        if not _MIN_MAX_LENGTH <= longest <= limit:
            raise InputError(
                f"model {name!r} takes {_MIN_MAX_LENGTH} to {limit} tokens,"
                f" but max_length is {longest}"
            )
        teacher = cls(
            forward,
            tokenizer,
            input_names,
            name=name,
            identity=model.identity,
            max_length=longest,
            batch_tokens=batch_tokens
            or _DEFAULT_BATCH_TOKENS.get("cpu" if onnx else place.type, 8_192),
            precision=precision,
        )
        teacher.score([("one", "logit")])  # refuses a model of another kind now
        return teacher

    @property
    def name(self) -> str:
        """The name or path of the model."""
        return self._name

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """int64 [len(pairs)]: tokens of each pair after truncation, special ones included."""
        # Each text once: a pair's tokens are those of its two texts and the special tokens.
        query = self._alone(dict.fromkeys(query for query, _ in pairs))
        passage = self._alone(dict.fromkeys(passage for _, passage in pairs))
        special = self.tokenizer.num_special_tokens_to_add(pair=True)
        whole = [min(query[q], self.max_length // 2) + passage[p] + special for q, p in pairs]
        return np.minimum(np.array(whole, dtype=np.int64), self.max_length)

    def _alone(self, different: Iterable[str]) -> dict[str, int]:
        """Count the tokens of each text, without special ones."""
        texts, lengths = list(different), list[int]()
        for start in range(0, len(texts), _TOKENIZE_AT_ONCE):
            encoded = self.tokenizer(
                texts[start : start + _TOKENIZE_AT_ONCE],
                add_special_tokens=False,
                truncation=True,  # tokens beyond the pair's limit do not count
                max_length=self.max_length,
            )
            lengths += map(len, encoded["input_ids"])
        return dict(zip(texts, lengths, strict=True))

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """float32 [len(pairs)] raw logits, in the order given.

        Raises InputError naming a pair whose logit is not finite.
        """
        if len(pairs) == 2 and isinstance(pairs[0], str):
            raise InputError(f"model {self.name!r} scores a list of pairs: [(query, passage)]")
        tokens = self._tokenize(pairs)
        self.counts["tokens"] += sum(map(len, tokens["input_ids"]))
        scores = np.empty(len(pairs), dtype=np.float32)
        for batch in plan_batches([len(row) for row in tokens["input_ids"]], self.batch_tokens):
            scores[batch] = run_halving(lambda part: self._logits(tokens, part), batch)
            count_batch(len(batch), sum(len(tokens["input_ids"][i]) for i in batch))
        wrong = np.flatnonzero(~np.isfinite(scores))
        if wrong.size:
            query, passage = pairs[wrong[0]]
            raise InputError(
                f"model {self.name!r}: the logit of pair {wrong[0]} is {scores[wrong[0]]}"
                f" (query {query[:60]!r}, passage {passage[:60]!r}); precision fp32 may help"
            )
        return scores

    def _tokenize(self, pairs: Sequence[tuple[str, str]]) -> dict[str, list[np.ndarray]]:
        queries = list(dict.fromkeys(query for query, _ in pairs))
        # With the query at most half, cutting the passage suffices.
        cut = dict(
            zip(queries, cut_texts(self.tokenizer, queries, self.max_length // 2), strict=True)
        )
        # A passage is in many pairs, and a long one is read once for all of them.
        short = shortened(self.tokenizer, (passage for _, passage in pairs), self.max_length)
        names = [name for name in self._input_names if name != "attention_mask"]
        tokens: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for start in range(0, len(pairs), _TOKENIZE_AT_ONCE):
            chunk = pairs[start : start + _TOKENIZE_AT_ONCE]
            encoded = self.tokenizer(
                [cut[query] for query, _ in chunk],
                [short.get(passage, passage) for _, passage in chunk],
                truncation="only_second",
                max_length=self.max_length,
                return_token_type_ids="token_type_ids" in names,
            )
            self.counts["cut"] += cut_count(encoded, self.max_length)
            for name in names:
                tokens[name] += [np.array(row, dtype=np.int32) for row in encoded[name]]
        return tokens

    def _logits(self, tokens: dict[str, list[np.ndarray]], batch: np.ndarray) -> np.ndarray:
        inputs = {}
        for name, rows in tokens.items():
            fill = self.tokenizer.pad_token_id if name == "input_ids" else 0
            inputs[name], inputs["attention_mask"] = pad([rows[i] for i in batch], fill)
        logits = self._forward(inputs)
        if logits.shape != (len(batch), 1):
            raise InputError(
                f"model {self.name!r} gives {logits.shape[-1]} labels to a pair:"
                " a teacher is a cross-encoder with one"
            )
        return logits[:, 0]


def weight_files(name: str, backend: _Backend) -> tuple[str, ...]:
    """Return the patterns of the weight files that `CrossEncoderTeacher` reads."""
    return _ONNX if is_onnx(name, backend) else SAFETENSORS


def is_onnx(name: str, backend: _Backend) -> bool:
    """Whether a teacher is read from an ONNX file, which has its own number format."""
    return backend == "onnx" or (backend == "auto" and _is_onnx_only(name))


def _torch_forward(model: Any, dtype: torch.dtype) -> _Forward:
    device = model.device

    def forward(inputs: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(rows).to(device) for name, rows in inputs.items()}
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        ):
            logits = model(**tensors).logits
        return logits.float().cpu().numpy()

    return forward


def _score_once(network: Any, dtype: torch.dtype) -> None:
    """Score made-up pairs of a usual length."""
    length = min(_MEASURED_LENGTH, position_limit(network.config))
    ids = np.arange(_MEASURED_TOKENS // length * length) * 31 % network.config.vocab_size
    ids = ids.reshape(-1, length)
    _torch_forward(network, dtype)({"input_ids": ids, "attention_mask": np.ones_like(ids)})


def _onnx_forward(name: str, path: Path) -> tuple[_Forward, list[str]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # the cores, or OMP_NUM_THREADS
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    available = onnxruntime.get_available_providers()
    file = next(path / file for file in _ONNX if (path / file).exists())
    providers = [provider for provider in wanted if provider in available]
    try:
        session = onnxruntime.InferenceSession(file, options, providers=providers)
    except Exception as error:  # its errors share no narrower base
        reason = str(error).partition("\n")[0]
        raise InputError(f"model {name!r}: {file.name} does not load: {reason}") from error
    names = [node.name for node in session.get_inputs()]
    if not set(names) <= {"input_ids", "attention_mask", "token_type_ids"}:
        raise InputError(f"model {name!r}: {file.name} wants other inputs than text: {names}")

    def forward(inputs: dict[str, np.ndarray]) -> np.ndarray:
        logits = session.run(None, {name: inputs[name] for name in names})[0]
        return np.asarray(logits, dtype=np.float32)

    return forward, names


def _is_onnx_only(name: str) -> bool:
    folder = local_folder(name)
    has_onnx = any((folder / file).exists() for file in _ONNX)
    return has_onnx and not any(folder.glob("*.safetensors"))
