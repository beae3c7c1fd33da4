"""Each pair is scored once, and every list holds the score of its own pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings, strategies as st

from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import Diverged, InputError, Passage, Teacher
from tercet.data import Passages, score_candidates, score_pairs, write_lists

IDS = [f"p{i}" for i in range(12)]
CONTENTS = [f"{'word ' * (i % 4)}passage {i}" for i in range(12)]
PASSAGES = Passages.of(map(Passage, IDS, [""] * len(IDS), CONTENTS))


class Counting:
    """Scores by what a pair says, and counts how often it was asked."""

    name = "counting"

    def __init__(self, wrong: float | None = None, fail_at: int = -1) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.blocks: list[list[int]] = []
        self.wrong = wrong
        self.fail_at = fail_at

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([len(f"{query} {passage}".split()) for query, passage in pairs])

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        if len(self.blocks) == self.fail_at:
            raise KeyboardInterrupt
        self.asked.update(pairs)
        self.blocks.append(self.lengths(pairs).tolist())
        scores = np.array([true_score(*pair) for pair in pairs], dtype=np.float32)
        if self.wrong is not None:
            scores[-1] = self.wrong
        return scores


def true_score(query: str, passage: str) -> float:
    return float(np.float32(hash_of(query) * 31 + hash_of(passage)))


def hash_of(text: str) -> float:
    return sum(place * ord(character) for place, character in enumerate(text, 1)) % 97


def candidates(lists: Sequence[tuple[str, str, Sequence[str]]]) -> Dataset:
    """Candidates of (query, positive, passages)."""
    return Dataset.from_dict(
        {
            "query_id": [f"q{number}" for number in range(len(lists))],
            "query": [query for query, _, _ in lists],
            "positive": [positive for _, positive, _ in lists],
            "passages": [list(passages) for _, _, passages in lists],
        }
    )


LISTS = [
    ("red", "p0", ["p1", "p2", "p3"]),
    ("green", "p1", ["p0", "p2"]),
    ("red", "p2", ["p1", "p0", "p11"]),
    ("a much longer query", "p3", ["p4", "p5", "p6", "p7"]),
    ("blue", "p8", []),
]


def score(
    folder: Path, teacher: Teacher, lists: Sequence[tuple[str, str, Sequence[str]]] = LISTS
) -> Artifact:
    return produce(
        Stage(folder / "scores", {}, {}),
        lambda writer: score_candidates(
            writer, candidates(lists), PASSAGES, teacher, shard_pairs=4
        ),
    )


def check(artifact: Artifact, lists: Sequence[tuple[str, str, Sequence[str]]]) -> None:
    rows = artifact.dataset("lists").to_list()
    assert len(rows) == len(lists)
    for number, (row, (query, positive, passages)) in enumerate(zip(rows, lists, strict=True)):
        assert (row["query_id"], row["query"]) == (f"q{number}", query)
        assert row["passages"] == [positive, *passages]
        assert row["scores"] == [
            true_score(query, CONTENTS[IDS.index(passage)]) for passage in row["passages"]
        ]


def test_lists_hold_what_scoring_each_pair_directly_gives(tmp_path: Path) -> None:
    artifact = score(tmp_path, Counting())
    check(artifact, LISTS)
    assert artifact.facts == {"queries": 5, "scores": 17, "pairs_scored": 14}


def test_each_different_pair_is_scored_once(tmp_path: Path) -> None:
    teacher = Counting()
    score(tmp_path, teacher)
    assert set(teacher.asked.values()) == {1}
    assert set(teacher.asked) == {
        (query, CONTENTS[IDS.index(passage)])
        for query, positive, passages in LISTS
        for passage in (positive, *passages)
    }


def test_the_longest_pairs_come_first(tmp_path: Path) -> None:
    teacher = Counting()
    score(tmp_path, teacher)
    lengths = [length for block in teacher.blocks for length in block]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(block) for block in teacher.blocks] == [4, 4, 4, 2]


@pytest.mark.fault("a killed teacher")
@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_finished_shards_are_not_scored_again(tmp_path: Path, fail_at: int) -> None:
    straight = score(tmp_path / "straight", Counting())
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path / "cut", Counting(fail_at=fail_at))
    again = Counting()
    resumed = score(tmp_path / "cut", again)
    assert len(again.blocks) == 4 - fail_at
    assert resumed.manifest == straight.manifest


@pytest.mark.fault("a score that is no number")
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e30, -1e5])
def test_a_score_that_is_no_score_is_refused_with_its_pair(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(InputError) as caught:
        score(tmp_path, Counting(wrong))
    message = str(caught.value)
    assert message.startswith("query 'q") and caught.value.exit_code == 4
    assert "teacher counting scored" in message and "not a usable number (1 of 4)" in message
    assert "for 'a much longer query'" in message and "passage '" in message
    assert not (tmp_path / "scores").exists()


@pytest.mark.fault("a score that is no number")
def test_the_query_of_a_pair_that_the_teacher_refuses_is_named(tmp_path: Path) -> None:
    class Refusing(Counting):
        def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
            row = next((row for row, (query, _) in enumerate(pairs) if query == "blue"), None)
            if row is not None:
                raise Diverged("the logit is nan", row=row)
            return super().score(pairs)

    with pytest.raises(Diverged, match="^query 'q4': the logit is nan$"):
        score(tmp_path, Refusing())


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["red", "green", "blue and long", ""]),
            st.sampled_from(IDS),
            st.lists(st.sampled_from(IDS), max_size=5, unique=True),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_lists_line_up(
    tmp_path_factory: pytest.TempPathFactory, lists: list[tuple[str, str, list[str]]]
) -> None:
    teacher = Counting()
    check(score(tmp_path_factory.mktemp("any"), teacher, lists), lists)
    assert set(teacher.asked.values()) == {1}


class Alike(Counting):
    """Pairs have no lengths, as a service's and BM25's."""

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.ones(len(pairs), np.int64)

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        self.queries.append({query for query, _ in pairs})
        return super().score(pairs)

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[set[str]] = []


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["red", "green", "blue", "grey", ""]),
            st.sampled_from(IDS),
            st.lists(st.sampled_from(IDS), max_size=5, unique=True),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_without_lengths_the_pairs_of_a_query_are_in_one_shard(
    tmp_path_factory: pytest.TempPathFactory, lists: list[tuple[str, str, list[str]]]
) -> None:
    teacher = Alike()
    check(score(tmp_path_factory.mktemp("alike"), teacher, lists), lists)
    seen = [query for queries in teacher.queries for query in queries]
    assert len(seen) == len(set(seen))
    assert set(teacher.asked.values()) == {1}
    assert all(len(block) < 4 + 12 for block in teacher.blocks)


def test_several_scorers_stand_side_by_side_in_each_list(tmp_path: Path) -> None:
    class Other(Alike):
        def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
            return -super().score(pairs)

    paths = []
    for name, teacher in (("one", Counting()), ("other", Other())):
        made = produce(
            Stage(tmp_path / name, {}, {}),
            lambda writer, teacher=teacher: score_pairs(
                writer, candidates(LISTS), PASSAGES, teacher, shard_pairs=4
            ),
        )
        paths.append(made.shards("pairs"))
    lists = produce(
        Stage(tmp_path / "scores", {}, {}),
        lambda writer: write_lists(writer, candidates(LISTS), PASSAGES, paths),
    ).dataset("lists")
    for row, (query, positive, passages) in zip(lists, LISTS, strict=True):
        texts = [CONTENTS[IDS.index(id)] for id in (positive, *passages)]
        own = [true_score(query, text) for text in texts]
        assert row["scores"] == [own, [-score for score in own]]
