"""A causal language model and its tokenizer: from a folder, the Hub or a GGUF file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tercet.core.cache import cache_folder, make_once
from tercet.core.console import console
from tercet.core.extras import missing
from tercet.modeling.checks import check_vocabulary
from tercet.modeling.generators.writing_speed import in_faster_format
from tercet.modeling.hub import (
    SAFETENSORS,
    file_sha256,
    load_gguf,
    load_model,
    load_tokenizer,
    quiet,
    resolve,
)
from tercet.modeling.precision import Precision, default_device


def load_language_model(
    name: str,
    *,
    revision: str | None = None,
    gguf_file: str | None = None,
    precision: Precision = "auto",
    device: torch.device | str | None = None,
) -> tuple[Any, Any, str]:
    """Return the model, ready for inference, its tokenizer, and its identity as in `resolve`.

    Raises InputError for a model of another kind.
    """
    place = torch.device(device or default_device())
    folder = resolve(name, revision, (gguf_file,) if gguf_file else SAFETENSORS)
    path = _dequantised(name, folder.path / gguf_file) if gguf_file else folder.path
    model = in_faster_format(
        lambda dtype: load_model(AutoModelForCausalLM, name, path, dtype=dtype), precision, place
    )
    tokenizer = load_tokenizer(name, path)
    check_vocabulary(name, model, tokenizer)
    return model, tokenizer, folder.identity


def _dequantised(name: str, file: Path) -> Path:
    """Return the safetensors folder of a GGUF file, made on first use in a minute.

    It is cached in `cache_folder("gguf")`, in bfloat16, two bytes a parameter: rounding is far
    below the error of quantisation. Raises InputError if the file does not load.
    """

    def make(folder: Path) -> None:
        if find_spec("gguf") is None:
            raise missing("gguf", "gguf")
        console.print(f"  dequantising {file.name}, once, into {folder.parent}")
        tokenizer = load_tokenizer(name, file.parent, gguf_file=file.name)
        model = load_gguf(AutoModelForCausalLM, name, file, dtype=torch.bfloat16)
        with quiet():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return make_once(cache_folder("gguf") / file_sha256(file), make)
