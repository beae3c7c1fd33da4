"""The loss that a recipe asks for, of a batch's vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes, reduce
from torch import Tensor
from torch.nn import functional as F

from tercet.config.recipe import LossSection
from tercet.core.schema import Encoder, InputError
from tercet.modeling.training.collator import IGNORED, margins
from tercet.modeling.training.losses import all_pairs_margin_mse, info_nce, listwise_kl, margin_mse


class Objective:
    """The loss over a process's lists, as a sum that the number of margins divides.

    With `info_nce` the passages of all processes are negatives, each different one once: every
    process must take part, and the processes' sums add up to that of one process with all lists.
    """

    def __init__(self, section: LossSection, *, normalize: bool, penalty: float = 0.0) -> None:
        """`penalty` weighs the squared way of query vectors from where they are known to be."""
        self.section = section
        self.normalize = normalize
        self.penalty = penalty
        self.of_lists = list_loss(section)

    def __call__(self, query: Tensor, passage: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Of vectors [queries, dimension] and [passages, dimension] of a collator's batch.

        With `matryoshka` the mean over the vectors and their first dimensions alone, of unit
        length again where they had it (arXiv 2205.13147).
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
        if not self.section.info_nce:
            return loss
        return loss + self.section.info_nce * self._in_batch(query, passage, batch)

    def _in_batch(self, query: Tensor, passage: Tensor, batch: Mapping[str, Any]) -> Tensor:
        everyone = gather(pad_across_processes(batch["passage_number"], pad_index=-1))
        numbers, place = everyone.unique(return_inverse=True)
        # A passage that several processes encoded is one passage: its first encoding stands.
        first = torch.full_like(numbers, len(everyone))
        first.scatter_reduce_(0, place, torch.arange(len(everyone), device=place.device), "amin")
        scores = query @ everywhere(passage)[first].T
        column = torch.searchsorted(numbers, batch["passage_number"])
        excluded = (numbers < 0).repeat(len(query), 1)  # what padding brought
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
    """Refuse shorter vectors that are not shorter than the encoder's. Raises InputError."""
    for width in section.matryoshka:
        if width >= encoder.dimension:
            raise InputError(
                f"loss.matryoshka: {width} dimensions are not fewer than the "
                f"{encoder.dimension} of {encoder.name}"
            )


def list_loss(section: LossSection) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A loss of student margins, target margins and mask."""
    if section.kind == "kl":
        return partial(
            listwise_kl,
            temperature=section.temperature,
            teacher_temperature=section.teacher_temperature,
        )
    return {"margin_mse": margin_mse, "all_pairs": all_pairs_margin_mse}[section.kind]


def everywhere(rows: Tensor) -> Tensor:
    """The rows of all processes in order of rank, each process's padded to the longest's number.

    Differentiable: a row's gradient is the sum of what every process asks of it.
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
