"""GGUF files as ordinary model folders: dequantised once, kept, found again by their content."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tercet.console import console
from tercet.modeling.hub import file_sha256, load_gguf, load_tokenizer, quiet
from tercet.schema import InputError


def cache_folder() -> Path:
    """Where dequantised models are kept: $TERCET_CACHE/gguf, or ~/.cache/tercet/gguf."""
    root = os.environ.get("TERCET_CACHE") or "~/.cache/tercet"
    return Path(root).expanduser() / "gguf"


def dequantised(name: str, file: Path) -> Path:
    """The safetensors folder of a GGUF file, made on first use: a minute, twice its parameters.

    bfloat16: its rounding is far below the error of quantisation. Raises InputError if the file
    does not load.
    """
    folder = cache_folder() / file_sha256(file)
    if folder.exists():
        return folder
    if find_spec("gguf") is None:
        raise InputError("gguf is not installed: pip install 'tercet[gguf]'")
    console.print(f"  dequantising {file.name}, once, into {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until whole, so that a run that is killed leaves nothing half made.
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix="unfinished-"))
    try:
        tokenizer = load_tokenizer(name, file.parent, gguf_file=file.name)
        model = load_gguf(AutoModelForCausalLM, name, file, dtype=torch.bfloat16)
        with quiet():
            model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process was quicker
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
