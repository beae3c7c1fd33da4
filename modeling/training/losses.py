"""Losses: pure functions of tensors, sums that the caller divides by the number of margins.

Shapes: `student` and `target` are float32 [queries, negatives], the margins of the positive over
each negative; `mask` is bool of that shape, False where a query has fewer negatives. A list's
scores are 0 and the negated margins: what these losses ask for does not depend on a shift.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def margin_mse(student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Sum of squared differences between margins, as margin-MSE has it (arXiv 2010.02666).

    Divide by the number of margins for the mean.
    """
    return ((student - target).square() * mask).sum()


def all_pairs_margin_mse(student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The same over the margins of every pair in a query's list, not the positive's alone.

    With e the differences of the list's scores (the positive's being 0) and m scores in it, the
    mean of (e_i - e_j)^2 over pairs is 2 / (m - 1) x the sum of (e - mean e)^2. A list counts as
    often as it has negatives, m - 1, so that dividing by the number of margins gives the mean
    over lists, and one negative gives `margin_mse`.
    """
    error = (target - student) * mask
    scores = mask.sum(dim=1) + 1
    # The positive's own error is 0: it adds to the count, not to the sums.
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

    A list is all its scores, the positive's too, and counts as often as it has negatives.
    `teacher_temperature` is `temperature` unless given, which is right for targets on the
    student's scale. CADET (arXiv 2505.19274) has .05 for the student's cosines and .3 for the
    teacher's scores, clipped at their 1st and 99th percentile and scaled to [0, 1].
    """
    learnt = _log_softmax(student, mask, temperature)
    wanted = _log_softmax(target, mask, teacher_temperature or temperature)
    divergence = (wanted.exp() * (wanted - learnt)).sum(dim=1)
    return (divergence * mask.sum(dim=1)).sum()


def _log_softmax(margins: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Log probabilities of a list's scores [queries, 1 + negatives], the positive first."""
    # Not -inf, whose differences are not numbers; its exponential is 0 as well.
    scores = (-margins / temperature).masked_fill(~mask, torch.finfo(margins.dtype).min)
    return F.pad(scores, (1, 0)).log_softmax(dim=1)


def info_nce(
    scores: Tensor, positive: Tensor, excluded: Tensor, weight: Tensor, *, temperature: float
) -> Tensor:
    """Cross-entropy of each query's positive among all passages of a batch (arXiv 1807.03748).

    `scores` are float32 [queries, passages], `positive` int64 [queries] the positive's column,
    and `excluded` bool [queries, passages] says which passages are no negatives; a positive counts
    whatever it says. Query i counts `weight[i]` times: as often as it has margins, so that the
    sum divides as those of margins do.
    """
    column = positive.unsqueeze(1)
    scores = scores.masked_fill(excluded.scatter(1, column, False), -torch.inf) / temperature
    return (F.cross_entropy(scores, positive, reduction="none") * weight).sum()
