"""Margins are those of the targets, draws repeat, and held out is held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, strategies as st

from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import InputError, Passage
from tercet.data import Filters, Passages, Triplets, build_triplets
from tercet.data.triplets import _splits, near_positives

DIMENSION = 8
IDS = [f"p{i:02}" for i in range(40)]
PASSAGES = Passages.of(Passage(id, "", f"text of {id}") for id in IDS)
VECTORS = np.random.default_rng(0).normal(size=(len(IDS), DIMENSION)).astype(np.float32)


class Seeded:
    """Vectors that a text alone decides."""

    name = "seeded"
    dimension = DIMENSION

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        rows = [np.random.default_rng(list(text.encode())).normal(size=DIMENSION) for text in texts]
        return np.array(rows, dtype=np.float32)

    encode_passages = encode_queries


def scored_lists(queries: int = 60, candidates: int = 6) -> Dataset:
    """Lists with a positive that goes round the passages, so that some share theirs."""
    random = np.random.default_rng(1)
    passages = []
    for number in range(queries):
        positive = IDS[number % 25]
        others = [id for id in IDS if id != positive]
        passages.append([positive, *random.choice(others, candidates, replace=False).tolist()])
    return Dataset.from_dict(
        {
            "query_id": [f"q{number}" for number in range(queries)],
            "query": [f"query number {number}" for number in range(queries)],
            "passages": passages,
            "scores": random.normal(scale=4, size=(queries, candidates + 1)).tolist(),
        }
    )


def build(folder: Path, lists: Dataset, held_out: dict[str, float], seed: int = 3) -> Artifact:
    return produce(
        Stage(folder / "triplets", {}, {}),
        lambda writer: build_triplets(
            writer, lists, Seeded(), PASSAGES, VECTORS, held_out=held_out, seed=seed
        ),
    )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    parts = {"validation": 0.2, "test": 0.2}
    return build(tmp_path_factory.mktemp("triplets"), scored_lists(), parts)


def triplets(artifact: Artifact, **changes: Any) -> Triplets:
    lists = artifact.dataset("lists")
    given: dict[str, Any] = {"negatives_per_query": 3, "seed": 5}
    return Triplets(lists, targets(lists), **(given | changes))


def targets(lists: Dataset) -> Dataset:
    """Something between both models' scores."""
    pairs = zip(lists["teacher"], lists["student"], strict=True)
    between = [[0.6 * s + 0.1 * t for t, s in zip(*pair, strict=True)] for pair in pairs]
    return Dataset.from_dict({"query_id": lists["query_id"][:], "target": between})


# ── lists and splits ─────────────────────────────────────────────────────────────────────────────


def test_lists_keep_the_teachers_scores_and_add_the_students(artifact: Artifact) -> None:
    rows = artifact.dataset("lists").to_list()
    for row, source in zip(rows, scored_lists().to_list(), strict=True):
        assert (row["query_id"], row["query"]) == (source["query_id"], source["query"])
        assert row["passages"] == source["passages"]
        assert row["teacher"] == pytest.approx(source["scores"])
        (query,) = Seeded().encode_queries([row["query"]])
        direct = [float(VECTORS[IDS.index(passage)] @ query) for passage in row["passages"]]
        assert row["student"] == pytest.approx(direct, rel=1e-5, abs=1e-5)


def test_held_out_queries_share_no_passage_with_training(artifact: Artifact) -> None:
    positives: dict[str, set[str]] = {}
    for row in artifact.dataset("lists"):
        positives.setdefault(row["split"], set()).add(row["passages"][0])
    assert {split: len(found) for split, found in positives.items()} == {
        "train": 15,
        "validation": 5,
        "test": 5,
    }
    assert len(set.union(*positives.values())) == 25
    facts = artifact.facts
    splits = artifact.dataset("lists")["split"][:]
    for split in positives:
        assert facts[f"{split}_queries"] == splits.count(split)


def test_the_same_seed_holds_out_the_same_queries(artifact: Artifact, tmp_path: Path) -> None:
    parts = {"validation": 0.2, "test": 0.2}
    again = build(tmp_path / "again", scored_lists(), parts)
    other = build(tmp_path / "other", scored_lists(), parts, seed=4)
    assert again.manifest == artifact.manifest
    assert other.dataset("lists")["split"][:] != artifact.dataset("lists")["split"][:]


@given(
    st.lists(st.sampled_from(IDS), min_size=1, max_size=50),
    st.dictionaries(st.sampled_from(["validation", "test"]), st.floats(0.01, 0.5)),
    st.integers(0, 2**32),
)
def test_every_split_has_a_passage_and_no_passage_has_two(
    positives: list[str], held_out: dict[str, float], seed: int
) -> None:
    queries, lists = [f"query {i}" for i in range(len(positives))], [[p, "z"] for p in positives]
    splits = _splits(queries, lists, held_out, seed)
    assert len(splits) == len(positives)
    assert len(set(zip(positives, splits, strict=True))) == len(set(positives))
    if len(set(positives)) >= 2:
        assert set(splits) >= set(held_out) or sum(held_out.values()) > 0.9
    assert _splits(queries, lists, held_out, seed) == splits


