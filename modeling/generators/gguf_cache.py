"""GGUF files as ordinary model folders: dequantised once, kept, found again by their content."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tercet.core.console import console
from tercet.core.schema import InputError
from tercet.modeling.cache import cache_folder, make_once
from tercet.modeling.hub import file_sha256, load_gguf, load_tokenizer, quiet


def dequantised(name: str, file: Path) -> Path:
    """The safetensors folder of a GGUF file, made on first use: a minute, twice its parameters.

    It is kept in `cache_folder("gguf")`, in bfloat16: its rounding is far below the error of
    quantisation. Raises InputError if the file does not load.
    """

    def make(folder: Path) -> None:
        if find_spec("gguf") is None:
            raise InputError("gguf is not installed: pip install 'tercet[gguf]'")
        console.print(f"  dequantising {file.name}, once, into {folder.parent}")
        tokenizer = load_tokenizer(name, file.parent, gguf_file=file.name)
        model = load_gguf(AutoModelForCausalLM, name, file, dtype=torch.bfloat16)
        with quiet():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return make_once(cache_folder("gguf") / file_sha256(file), make)
