"""The adapter begins as nothing, learns margins, and leaves everything else alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tercet.modeling import all_pairs_margin_mse, train_adapter
from tercet.modeling.encoders.query_adapter import QueryAdapter

DIMENSION, QUERIES, PASSAGES = 16, 80, 50


def unit(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


Q, P = unit(QUERIES, 0), unit(PASSAGES, 1)
LISTS = [
    np.random.default_rng(i).permutation(PASSAGES)[: 4 + i % 3].astype(np.int64)
    for i in range(QUERIES)
]


def targets(queries: np.ndarray) -> list[np.ndarray]:
    return [P[rows] @ query for rows, query in zip(LISTS, queries, strict=True)]


def train(wanted: list[np.ndarray], *, epochs: int = 20, seed: int = 1) -> QueryAdapter:
    given = {"normalize": True, "rank": DIMENSION, "epochs": epochs, "seed": seed}
    return train_adapter(Q, P, LISTS, wanted, all_pairs_margin_mse, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("normalize", [True, False])
def test_untrained_it_changes_nothing(normalize: bool) -> None:
    adapter = QueryAdapter(DIMENSION, rank=4, normalize=normalize)
    assert adapter.apply_to(Q) == pytest.approx(Q, abs=1e-6)


def test_towards_the_students_own_scores_there_is_nothing_to_learn() -> None:
    # AdamW makes small steps even of the noise of rounding.
    assert train(targets(Q)).apply_to(Q) == pytest.approx(Q, abs=2e-2)


def test_it_learns_what_a_turn_of_the_queries_would_give() -> None:
    turned = Q + 0.5 * np.roll(Q, 1, axis=1)
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    wanted = targets(turned)

    def error(queries: np.ndarray) -> float:
        scores = targets(queries)
        centred = [(a - a.mean()) - (b - b.mean()) for a, b in zip(scores, wanted, strict=True)]
        return float(np.mean(np.concatenate(centred) ** 2))

    adapted = train(wanted, epochs=200).apply_to(Q)
    assert error(adapted) < 0.1 * error(Q)
    assert np.linalg.norm(adapted, axis=1) == pytest.approx(1, abs=1e-5)


def test_equal_arguments_give_equal_weights_and_the_callers_randomness_is_left_alone() -> None:
    wanted = targets(unit(QUERIES, 5))
    before = torch.random.get_rng_state()
    first, again, other = train(wanted), train(wanted), train(wanted, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(first.apply_to(Q), again.apply_to(Q))
    assert not np.array_equal(first.apply_to(Q), other.apply_to(Q))
