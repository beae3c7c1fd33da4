"""Good targets raise the figure on held-out queries, bad ones lower it, few queries say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from tercet.core.schema import Passage, Query
from tercet.data import Passages
from tercet.modeling.training.adapter_trial import FEWEST, adapter_trial

DIMENSION, PASSAGES, QUERIES = 16, 200, 400


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


RANDOM = np.random.default_rng(3)
VECTORS = unit(RANDOM.normal(size=(PASSAGES, DIMENSION)))
IDS = [f"p{i}" for i in range(PASSAGES)]
CORPUS = Passages.of(Passage(id, "", f"text of {id}") for id in IDS)
OWN = RANDOM.integers(PASSAGES, size=QUERIES)
#: What would find each query's passage; the student sees the half of it in the wrong place.
MEANT = unit(VECTORS[OWN] + 0.1 * RANDOM.normal(size=(QUERIES, DIMENSION)))
SEEN = unit(MEANT + np.roll(MEANT, 1, axis=1))


class Student:
    normalize = True

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return SEEN[[int(text) for text in texts]]


def lists() -> Dataset:
    rows = []
    for i, own in enumerate(OWN.tolist()):
        others = np.argsort(-(VECTORS @ SEEN[i]))[:20]
        passages = [own, *(int(p) for p in others if p != own)][:15]
        rows.append({"query": str(i), "split": "train", "passages": [IDS[p] for p in passages]})
    return Dataset.from_list(rows)


LISTS = lists()


def scores(queries: np.ndarray) -> list[np.ndarray]:
    """Of each list, by these vectors of its query."""
    rows = [[int(p[1:]) for p in passages] for passages in LISTS["passages"]]
    return [VECTORS[passages] @ query for passages, query in zip(rows, queries, strict=True)]


def trial(count: int = QUERIES) -> Any:
    held_out = [Query(f"q{i}", str(i)) for i in range(count)]
    qrels = {f"q{i}": {IDS[OWN[i]]: 1} for i in range(count)}
    student: Any = Student()
    return adapter_trial(student, CORPUS, VECTORS, LISTS, held_out, qrels, seed=1)


def test_the_figure_tells_good_targets_from_none_and_from_bad_ones() -> None:
    figure = trial()
    good, own, bad = (figure(scores(q)).mean() for q in (MEANT, SEEN, SEEN - 2 * MEANT))
    assert good > own + 0.05
    assert bad < own - 0.05
    assert len(figure(scores(MEANT))) == QUERIES
    assert figure(scores(MEANT)).mean() == good


@pytest.mark.parametrize(("count", "enough"), [(FEWEST, True), (FEWEST - 1, False)])
def test_few_held_out_queries_choose_nothing(count: int, enough: bool) -> None:
    assert (trial(count) is not None) == enough


def test_the_adapter_learns_from_training_queries_alone() -> None:
    held = np.arange(QUERIES) % 2 == 0
    split = np.where(held, "validation", "train").tolist()
    lists = LISTS.remove_columns("split").add_column("split", split)
    held_out = [Query(f"q{i}", str(i)) for i in np.flatnonzero(held)]
    qrels = {f"q{i}": {IDS[OWN[i]]: 1} for i in np.flatnonzero(held)}
    student: Any = Student()
    figure: Any = adapter_trial(student, CORPUS, VECTORS, lists, held_out, qrels, seed=1)
    good, bad = scores(MEANT), scores(SEEN - 2 * MEANT)
    found = figure(good)
    spoilt = [bad[i] if held[i] else good[i] for i in range(QUERIES)]
    assert np.array_equal(figure(spoilt), found)
    spoilt = [good[i] if held[i] else bad[i] for i in range(QUERIES)]
    assert figure(spoilt).mean() < found.mean()


class Asked:
    """Targets that note whose are asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __getitem__(self, row: int) -> np.ndarray:
        self.rows.append(int(row))
        return scores(MEANT)[row]


def test_of_many_training_queries_the_seed_draws_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.modeling.training.adapter_trial.MOST_TRAINED", 40)
    asked: Any = Asked()
    figure = trial()
    figure(asked)
    assert len(set(asked.rows)) == 40 and asked.rows == sorted(asked.rows)
    # Queries stand by their generators: of the first and of the last half there are some.
    assert 8 < sum(row < QUERIES // 2 for row in asked.rows) < 32
