from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.modeling.losses import LOSSES, all_pairs_margin_mse, margin_mse


def batch(queries: int, negatives: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    student, target = torch.randn(2, queries, negatives, generator=generator).unbind()
    mask = torch.rand(queries, negatives, generator=generator) < 0.7
    mask[:, 0] = True
    return student, target, mask


def pairwise(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of all margins of one list, written out."""
    s = torch.cat([torch.zeros(1), -student])
    t = torch.cat([torch.zeros(1), -target])
    pairs = [(i, j) for i in range(len(s)) for j in range(i)]
    return torch.stack([((s[i] - s[j]) - (t[i] - t[j])).square() for i, j in pairs]).mean()


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_all_pairs_is_the_mean_over_pairs_weighted_by_negatives(
    queries: int, negatives: int, seed: int
) -> None:
    student, target, mask = batch(queries, negatives, seed)
    expected = sum(
        m.sum() * pairwise(s[m], t[m]) for s, t, m in zip(student, target, mask, strict=True)
    )
    assert all_pairs_margin_mse(student, target, mask) == pytest.approx(float(expected), rel=1e-4)


def test_with_one_negative_both_losses_are_margin_mse() -> None:
    student, target, mask = batch(7, 1, 0)
    assert torch.allclose(
        all_pairs_margin_mse(student, target, mask), margin_mse(student, target, mask)
    )


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_is_zero_at_its_target_and_ignores_what_is_masked(loss: object) -> None:
    assert callable(loss)
    student, target, mask = batch(4, 3, 1)
    assert loss(target, target, mask) == 0
    changed = torch.where(mask, student, student + 99)
    assert torch.allclose(loss(changed, target, mask), loss(student, target, mask), atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_of_a_batch_is_the_sum_of_its_parts(loss: object) -> None:
    assert callable(loss)
    student, target, mask = batch(8, 3, 2)
    parts = [loss(student[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(8)]
    assert torch.allclose(torch.stack(parts).sum(), loss(student, target, mask))
