"""The network beneath an encoder: its class, its tokenizer, and a first look at what it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel

from tercet.core.borders import border
from tercet.core.schema import InputError
from tercet.modeling.encoders.st_keys import read_json, refuse_code
from tercet.modeling.encoders.static import load_static, load_static_tokenizer
from tercet.modeling.hub import adapter_base, load_model, load_tokenizer

#: Classes of models whose encoder alone embeds texts, by their model_type.
_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}
#: Models whose encoder alone embeds texts too, and has no class of its own that loads and saves.
_NO_ENCODER = frozenset(
    ("blenderbot", "blenderbot-small", "m2m_100", "marian", "moonshine", "pegasus", "pegasus_x")
    + ("prophetnet", "t5gemma", "t5gemma2", "t5gemma2_text", "udop", "whisper")
)


#: Largest relative difference of equal states, computed in two batches.
_SAME = 1e-3


def load_backbone(name: str, folder: Path, *, static: bool) -> tuple[Any, Any]:
    """Return the network in `folder`, float32 and ready for inference, and its tokenizer.

    Raises InputError, naming the model `name`, for one that cannot be reproduced.
    """
    if static:
        return load_static(name, folder), load_static_tokenizer(name, folder)
    refuse_code(folder)
    kind = encoder_class(name, folder)
    backbone = load_model(
        getattr(transformers, kind) if kind else AutoModel,
        name,
        folder,
        spare="pooler.",
        dtype=torch.float32,
    )
    if hasattr(backbone.config, "use_cache"):
        backbone.config.use_cache = False  # texts are read once: a cache is memory for nothing
    return backbone, load_tokenizer(name, folder)


def encoder_class(name: str, folder: Path) -> str | None:
    """The transformers class that loads the encoder in `folder`; None: AutoModel.

    Raises InputError for a model that cannot be one.
    """
    base = adapter_base(name, folder)
    if base:
        refuse_code(base.path)
    place = base.path if base else folder
    config = read_json(place / "config.json", {})
    kind = str(config.get("model_type", ""))
    if kind in _NO_ENCODER:
        raise InputError(f"model {name!r}: the encoder of a {kind} alone is not supported")
    if config.get("quantization_config"):
        raise InputError(
            f"model {name!r}: {place / 'config.json'} has a quantization_config, and quantised"
            " weights cannot be adapted: choose the model that they were made of"
        )
    return _ENCODERS.get(kind)


def width(name: str, backbone: Any, inputs: dict[str, Any]) -> int:
    """The dimensions of token states, found by reading `inputs` of a long and a short text.

    Raises InputError for a model that does not run on texts alone, or whose states of a text depend
    on the padding beside it: its vectors would depend on the batch.
    """
    kind = type(backbone).__name__
    alone = {key: value[1:, _places(inputs)] for key, value in inputs.items()}
    with border(f"model {name!r}: a {kind} gives no token states"), torch.inference_mode():
        states = backbone(**inputs).last_hidden_state
        short = backbone(**alone).last_hidden_state
        texts, tokens, hidden = states.shape
    if (texts, tokens) != tuple(inputs["input_ids"].shape):
        raise InputError(
            f"model {name!r}: a {kind} gives {tokens} states for {inputs['input_ids'].shape[1]}"
            " tokens: not supported"
        )
    beside = states[1:, _places(inputs)]
    if not torch.allclose(beside, short, rtol=_SAME, atol=_SAME * float(short.abs().max())):
        raise InputError(
            f"model {name!r}: the states that a {kind} gives a text depend on the padding beside"
            " it, so its vectors would depend on the batch: not supported"
        )
    return int(hidden)


def _places(inputs: dict[str, Any]) -> Any:
    """The places of the second text's tokens."""
    return inputs["attention_mask"][1].bool()
