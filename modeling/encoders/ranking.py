"""Refine a linear map of query vectors by how spans of passages rank the passages.

Least squares fits all scores alike, but only the best ranks matter to a search. This is a
multinomial logistic regression instead: the scores of a mapped span with the stored vectors of the
passages, under a softmax, are to match a target distribution. The target is the mean of two
standardised scores, anchored as the margins in training are: the local model's of the span with
each passage, and the index's own of the span's passage with each passage. Passages that are nearly
alike get nearly equal targets, and need not be separated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tercet.core.console import progress
from tercet.modeling.encoders.ridge import TINY, Map

#: Inverse temperature of the target distribution, over standardised scores.
_SHARPNESS = 2.4
_EPOCHS, _RATE = 5, 3e-3
_BATCH, _SMALLEST, _STEPS = 256, 16, 40  # texts of a batch at most and least; least steps
_SCALE, _SCALE_RATE = 20.0, 0.02  # initial multiplier of the map's scores, its rate


@dataclass(frozen=True)
class Ranked:
    """Vectors of the same passages, float32, row for row: [passages, dimension]."""

    #: The local model's, of spans of them as queries; epoch after epoch uses the next array.
    as_queries: Sequence[np.ndarray]
    #: The local model's, as passages.
    as_passages: np.ndarray
    #: The index's.
    stored: np.ndarray


def refine(
    start: Map, ranked: Ranked, *, seed: int, device: torch.device | str | None = None
) -> Map:
    """Train a map from `start` with Adam on the cross-entropy, for _EPOCHS epochs.

    The scale of the index's vectors makes no difference.
    """
    unit = max(float(np.sqrt(np.mean(np.square(ranked.stored).sum(axis=1)))), TINY)
    as_passages, stored = (
        torch.from_numpy(each).to(device) for each in (ranked.as_passages, ranked.stored)
    )
    stored = stored / unit
    weight, bias = (
        torch.from_numpy((each / unit).astype(np.float32)).to(device).requires_grad_()
        for each in (start.weight, start.bias)
    )
    scale = torch.tensor(float(np.log(_SCALE)), device=device).requires_grad_()
    groups = [{"params": [weight, bias], "lr": _RATE}, {"params": [scale], "lr": _SCALE_RATE}]
    batch = min(len(stored), _BATCH, max(_SMALLEST, len(stored) // _STEPS))
    steps = _EPOCHS * (len(stored) // batch)
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    random = np.random.default_rng(seed)
    with progress("ranking passages by their words", steps * batch, "texts") as advance:
        for epoch in range(_EPOCHS):
            spans = ranked.as_queries[epoch % len(ranked.as_queries)]
            queries = torch.from_numpy(spans).to(device)
            order = torch.from_numpy(random.permutation(len(stored))).to(device)
            for rows in order[: len(order) // batch * batch].split(batch):
                texts = queries[rows]
                wanted = (_standard(texts @ as_passages.T) + _standard(stored[rows] @ stored.T)) / 2
                scores = (texts @ weight + bias) @ stored.T * scale.exp()
                loss = torch.nn.functional.cross_entropy(scores, (_SHARPNESS * wanted).softmax(1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                advance(len(rows))
    found = (each.detach().cpu().numpy().astype(np.float64) * unit for each in (weight, bias))
    return Map(*found)


def _standard(scores: torch.Tensor) -> torch.Tensor:
    """Standardise each row of scores to mean 0 and standard deviation 1."""
    spread, mean = torch.std_mean(scores, dim=1, keepdim=True, correction=0)
    return (scores - mean) / spread.clamp_min(1e-6)
