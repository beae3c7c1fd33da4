from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tercet.modeling.training.losses import all_pairs_margin_mse, info_nce, listwise_kl, margin_mse

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
LOSSES: dict[str, Loss] = {
    "margin_mse": margin_mse,
    "all_pairs": all_pairs_margin_mse,
    "kl": partial(listwise_kl, temperature=0.5),
}


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
@settings(max_examples=50)
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
def test_a_loss_is_zero_at_its_target_and_ignores_what_is_masked(loss: Loss) -> None:
    student, target, mask = batch(4, 3, 1)
    at_target = target.clone().requires_grad_()
    loss(at_target, target, mask).backward()
    assert loss(target, target, mask) == 0
    assert torch.allclose(at_target.grad, torch.zeros_like(target), atol=1e-6)
    changed = torch.where(mask, student, student + 99)
    assert torch.allclose(loss(changed, target, mask), loss(student, target, mask), atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_of_a_batch_is_the_sum_of_its_parts(loss: Loss) -> None:
    student, target, mask = batch(8, 3, 2)
    parts = [loss(student[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(8)]
    assert torch.allclose(torch.stack(parts).sum(), loss(student, target, mask))


@pytest.mark.parametrize("teacher_temperature", [None, 0.3])
def test_kl_is_that_of_the_lists_scores_wherever_they_lie(
    teacher_temperature: float | None,
) -> None:
    student, target, mask = batch(5, 4, 3)
    temperatures = (0.05, teacher_temperature or 0.05)
    expected = torch.tensor(0.0)
    for i in range(5):
        # The scores of a list, the positive's first, with some shift.
        s, t = (torch.cat([torch.zeros(1), -m[i][mask[i]]]) + 7 * i for m in (student, target))
        p, q = (x.div(T).softmax(0) for x, T in zip((s, t), temperatures, strict=True))
        expected += mask[i].sum() * (q * (q.log() - p.log())).sum()
    found = listwise_kl(
        student, target, mask, temperature=0.05, teacher_temperature=teacher_temperature
    )
    assert torch.allclose(found, expected, rtol=1e-4)


def test_kl_of_unlike_temperatures_is_least_where_the_distributions_are_one() -> None:
    _, target, mask = batch(5, 4, 4)
    student = (target * 0.05 / 0.3).requires_grad_()
    listwise_kl(student, target, mask, temperature=0.05, teacher_temperature=0.3).backward()
    assert torch.allclose(student.grad, torch.zeros_like(target), atol=1e-5)


def test_kl_stays_finite_where_the_lists_are_far_apart() -> None:
    student, target, mask = batch(5, 4, 5)
    far = (student * 1e4).requires_grad_()
    loss = listwise_kl(far, target * -1e4, mask, temperature=0.05)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(far.grad).all()


def test_info_nce_is_the_cross_entropy_over_what_is_not_excluded() -> None:
    generator = torch.Generator().manual_seed(6)
    scores = torch.randn(3, 6, generator=generator)
    positive = torch.tensor([4, 0, 4])
    excluded = torch.rand(3, 6, generator=generator) < 0.4
    weight = torch.tensor([5, 1, 2])
    expected = torch.tensor(0.0)
    for i in range(3):
        others = [j for j in range(6) if j != positive[i] and not excluded[i, j]]
        kept = torch.exp(scores[i, [int(positive[i]), *others]] / 0.2)
        expected -= weight[i] * (kept[0] / kept.sum()).log()
    found = info_nce(scores, positive, excluded, weight, temperature=0.2)
    assert torch.allclose(found, expected)
    changed = torch.where(excluded.scatter(1, positive[:, None], False), 99.0, scores)
    assert torch.allclose(found, info_nce(changed, positive, excluded, weight, temperature=0.2))
