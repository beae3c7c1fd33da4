"""Losses: pure functions of tensors, sums that the caller divides by the number of margins.

A query's list is its positive and its negatives. Only differences of scores within a list change
its ranking, so the losses compare *margins*, the positive's score less a negative's: the student's
margins and the target margins. The scale of the teacher's scores still matters, and is fitted
before (`data/targets.py`).

The targets are *anchored*: a target score is (1 - w) x the base model's own score + w x the
teacher's, on the base model's scale. With w = 1, the usual distillation, query adapters trained on
these margins lost nDCG@10 on each of three collections (-.02 to -.11); with w = .5 they gained on
each (+.03). A mixture of the two scorers ranks better than either, and a target near the base model
demands only changes that the data support. The anchor mattered more than the choice between the
losses below.

Shapes: `student` and `target` are float32 [queries, negatives], the margins of the positive over
each negative; `mask` is bool of that shape, False where a query has fewer negatives. A list's
scores are then 0 and the negated margins, up to a shift that no loss depends on.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class ListLoss(Protocol):
    """A loss of the margins within each query's list; a plug-in of `loss.kind` is one."""

    def __call__(self, student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Sum over all margins, a scalar with a gradient; shapes as above."""
        ...


def margin_mse(student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Sum of squared differences between margins, as in margin-MSE (arXiv 2010.02666)."""
    return ((student - target).square() * mask).sum()


def all_pairs_margin_mse(student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The same over the margins of every pair in a query's list, not only the positive's.

    The teacher also orders the negatives among themselves, which `margin_mse` does not use.

    With e the errors of a list's m scores (the positive's being 0), the mean of (e_i - e_j)^2 over
    pairs is 2 / (m - 1) x the sum of (e - mean e)^2, which needs no loop over pairs. A list is
    weighted by its number of negatives, m - 1, so that dividing by the number of margins gives the
    mean over lists, and with one negative this is `margin_mse`.
    """
    error = (target - student) * mask
    scores = mask.sum(dim=1) + 1
    # The positive's error is 0: it adds to the count, not to the sums.
    centred = error.square().sum(dim=1) - error.sum(dim=1).square() / scores
    return 2 * centred.sum()


def listwise_kl(
    student: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    temperature: float,
    teacher_temperature: float | None = None,
) -> Tensor:
    """KL(softmax(target / teacher_temperature) || softmax(student / temperature)) of each list.

    The softmax is over all scores of a list, the positive's included; a list is weighted by its
    number of negatives. `teacher_temperature` defaults to `temperature`, which suits targets on
    the student's scale. CADET (arXiv 2505.19274) uses .05 for the student's cosines and .3 for the
    teacher's scores, clipped at their 1st and 99th percentiles and scaled to [0, 1].
    """
    learnt = _log_softmax(student, mask, temperature)
    wanted = _log_softmax(target, mask, teacher_temperature or temperature)
    divergence = (wanted.exp() * (wanted - learnt)).sum(dim=1)
    return (divergence * mask.sum(dim=1)).sum()


def _log_softmax(margins: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Log probabilities of a list's scores [queries, 1 + negatives], the positive first."""
    # The difference of two -inf is NaN; the exponential of the least finite number is 0, too.
    scores = (-margins / temperature).masked_fill(~mask, torch.finfo(margins.dtype).min)
    return F.pad(scores, (1, 0)).log_softmax(dim=1)


def no_loss(student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Zero: the lists teach nothing, for `info_nce` is the whole loss."""
    return student.new_zeros(())


def info_nce(
    scores: Tensor, positive: Tensor, excluded: Tensor, weight: Tensor, *, temperature: float
) -> Tensor:
    """Cross-entropy of each query's positive among all passages of a batch (arXiv 1807.03748).

    `scores` are float32 [queries, passages], `positive` int64 [queries] is the positive's column,
    and `excluded` bool [queries, passages] marks passages that are not negatives; the positive is
    never excluded. `weight` [queries] is each query's number of margins, so that the sum is divided
    like those of the other losses.
    """
    column = positive.unsqueeze(1)
    scores = scores.masked_fill(excluded.scatter(1, column, False), -torch.inf) / temperature
    return (F.cross_entropy(scores, positive, reduction="none") * weight).sum()
