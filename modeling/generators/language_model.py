"""A causal language model and its tokenizer: from a folder, the Hub or a GGUF file."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.utils import ALL_CACHE_NAMES

from tercet.modeling.generators.gguf_cache import dequantised
from tercet.modeling.hub import SAFETENSORS, load_model, load_tokenizer, resolve
from tercet.modeling.precision import Precision, default_device, inference_dtype

#: What transformers calls a cache, the model's and `generate`'s: 5.24 renamed it.
CACHE = "cache" if "cache" in ALL_CACHE_NAMES else "past_key_values"


def load_language_model(
    name: str,
    *,
    revision: str | None = None,
    gguf_file: str | None = None,
    precision: Precision = "auto",
    device: torch.device | str | None = None,
) -> tuple[Any, Any, str]:
    """The model, ready to read, its tokenizer, and its identity as `resolve` has it.

    Raises InputError if it is no such model.
    """
    place = torch.device(device or default_device())
    folder = resolve(name, revision, (gguf_file,) if gguf_file else SAFETENSORS)
    path = dequantised(name, folder.path / gguf_file) if gguf_file else folder.path
    dtype = inference_dtype(precision, place)
    model = load_model(AutoModelForCausalLM, name, path, dtype=dtype)
    return model.to(place), load_tokenizer(name, path), folder.identity
