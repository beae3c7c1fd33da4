"""The teacher: a frozen reranker that scores a query and a passage read together."""

from __future__ import annotations

import inspect
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from tokenizers.normalizers import Lowercase, Sequence as NormalizerSequence

from tercet.core.borders import border
from tercet.core.console import count_batch
from tercet.core.schema import Diverged, InputError
from tercet.modeling.batching import pad, plan_batches, position_limit, run_halving
from tercet.modeling.checks import check_vocabulary
from tercet.modeling.hub import SAFETENSORS, load_tokenizer, loading, local_folder, resolve
from tercet.modeling.precision import (
    Precision,
    default_device,
    faster_dtype,
    known_dtype,
    name_of,
)
from tercet.modeling.teachers.folder import Folder, read_folder
from tercet.modeling.teachers.inputs import PairInputs, Pairs, Rows
from tercet.modeling.teachers.networks import (
    Forward,
    adopt_padding,
    load_network,
    score_once,
    torch_forward,
)
from tercet.modeling.teachers.reading import Asked, Reading, first_length, read_pairs

_Backend = Literal["auto", "torch", "onnx"]

_ONNX = ("model.onnx", "onnx/model.onnx")
_ONNX_LENGTH_LIMIT = 512  # not in the file; no known cross-encoder has less
_DEFAULT_BATCH_TOKENS = {"cpu": 1_024, "cuda": 65_536}  # CPU: larger batches are slower
#: Two pairs of unlike length, of which the first is padded beside the second.
_UNLIKE = (("one", "logit"), ("a few words", "a text of several words, longer than the one before"))
#: How far a score may be from that of the pair alone, relative to 1 + itself.
_NEAR = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.1, "auto": 0.1}