@pytest.mark.fault("test queries in training")
def test_a_held_out_text_is_not_trained_on_nor_a_query_without_candidates() -> None:
    lists = [[f"p{i}", "z"] for i in range(10)]
    splits = _splits(["Same  text", "same text"] * 5, lists, {"validation": 0.2}, seed=1)
    assert sorted(splits) == ["left_out"] * 8 + ["validation"] * 2
    assert _splits(["one", "two"], [["p1"], ["p2", "z"]], {}, seed=1) == ["left_out", "train"]


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no query is left to train on"):
        build(tmp_path, scored_lists(queries=1), {"validation": 0.2})


def test_nothing_is_held_out_unless_asked(tmp_path: Path) -> None:
    made = build(tmp_path, scored_lists(), {})
    assert set(made.dataset("lists")["split"]) == {"train"}
    assert made.facts["train_queries"] == len(triplets(made)) == 60


def test_the_audit_says_where_the_teacher_puts_the_positives(tmp_path: Path) -> None:
    lists = scored_lists(queries=2, candidates=3).to_dict()
    lists["scores"] = [[5.0, 1.0, 2.0, 3.0], [1.0, 5.0, 2.0, 0.0]]
    facts = build(tmp_path, Dataset.from_dict(lists), {}).facts
    assert facts["positive_mean_logit"] == 3
    assert facts["positive_mean_rank"] == 2
    assert facts["positive_first"] == 0.5


# ── filters ──────────────────────────────────────────────────────────────────────────────────────

SCORED = [
    np.array(scores, np.float32)
    for scores in ([9, 1, 2], [5, 6, 7], [1, 0, 0], [6, 5.5, 1], [8, 7, 9], [2, 1, 1])
]


@pytest.mark.parametrize(
    ("filters", "dropped"),
    [
        (Filters(), {}),
        (Filters(rank=1), {"rank": [1, 4]}),
        (Filters(rank=2), {"rank": [1]}),
        (Filters(percentile=25), {"percentile": [2, 5]}),
        (Filters(fits=1), {"fits": [1, 3, 4]}),  # the median of the own passages is 5.5
        (Filters(fits=2), {"fits": [1, 4]}),
        (
            Filters(rank=1, percentile=25, fits=1),
            {"rank": [1, 4], "percentile": [2, 5], "fits": [3]},
        ),
    ],
)
def test_a_filter_drops_what_the_scores_say_and_counts_it(
    filters: Filters, dropped: dict[str, list[int]]
) -> None:
    split = ["train"] * 6
    counts = filters.apply(split, SCORED)
    assert counts == {name: len(rows) for name, rows in dropped.items()}
    gone = sorted(row for rows in dropped.values() for row in rows)
    assert [i for i, name in enumerate(split) if name == "filtered"] == gone


def test_what_is_held_out_is_not_filtered(tmp_path: Path) -> None:
    def build_with(folder: Path, filters: Filters | None) -> Artifact:
        return produce(
            Stage(folder / "triplets", {}, {}),
            lambda writer: build_triplets(
                writer,
                scored_lists(),
                Seeded(),
                PASSAGES,
                VECTORS,
                held_out={"validation": 0.4},
                seed=3,
                filters=filters,
            ),
        )

    before, after = build_with(tmp_path / "a", None), build_with(tmp_path / "b", Filters(rank=1))
    was, now = (made.dataset("lists")["split"][:] for made in (before, after))
    assert all(w == n for w, n in zip(was, now, strict=True) if w == "validation")
    assert after.facts["filtered_by_rank"] == now.count("filtered") > 0
    assert after.facts["train_queries"] == before.facts["train_queries"] - now.count("filtered")
    with pytest.raises(InputError, match="candidates .percentile: "):
        build_with(tmp_path / "c", Filters(percentile=100, fits=1))


# ── draws ────────────────────────────────────────────────────────────────────────────────────────


def test_a_margin_is_between_the_targets_of_the_passages_that_are_drawn(
    artifact: Artifact,
) -> None:
    train, lists = triplets(artifact), artifact.dataset("lists")
    wanted = dict(zip(lists["query"], targets(lists)["target"], strict=True))
    passages = dict(zip(lists["query"], lists["passages"], strict=True))
    for number in range(len(train)):
        item, query = train[number], train.queries[number]
        places = [passages[query].index(passage) for passage in item["passages"]]
        assert places[0] == 0 and item["query"] == number
        assert item["margins"].dtype == np.float32
        expected = [wanted[query][0] - wanted[query][place] for place in places[1:]]
        assert item["margins"] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_negatives_are_different_and_never_the_positive(artifact: Artifact) -> None:
    train = triplets(artifact, negatives_per_query=6)
    for epoch in range(5):
        train.set_epoch(epoch)
        for number in range(len(train)):
            passages = train[number]["passages"]
            assert len(set(passages)) == len(passages) == 7
            assert len(train[number]["margins"]) == 6


