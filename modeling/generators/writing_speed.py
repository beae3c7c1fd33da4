"""A model that writes, loaded in the number format in which it writes faster."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig

from tercet.modeling.precision import Precision, faster_dtype, known_dtype

_ROWS, _READ, _WRITTEN = 8, 32, 4  # texts, and tokens of each, that tell which format is faster


def in_faster_format(
    load: Callable[[torch.dtype], Any], precision: Precision, device: torch.device
) -> Any:
    """Return the model of `load` on `device`, in a format that `precision` asks for.

    To measure both formats the weights are held in both, once a machine and kind of model.
    """
    known = known_dtype(precision, device)
    if known is not None:
        return load(known).to(device)
    models = {torch.float32: load(torch.float32).to(device)}

    def work(dtype: torch.dtype) -> None:
        if dtype not in models:
            models[dtype] = copy.deepcopy(models[torch.float32]).to(dtype)
        _write_once(models[dtype])

    chosen = faster_dtype("write", models[torch.float32].config, device, work)
    return models[chosen] if chosen in models else models[torch.float32].to(chosen)


def _write_once(model: Any) -> None:
    """Read some rows and write a few tokens after each."""
    ids = torch.arange(_ROWS * _READ, device=model.device) * 31
    ids = (ids % model.config.get_text_config().vocab_size).view(_ROWS, _READ)
    config = GenerationConfig(
        do_sample=False, max_new_tokens=_WRITTEN, min_new_tokens=_WRITTEN, pad_token_id=0
    )
    with torch.inference_mode():
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