class CrossEncoderTeacher:
    """A reranker that gives one number to a pair; implements `tercet.core.schema.Teacher`.

    A pair is truncated to `max_length` tokens by cutting the passage; a query is cut only if it is
    longer than half of that, to half.
    """

    def __init__(
        self,
        forward: Forward,
        reading: Reading,
        *,
        name: str,
        identity: str,
        batch_tokens: int,
        pad_token: int,
        left: bool = False,
        precision: Precision = "auto",
    ) -> None:
        """`precision` is what `forward` computes in; "auto" for an ONNX file, which decides.

        `left` pads before the pair instead of after it.
        """
        self.inputs, self.reading = reading.inputs, reading.said
        self.precision = precision
        self.batch_tokens = batch_tokens
        self.identity = identity
        self._forward = forward
        self._name = name
        self._pad_token, self._label, self._left = pad_token, reading.label, left

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
        asked: Asked | None = None,
    ) -> CrossEncoderTeacher:
        """Load a local folder or a Hub name; "auto" runs ONNX if a folder has nothing else.

        `max_length` defaults to 256 tokens or the model's limit. `precision` and `device` apply to
        torch only: an ONNX file has its own precision. Raises InputError for a model that does
        not give one number to a pair, or that cannot be reproduced.
        """
        name = str(name_or_path)
        with loading(name):
            model = resolve(name, revision, weight_files(name, backend))
            folder, onnx = read_folder(model.path, name), is_onnx(name, backend)
            tokenizer = _tokenizer(name, model.path, folder)
            place = torch.device(device or default_device())
            network, head = None, "label" if onnx else folder.head
            if onnx:
                forward, names = _onnx_forward(name, model.path)
                limit = min(tokenizer.model_max_length, _ONNX_LENGTH_LIMIT)
            else:
                network = load_network(name, model.path, folder).to(place)
                check_vocabulary(name, network, tokenizer)
                accepted = inspect.signature(network.forward).parameters
                names = [key for key in tokenizer.model_input_names if key in accepted]
                limit = position_limit(network.config)
            reading = read_pairs(
                tokenizer,
                folder,
                head,
                names,
                asked or Asked(),
                name=name,
                max_length=first_length(max_length, limit, name),
                limit=limit,
            )
            pad_token = tokenizer.pad_token_id or 0
            if network is not None:
                if folder.exact and precision == "auto":
                    precision = "fp32"
                pad_token = adopt_padding(network, tokenizer, _last_token(reading.inputs))
                dtype = known_dtype(precision, place) or faster_dtype(
                    "score", network.config, place, partial(score_once, network, head)
                )
                forward = torch_forward(network, dtype, head, reading.answers)
                precision = name_of(dtype)
            teacher = cls(
                forward,
                reading,
                name=name,
                identity=model.identity,
                batch_tokens=batch_tokens
                or _DEFAULT_BATCH_TOKENS.get("cpu" if onnx else place.type, 8_192),
                pad_token=pad_token,
                left=head == "answer",
                precision=precision,
            )
            teacher._try_out(padded=network is not None)
        return teacher

    @property
    def name(self) -> str:
        """The name or path of the model."""
        return self._name

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of its folder."""
        return self.inputs.tokenizer

    @property
    def counts(self) -> Counter[str]:
        """Counts of tokens and cut texts, for `tercet.core.resources`."""
        return self.inputs.counts

    @property
    def max_length(self) -> int:
        """The most tokens of a pair."""
        return self.inputs.longest

    def lengths(self, pairs: Pairs) -> np.ndarray:
        """int64 [len(pairs)]: tokens of each pair after truncation, special ones included."""
        return self.inputs.lengths(pairs)

    def score(self, pairs: Pairs) -> np.ndarray:
        """float32 [len(pairs)] raw logits, in the order given; equal pairs are scored once.

        Raises Diverged naming a pair whose logit is not finite.
        """
        if len(pairs) == 2 and isinstance(pairs[0], str):
            raise InputError(f"model {self.name!r} scores a list of pairs: [(query, passage)]")
        rows: dict[tuple[str, str], int] = {}
        places = [rows.setdefault((query, passage), len(rows)) for query, passage in pairs]
        scores = self._scores(list(rows))[np.array(places, dtype=np.int64)]
        wrong = np.flatnonzero(~np.isfinite(scores))
        if wrong.size:
            query, passage = pairs[wrong[0]]
            raise Diverged(
                f"model {self.name!r}: the logit of pair {wrong[0]} is {scores[wrong[0]]}"
                f" (query {query[:60]!r}, passage {passage[:60]!r}); precision fp32 may help",
                row=int(wrong[0]),
            )
        return scores

    def _scores(self, pairs: Pairs) -> np.ndarray:
        rows = self.inputs.tokenize(pairs)
        lengths = [len(row) for row in rows["input_ids"]]
        self.counts["tokens"] += sum(lengths)
        scores = np.empty(len(pairs), dtype=np.float32)
        for batch in plan_batches(lengths, self.batch_tokens):
            scores[batch] = run_halving(lambda part: self._logits(rows, part), batch)
            count_batch(len(batch), sum(lengths[i] for i in batch))
        return scores

    def _logits(self, rows: Rows, batch: np.ndarray) -> np.ndarray:
        padded = {}
        for name, values in rows.items():
            fill = self._pad_token if name == "input_ids" else 0
            padded[name], padded["attention_mask"] = pad(
                [values[i] for i in batch], fill, side="left" if self._left else "right"
            )
        logits = self._forward(padded)
        if self._label is None and logits.shape != (len(batch), 1):
            raise InputError(
                f"model {self.name!r} gives {logits.shape[-1]} labels to a pair: say in "
                "teacher.label which of them ranks, by its name or number"
            )
        return logits[:, self._label or 0]

    def _try_out(self, *, padded: bool) -> None:
        """Score two unlike pairs, apart and together.

        Where a pair's score depends on the padding, the other side is tried: some networks read
        the last token. An ONNX file of integers depends on its batch in any case.
        """
        alone = np.concatenate([self.score([pair]) for pair in _UNLIKE])
        if not padded:
            self.score(_UNLIKE)
            self.counts.clear()
            return
        bound = _NEAR[self.precision] * (1 + np.abs(alone))
        for _ in range(2):
            if (np.abs(self.score(_UNLIKE) - alone) <= bound).all():
                self.counts.clear()
                return
            self._left = not self._left
        raise InputError(
            f"model {self.name!r} gives a pair another score beside a longer one, on whichever "
            "side it is padded: it cannot score in batches"
        )


def _tokenizer(name: str, path: Path, folder: Folder) -> Any:
    tokenizer = load_tokenizer(name, path, **folder.tokenizer)
    if not folder.lower:
        return tokenizer
    if not tokenizer.is_fast:
        raise InputError(f"model {name!r}: do_lower_case with a tokenizer in Python")
    backend = tokenizer.backend_tokenizer
    own = [backend.normalizer] if backend.normalizer else []
    backend.normalizer = NormalizerSequence([Lowercase(), *own])
    return tokenizer


def _last_token(inputs: PairInputs) -> int:
    """The token that pairs end with."""
    return int(inputs.tokenize(_UNLIKE[:1])["input_ids"][0][-1])


def weight_files(name: str, backend: _Backend) -> tuple[str, ...]:
    """Return the patterns of the weight files that `CrossEncoderTeacher` reads."""
    return _ONNX if is_onnx(name, backend) else SAFETENSORS


def is_onnx(name: str, backend: _Backend) -> bool:
    """Whether a teacher is read from an ONNX file, which has its own number format."""
    return backend == "onnx" or (backend == "auto" and _is_onnx_only(name))


def _onnx_forward(name: str, path: Path) -> tuple[Forward, list[str]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # the cores, or OMP_NUM_THREADS
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    available = onnxruntime.get_available_providers()
    file = next(path / file for file in _ONNX if (path / file).exists())
    providers = [provider for provider in wanted if provider in available]
    with border(f"model {name!r}: {file.name} does not load"):
        session = onnxruntime.InferenceSession(file, options, providers=providers)
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
