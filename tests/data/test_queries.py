"""As many queries as asked, from whom asked, the same each time, and none that is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import Generator, InputError, Passage
from tercet.data import Passages, SpanGenerator, generate_queries
from tercet.data.queries import deal
from tercet.data.sources import BeirFolder


class Numbering:
    """Writes numbered queries that name their passage and seed, and counts its calls."""

    def __init__(self, name: str = "numbering", fail_at: int = -1) -> None:
        self.name = name
        self.calls: list[tuple[tuple[str, ...], int]] = []
        self.fail_at = fail_at

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append((tuple(passage.id for passage in passages), seed))
        return [
            [f"  {self.name}\n{passage.id} {seed} {i} " for i in range(per_passage)]
            for passage in passages
        ]


class Saying:
    """Writes the same for every passage."""

    name = "saying"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        return [list(self.texts) for _ in passages]


PASSAGES = [Passage(f"p{i}", "", "word " * (i % 7 + 1)) for i in range(50)]


def run(
    folder: Path,
    *generators: tuple[Generator, float],
    passages: Sequence[Passage] = PASSAGES,
    count: int = 60,
    per_passage: int | None = 2,
    seed: int = 1,
    judged: Sequence[str] = (),
) -> Artifact:
    return produce(
        Stage(folder / "queries", {}, {}),
        lambda writer: generate_queries(
            writer,
            Passages.of(passages),
            generators,
            count=count,
            per_passage=per_passage,
            seed=seed,
            shard_passages=4,
            judged=judged,
        ),
    )


def rows(artifact: Artifact) -> list[dict[str, str]]:
    return artifact.dataset("queries").to_list()


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in artifact.path.iterdir()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, tiny_beir_path: Path
) -> None:
    passages = [passage for _, passage in BeirFolder(str(tiny_beir_path)).passages()]
    spans = SpanGenerator([passage.contents for passage in passages])
    made = [
        run(tmp_path / str(number), (spans, 1), passages=passages, seed=seed)
        for number, seed in enumerate((1, 1, 2))
    ]
    assert contents(made[0]) == contents(made[1]) != contents(made[2])
    texts = {passage.id: passage.contents for passage in passages}
    assert all(row["query"] in texts[row["passage_id"]] for row in rows(made[0]))


@pytest.mark.fault("a killed writer of queries")
@pytest.mark.parametrize("fail_at", [0, 1, 4])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path, fail_at: int) -> None:
    straight = run(tmp_path / "straight", (Numbering("a"), 2), (Numbering("b"), 1))
    first = Numbering("a", fail_at)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", (first, 2), (Numbering("b"), 1))
    again = Numbering("a")
    resumed = run(tmp_path / "cut", (again, 2), (Numbering("b"), 1))
    assert contents(resumed) == contents(straight)
    assert not {ids for ids, _ in first.calls} & {ids for ids, _ in again.calls}


@pytest.mark.parametrize("count", [1, 7, 60, 99])
def test_as_many_queries_as_asked(tmp_path: Path, count: int) -> None:
    artifact = run(tmp_path, (Numbering(), 1), count=count)
    assert len(rows(artifact)) == artifact.facts["queries"] == count
    assert [row["id"] for row in rows(artifact)] == [f"q{i}" for i in range(count)]


def test_a_small_corpus_gives_more_a_passage_and_a_large_one_three(tmp_path: Path) -> None:
    few = run(tmp_path / "a", (Numbering(), 1), passages=PASSAGES[:4], per_passage=None)
    assert set(Counter(row["passage_id"] for row in rows(few)).values()) == {15}
    many = run(tmp_path / "b", (Numbering(), 1), per_passage=None)
    assert set(Counter(row["passage_id"] for row in rows(many)).values()) == {3}
    assert many.facts["passages_sampled"] == 20


def test_a_corpus_that_is_too_small_gives_what_it_has(tmp_path: Path) -> None:
    artifact = run(tmp_path, (Numbering(), 1), passages=PASSAGES[:3])
    assert len(rows(artifact)) == 6


def test_generators_get_their_shares_of_different_passages(tmp_path: Path) -> None:
    artifact = run(tmp_path, (Numbering("a"), 3), (Numbering("b"), 1), count=80)
    by: dict[str, set[str]] = {}
    for row in rows(artifact):
        by.setdefault(row["generator"], set()).add(row["passage_id"])
    assert {name: len(passages) for name, passages in by.items()} == {"a": 30, "b": 10}
    assert not by["a"] & by["b"]


@given(
    st.integers(1, 60),
    st.lists(st.floats(0.01, 100), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_every_sampled_passage_is_dealt_once(n: int, shares: list[float], size: int) -> None:
    passages = [Passage(str(i), "", "x" * (i % 5)) for i in range(n)]
    sample = np.random.default_rng(0).permutation(n)
    parts = deal([passage.contents for passage in passages], sample, shares, size)
    assert sorted(row for part in parts for row in part.rows) == list(range(n))
    assert all(0 < len(part) <= size for part in parts)
    assert [part.number for part in parts] == list(range(len(parts)))
    dealt = Counter(part.which for part in parts for _ in part.rows)
    for which, share in enumerate(shares):
        assert abs(dealt[which] - n * share / sum(shares)) <= 1


def test_queries_are_one_line_and_no_shard_has_the_seed_of_another(tmp_path: Path) -> None:
    generator = Numbering()
    artifact = run(tmp_path, (generator, 1))
    assert all(row["query"] == " ".join(row["query"].split()) for row in rows(artifact))
    seeds = [seed for _, seed in generator.calls]
    assert len(set(seeds)) == len(seeds) > 5


def test_what_cannot_be_learnt_from_is_dropped_and_counted(tmp_path: Path) -> None:
    texts = ("What  is IT", "what is it?", " ", "A judged\tQuery", "a judged query now", "other")
    artifact = run(
        tmp_path,
        (Saying(*texts), 1),
        passages=PASSAGES[:2],
        per_passage=6,
        count=12,
        judged=["a JUDGED query"],
    )
    assert [row["query"] for row in rows(artifact)] == ["What is IT", "other"] * 2
    assert artifact.facts == {
        "passages_sampled": 2,
        "generated": 12,
        "queries": 4,
        "shared_by_passages": 2,
        "dropped_empty": 2,
        "dropped_repeated": 2,
        "dropped_equal_to_a_judged_query": 2,
        "dropped_near_a_judged_query": 2,
    }


def test_a_generator_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no query is left of 60 that were generated"):
        run(tmp_path, (Saying("", " "), 1))
    with pytest.raises(InputError, match="no query is left of 0"):
        run(tmp_path / "b", (Saying(), 1))
