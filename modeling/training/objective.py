"""A recipe's loss as a function of a batch's vectors.

It is the list loss of `losses.py` on anchored target margins. Three optional terms come with it:
InfoNCE over all passages of the batch (or it alone), the same loss on the first dimensions alone
(matryoshka), and for an adapter a penalty on moving queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes, reduce
from torch import Tensor
from torch.nn import functional as F

from tercet.config.recipe import LossSection
from tercet.core import plugins
from tercet.core.schema import Encoder, InputError
from tercet.modeling.training.collator import IGNORED, margins
from tercet.modeling.training.losses import (
    ListLoss,
    all_pairs_margin_mse,
    info_nce,
    listwise_kl,
    margin_mse,
    no_loss,
)


class Objective:
    """The loss over a process's lists: a sum, to be divided by the number of margins.

    With `info_nce` the passages of all processes are negatives, each distinct one once. Every
    process must then take part, and the processes' sums add up to that of one process with all
    lists.
    """

    def __init__(self, section: LossSection, *, normalize: bool, penalty: float = 0.0) -> None:
        """`penalty` weighs the squared distance of query vectors from those of the base model."""
        self.section = section
        self.normalize = normalize
        self.penalty = penalty
        self.of_lists = _list_loss(section)

    def __call__(self, query: Tensor, passage: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Return the loss of vectors [queries, dimension] and [passages, dimension] of a batch.

        With `matryoshka` it is the mean over the full vectors and their first dimensions, which
        are normalised again if the vectors were (arXiv 2205.13147).
        """
        losses = [self._of(query, passage, batch)]
        for width in self.section.matryoshka:
            losses.append(self._of(self._cut(query, width), self._cut(passage, width), batch))
        loss = torch.stack(losses).mean()
        if self.penalty:
            moved = (query - batch["query"]["vectors"]).square().sum(dim=1)
            loss = loss + self.penalty * (moved * batch["labels"].ne(IGNORED).sum(dim=1)).sum()
        return loss

    def _cut(self, vectors: Tensor, width: int) -> Tensor:
        first = vectors[:, :width]
        return F.normalize(first, dim=-1) if self.normalize else first

    def _of(self, query: Tensor, passage: Tensor, batch: Mapping[str, Any]) -> Tensor:
        target = batch["labels"]
        mask = target.ne(IGNORED)
        student = margins(query, passage, batch["positive"], batch["negative"])
        loss = self.of_lists(student, target, mask)
        if loss.ndim:
            raise InputError(f"loss {self.section.kind} gives {len(loss)} values, not their sum")
        if not self.section.contrastive:
            return loss
        return loss + self.section.contrastive * self._in_batch(query, passage, batch)

    def _in_batch(self, query: Tensor, passage: Tensor, batch: Mapping[str, Any]) -> Tensor:
        everyone = gather(pad_across_processes(batch["passage_number"], pad_index=-1))
        numbers, place = everyone.unique(return_inverse=True)
        # Of a passage that several processes encoded, the first encoding counts.
        first = torch.full_like(numbers, len(everyone))
        first.scatter_reduce_(0, place, torch.arange(len(everyone), device=place.device), "amin")
        scores = query @ _everywhere(passage)[first].T
        column = torch.searchsorted(numbers, batch["passage_number"])
        excluded = (numbers < 0).repeat(len(query), 1)  # padding
        place = torch.searchsorted(numbers, batch["near"]).clamp(max=len(numbers) - 1)
        row, which = (numbers[place] == batch["near"]).nonzero(as_tuple=True)
        excluded[row, place[row, which]] = True
        return info_nce(
            scores,
            column[batch["positive"]],
            excluded,
            batch["labels"].ne(IGNORED).sum(dim=1),
            temperature=self.section.info_nce_temperature,
        )


def check_widths(section: LossSection, encoder: Encoder) -> None:
    """Raise InputError if a matryoshka width is not below the encoder's dimension."""
    for width in section.matryoshka:
        if width >= encoder.dimension:
            raise InputError(
                f"loss.matryoshka: {width} dimensions are not fewer than the "
                f"{encoder.dimension} of {encoder.name}"
            )


def _list_loss(section: LossSection) -> ListLoss:
    """Return the section's loss, a built-in one or a plug-in."""
    if section.kind == "kl":
        return partial(
            listwise_kl,
            temperature=section.temperature,
            teacher_temperature=section.teacher_temperature,
        )
    built_in = {"margin_mse": margin_mse, "all_pairs": all_pairs_margin_mse, "info_nce": no_loss}
    if section.kind in built_in:
        return built_in[section.kind]
    return plugins.make("losses", section.kind, section.options)


def _everywhere(rows: Tensor) -> Tensor:
    """Gather the rows of all processes, in order of rank, each padded to the most rows of any.

    Differentiable: a row's gradient is the sum over the processes, all of which use it.
    """
    return _Everywhere.apply(rows) if PartialState().num_processes > 1 else rows


class _Everywhere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        padded = pad_across_processes(rows)
        ctx.start = PartialState().process_index * len(padded)
        return gather(padded)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return reduce(gradient, "sum")[ctx.start : ctx.start + ctx.count]