def test_draws_differ_across_epochs_and_repeat_within_one(artifact: Artifact) -> None:
    train, again = triplets(artifact), triplets(artifact)
    draws = []
    for epoch in (0, 1, 2):
        train.set_epoch(epoch)
        again.set_epoch(epoch)
        draws.append([train[number]["passages"] for number in range(len(train))])
        # Whatever was read before, and in whatever order.
        backwards = [again[number]["passages"] for number in reversed(range(len(again)))]
        assert backwards[::-1] == draws[-1]
    assert draws[0] != draws[1] != draws[2] != draws[0]
    train.set_epoch(0)
    assert [train[number]["passages"] for number in range(len(train))] == draws[0]
    other = triplets(artifact, seed=6)
    assert [other[number]["passages"] for number in range(len(other))] != draws[0]


def test_every_candidate_is_drawn_in_time(artifact: Artifact) -> None:
    train = triplets(artifact)
    drawn: set[str] = set()
    for epoch in range(40):
        train.set_epoch(epoch)
        drawn.update(passage for n in range(len(train)) for passage in train[n]["passages"])
    assert drawn == train.passage_ids()


def test_a_short_list_gives_what_it_has(tmp_path: Path) -> None:
    train = triplets(build(tmp_path, scored_lists(candidates=2), {}), negatives_per_query=5)
    assert len(train[0]["passages"]) == 3 and len(train[0]["margins"]) == 2


def test_only_the_split_asked_for_is_read(artifact: Artifact) -> None:
    lists = artifact.dataset("lists")
    for split in ("train", "validation", "test"):
        expected = [row["query"] for row in lists if row["split"] == split]
        assert triplets(artifact, split=split).queries == expected


def test_rows_are_the_epochs_triplets_one_by_one(artifact: Artifact) -> None:
    train = triplets(artifact)
    train.set_epoch(2)
    rows = list(train.rows())
    assert len(rows) == 3 * len(train)
    for number in range(len(train)):
        item, own = train[number], rows[3 * number : 3 * number + 3]
        assert [row["negative"] for row in own] == item["passages"][1:]
        assert {row["positive"] for row in own} == {item["passages"][0]}
        assert [row["margin"] for row in own] == pytest.approx(item["margins"].tolist())
    by_query = {row["query"]: row for row in artifact.dataset("lists")}
    for row in rows:
        source = by_query[row["query"]]
        teacher = dict(zip(source["passages"], source["teacher"], strict=True))
        assert row["positive_score"] == pytest.approx(teacher[row["positive"]])
        assert row["negative_score"] == pytest.approx(teacher[row["negative"]])


@given(st.integers(0, 2**32), st.integers(0, 10**6), st.integers(1, 9))
def test_any_seed_and_epoch_can_be_drawn(
    artifact: Artifact, seed: int, epoch: int, negatives: int
) -> None:
    train = triplets(artifact, seed=seed, negatives_per_query=negatives)
    train.set_epoch(epoch)
    assert len(train[0]["passages"]) == 1 + min(negatives, 6)


@pytest.mark.parametrize("scale", [1, 40])
@pytest.mark.parametrize(
    ("fraction", "near"),
    [
        (0.0, [[3], [], [1, 2]]),
        (0.1, [[1, 3], [], [1, 2]]),
        (0.65, [[1, 2, 3], [2], [1, 2]]),
        (1.0, [[1, 2, 3, 4], [1, 2], [1, 2]]),
    ],
)
def test_a_passage_is_near_where_little_of_the_largest_margin_parts_it_from_its_positive(
    scale: float, fraction: float, near: list[list[int]]
) -> None:
    # The last list has none below its positive.
    margins = [[0.01, 0.1, -0.2, 0.2], [0.5, 0.3], [-1, -2]]
    for of_list, expected in zip(margins, near, strict=True):
        target = scale * (7 - np.array([0, *of_list], dtype=np.float32))
        assert near_positives(target, fraction).tolist() == expected


def test_near_positives_are_named_whether_drawn_or_not(artifact: Artifact) -> None:
    found = triplets(artifact, negatives_per_query=1, false_negative_margin=0.4)
    lists = artifact.dataset("lists")
    rows = [row for row, split in enumerate(lists["split"]) if split == "train"]
    seen = set()
    for item, row, target in zip(
        (found[i] for i in range(len(found))),
        rows,
        targets(lists).select(rows)["target"],
        strict=True,
    ):
        places = near_positives(np.array(target, np.float32), 0.4)
        assert item["near"] == [lists[row]["passages"][place] for place in places]
        seen |= {passage in item["passages"] for passage in item["near"]}
    assert seen == {True, False}
