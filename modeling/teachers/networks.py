"""The networks of rerankers: padded tokens in, one number a pair out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from tercet.core.schema import InputError
from tercet.modeling.batching import position_limit
from tercet.modeling.hub import load_model
from tercet.modeling.teachers.folder import Folder

#: Padded inputs, int64 [batch, tokens] by name -> raw scores, float32 [batch, labels].
Forward = Callable[[dict[str, np.ndarray]], np.ndarray]

_MEASURED_TOKENS, _MEASURED_LENGTH = 1_024, 128  # of a batch that tells which format is faster
_CLASSES = {
    "label": AutoModelForSequenceClassification,
    "answer": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}


def load_network(name: str, path: Path, folder: Folder) -> Any:
    """Load the model of a folder in float32. Raises InputError for one of another kind."""
    (architecture, *_) = folder.config.get("architectures") or [""]
    if folder.head == "label" and architecture.endswith("ForSequenceClassification"):
        if not hasattr(transformers, architecture):
            raise InputError(
                f"model {name!r}: config.json says {architecture}, a class that transformers lacks"
            )
    return load_model(_CLASSES[folder.head], name, path, dtype=torch.float32)


def adopt_padding(network: Any, tokenizer: Any, last: int) -> int:
    """Return the token that pads, which the network is told of where its config names none.

    A network that finds a pair's last token by what is not padding would miss one that pads too:
    `last` is the token that pairs end with.
    """
    config = network.config.get_text_config()
    if config.pad_token_id is not None:
        return int(config.pad_token_id)
    asked = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, 0, 1)
    pad = next(token for token in asked if token is not None and token != last)
    config.pad_token_id = network.config.pad_token_id = pad
    return int(pad)


def torch_forward(
    network: Any, dtype: torch.dtype, head: str, answers: Sequence[int] = ()
) -> Forward:
    """The network's scores of a batch, its products in `dtype`.

    They are the logits of all labels; or of the first answer, less that of the second if there
    are two, as the next token.
    """
    device = network.device
    of_head = {"label": _labels, "answer": _answer, "seq2seq": _first_word}[head]

    def forward(inputs: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(rows).to(device) for name, rows in inputs.items()}
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        ):
            logits = of_head(network, tensors)
        if head != "label":
            yes, *no = (logits[:, token].float() for token in answers)
            logits = (yes - no[0] if no else yes)[:, None]
        return np.asarray(logits.float().cpu().numpy())

    return forward


def _labels(network: Any, inputs: dict[str, Tensor]) -> Tensor:
    logits: Tensor = network(**inputs).logits
    return logits


def _answer(network: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Logits of the next token, [batch, vocabulary]; inputs are padded on the left."""
    accepted = inspect.signature(network.forward).parameters
    given: dict[str, Any] = {"use_cache": False}
    if "logits_to_keep" in accepted:
        given["logits_to_keep"] = 1
    if "position_ids" in accepted:
        # Positions as without padding.
        given["position_ids"] = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    logits: Tensor = network(**inputs, **given).logits[:, -1]
    return logits


def _first_word(network: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Logits of the decoder's first token, [batch, vocabulary]."""
    start = network.generation_config.decoder_start_token_id
    start = network.config.decoder_start_token_id if start is None else start
    first = torch.full((len(inputs["input_ids"]), 1), start, device=network.device)
    logits: Tensor = network(**inputs, decoder_input_ids=first, use_cache=False).logits[:, 0]
    return logits


def score_once(network: Any, head: str, dtype: torch.dtype) -> None:
    """Score made-up pairs of a usual length."""
    length = min(_MEASURED_LENGTH, position_limit(network.config))
    config = network.config.get_text_config()
    row = np.arange(length) * 31 % config.vocab_size
    end = config.eos_token_id
    if isinstance(end, int):  # some find the end of a pair by it, and want it once
        row[row == end] = end - 1 if end else 1
        row[-1] = end
    ids = np.tile(row, (_MEASURED_TOKENS // length, 1))
    forward = torch_forward(network, dtype, head, (0, 1))
    forward({"input_ids": ids, "attention_mask": np.ones_like(ids)})
