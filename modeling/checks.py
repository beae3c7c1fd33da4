"""What a model's files must be before it works: no pointers, finite weights, tokens with rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tercet.core.schema import InputError

#: What a file begins with that git keeps in place of a large one.
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1_024  # bytes
_MOST_LAYERS = 10_000


def refuse_pointer(name: str, file: Path) -> None:
    """Raise InputError if a file of a model is the pointer that git-lfs keeps in its place."""
    if file.stat().st_size > _LONGEST_POINTER:
        return
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            raise InputError(
                f"model {name!r}: {file} is a git-lfs pointer and not the file itself: run "
                "`git lfs pull` in its repository"
            )


def check_layers(name: str, config: Any) -> None:
    """Raise InputError for the settings of more layers than any network has: all would be built."""
    for key, value in config.items() if isinstance(config, Mapping) else ():
        if "layer" in str(key) and isinstance(value, int) and value > _MOST_LAYERS:
            raise InputError(f"model {name!r} does not load: its {key} cannot be {value}")
        check_layers(name, value)


def check_finite(name: str, weights: Mapping[str, Tensor] | nn.Module) -> None:
    """Raise InputError naming a weight that is not finite; of a module, a parameter."""
    named = dict(weights.named_parameters()) if isinstance(weights, nn.Module) else weights
    for key, value in named.items():
        if value.is_floating_point() and not torch.isfinite(value.detach()).all():
            raise InputError(
                f"model {name!r}: weight {key} is not finite: its file is damaged, or its training "
                "diverged"
            )


def check_vocabulary(name: str, model: Any, tokenizer: Any) -> None:
    """Raise InputError if the tokenizer has a token beyond the model's table of embeddings."""
    rows = _rows(model)
    token, number = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", 0))
    if rows is not None and number >= rows:
        raise InputError(
            f"model {name!r}: its tokenizer has token {token!r} of id {number}, and the model has "
            f"rows for {rows} tokens: the two do not belong together"
        )


def _rows(model: Any) -> int | None:
    """Rows of a model's table of token embeddings; None if it has no such table."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return None
