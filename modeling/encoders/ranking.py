"""A linear map of query vectors, refined by how words of passages rank the passages.

A multinomial logistic regression: the map's scores of a few words with all passages, by their
stored vectors, become a distribution over the passages, which is to be near a wanted one. That one
follows from scores as well, which lie between two models' and are an anchor again: those of the
local model, of these words with the passages, and those of whatever made the index, of the passage
that the words are from with the others. Passages that are much alike are hardly told apart, and
need not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tercet.core.console import progress
from tercet.modeling.encoders.ridge import TINY, Map

#: Standard deviations of a text's scores that make a passage e times as likely: how sharply the
#: wanted distribution falls off.
_SHARPNESS = 2.4
_EPOCHS, _RATE = 5, 3e-3
_BATCH, _SMALLEST, _STEPS = 256, 16, 40  # texts; an epoch has at least that many steps, if it can
_SCALE, _SCALE_RATE = 20.0, 0.02  # what the map's scores are first multiplied by


@dataclass(frozen=True)
class Ranked:
    """Vectors of the same passages, float32, row for row: [passages, dimension]."""

    #: The local model's of texts that are from them, as queries; each epoch reads the next.
    asked: Sequence[np.ndarray]
    #: The local model's, as passages.
    told: np.ndarray
    #: The index's.
    stored: np.ndarray


def refine(
    start: Map, ranked: Ranked, *, seed: int, device: torch.device | str | None = None
) -> Map:
    """A map that begins as `start`; its log loss is lowered by Adam, _EPOCHS times over.

    In what unit the index's vectors are makes no difference.
    """
    unit = max(float(np.sqrt(np.mean(np.square(ranked.stored).sum(axis=1)))), TINY)
    told, stored = (torch.from_numpy(each).to(device) for each in (ranked.told, ranked.stored))
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
            asked = torch.from_numpy(ranked.asked[epoch % len(ranked.asked)]).to(device)
            order = torch.from_numpy(random.permutation(len(stored))).to(device)
            for rows in order[: len(order) // batch * batch].split(batch):
                texts = asked[rows]
                wanted = (_standard(texts @ told.T) + _standard(stored[rows] @ stored.T)) / 2
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
    """Each text's scores with mean 0 and standard deviation 1."""
    spread, mean = torch.std_mean(scores, dim=1, keepdim=True, correction=0)
    return (scores - mean) / spread.clamp_min(1e-6)
