"""Token states -> one vector a text, by one or several ways of pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

import torch
from torch import Tensor

from tercet.config.model import PoolingMode

#: Every mode, in the order in which sentence-transformers joins several.
MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
_JOINT = " + "


def joined(modes: list[str]) -> str:
    """Name a concatenation: "cls + mean"."""
    return _JOINT.join(modes)


def modes_of(pooling: str) -> list[str]:
    """Return the modes that `joined` named."""
    return pooling.split(_JOINT)


def pooled(pooling: str, states: Tensor, attended: Tensor, counted: Tensor) -> Tensor:
    """Pool token states [texts, tokens, hidden] to vectors [texts, modes x hidden].

    `attended` [texts, tokens] is 0 at padding, `counted` at tokens that are left out besides: a
    prompt's. A text without a counted token has a zero vector, or the first token's.
    """
    masks = attended.to(states.dtype), counted.to(states.dtype)
    return torch.cat([_MODES[mode](states, *masks) for mode in modes_of(pooling)], dim=-1)


def _mean(states: Tensor, attended: Tensor, counted: Tensor) -> Tensor:
    return _weighted(states, counted, counted.sum(dim=1))


def _mean_sqrt_len(states: Tensor, attended: Tensor, counted: Tensor) -> Tensor:
    return _weighted(states, counted, counted.sum(dim=1).sqrt())


def _weighted_mean(states: Tensor, attended: Tensor, counted: Tensor) -> Tensor:
    """The mean with weights 1, 2, 3, ... from a text's first token on, a prompt's included."""
    weights = attended.cumsum(dim=1) * counted
    return _weighted(states, weights, weights.sum(dim=1))


def _weighted(states: Tensor, weights: Tensor, divisor: Tensor) -> Tensor:
    total = (states * weights.unsqueeze(-1)).sum(dim=1)
    return total / divisor.clamp(min=1e-9).unsqueeze(-1)


def _max(states: Tensor, attended: Tensor, counted: Tensor) -> Tensor:
    hidden = states.masked_fill(counted.unsqueeze(-1) == 0, -torch.inf)
    return hidden.max(dim=1).values


def _first(states: Tensor, attended: Tensor, counted: Tensor) -> Tensor:
    return _at(states, counted.argmax(dim=1))


def _last(states: Tensor, attended: Tensor, counted: Tensor) -> Tensor:
    return _at(states, counted.shape[1] - 1 - counted.flip(1).argmax(dim=1))


def _at(states: Tensor, place: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), place]


_MODES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
