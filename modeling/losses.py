"""Losses over margins: pure functions of tensors, sums that the caller divides.

Shapes: `student` and `target` are float32 [queries, negatives], the margins of the positive over
each negative; `mask` is bool of that shape, False where a query has fewer negatives.
"""

from __future__ import annotations

from torch import Tensor


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


LOSSES = {"positive": margin_mse, "all": all_pairs_margin_mse}
