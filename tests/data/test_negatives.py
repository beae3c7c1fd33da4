"""Candidates are what retrievers find best and is no positive, in the shares asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, strategies as st

from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import InputError, Passage, Ranking, Retriever
from tercet.data import Passages, mine_candidates
from tercet.data.negatives import _choose, _shares
from tercet.data.sources import BeirFolder
from tercet.retrieval import BM25Retriever


class Ranked:
    """Finds what it was told to, for every query alike or for each its own."""

    def __init__(self, name: str, found: Sequence[str] | Mapping[str, Sequence[str]]) -> None:
        self.name = name
        self.found = found
        self.calls = 0

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        self.calls += 1
        found = [self.found[q] if isinstance(self.found, Mapping) else self.found for q in queries]
        return [[(p, 1.0 / rank) for rank, p in enumerate(ids[:k], 1)] for ids in found]


def mine(
    folder: Path,
    queries: Sequence[tuple[str, str]],
    passages: Mapping[str, str],
    *retrievers: tuple[Retriever, int],
    candidates: int = 4,
    shard_queries: int = 2,
    ratio: float | None = None,
) -> Artifact:
    """The artefact for (query, positive) pairs over passages by id."""
    dataset = Dataset.from_dict(
        {
            "id": [f"q{number}" for number in range(len(queries))],
            "query": [query for query, _ in queries],
            "passage_id": [positive for _, positive in queries],
            "generator": ["test"] * len(queries),
        }
    )
    return produce(
        Stage(folder / "negatives", {}, {}),
        lambda writer: mine_candidates(
            writer,
            dataset,
            Passages.of(Passage(id, "", text) for id, text in passages.items()).duplicates,
            retrievers,
            candidates=candidates,
            shard_queries=shard_queries,
            max_positive_ratio=ratio,
        ),
    )


def rows(artifact: Artifact) -> list[dict]:
    return artifact.dataset("candidates").to_list()


class Scored:
    """Gives every query the same scores."""

    def __init__(self, name: str, scores: Mapping[str, float]) -> None:
        self.name, self.scores = name, scores

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        ranking = sorted(self.scores.items(), key=lambda pair: -pair[1])[:k]
        return [ranking for _ in queries]


LETTERS = {letter: f"text of {letter}" for letter in "abcdefghij"}


def test_one_retriever_gives_its_best_but_the_positive(tmp_path: Path) -> None:
    ids = {f"p{i:02}": str(i) for i in range(60)}
    order = list(ids)[::-1]
    artifact = mine(
        tmp_path, [("one", order[3]), ("two", "p00")], ids, (Ranked("r", order), 1), candidates=25
    )
    one, two = rows(artifact)
    assert one["passages"] == [p for p in order if p != order[3]][:25]
    assert two["passages"] == order[:25]
    assert (one["query_id"], one["query"], one["positive"]) == ("q0", "one", order[3])
    assert artifact.facts["short_lists"] == 0 and artifact.facts["candidates"] == 50


def test_the_positive_and_passages_of_its_text_are_no_negatives(tmp_path: Path) -> None:
    passages = LETTERS | {"b": LETTERS["a"], "c": LETTERS["a"], "e": LETTERS["d"]}
    artifact = mine(
        tmp_path,
        [("one", "a"), ("two", "d"), ("three", "j")],
        passages,
        (Ranked("r", "abcdefghij"), 1),
    )
    assert [row["passages"] for row in rows(artifact)] == [
        ["d", "e", "f", "g"],
        ["a", "b", "c", "f"],
        ["a", "b", "c", "d"],
    ]
    assert artifact.facts["equal_texts_left_out"] == 3


def test_each_retriever_gives_its_share_and_the_rest_is_topped_up(tmp_path: Path) -> None:
    first, second = Ranked("first", "abcdefghij"), Ranked("second", "abxjihgfedc"[:2] + "jihg")
    (row,) = rows(mine(tmp_path, [("q", "e")], LETTERS, (first, 3), (second, 2), candidates=6))
    # Four of the first; of the second's two best, which are there already, its next ones.
    assert row["passages"] == ["a", "b", "c", "d", "j", "i"]


def test_ranks_and_scores_of_every_retriever_are_kept(tmp_path: Path) -> None:
    first, second = Ranked("first", "abc"), Ranked("second", "cjb")
    (row,) = rows(mine(tmp_path, [("q", "b")], LETTERS, (first, 1), (second, 1)))
    assert row["passages"] == ["a", "c", "j"]
    assert row["first_rank"] == [1, 3, None]
    assert row["second_rank"] == [None, 1, 2]
    assert row["first_score"] == pytest.approx([1, 1 / 3, None])
    assert row["second_score"] == pytest.approx([None, 1, 1 / 2])


def test_a_short_list_is_counted(tmp_path: Path) -> None:
    artifact = mine(tmp_path, [("q", "a"), ("r", "j")], LETTERS, (Ranked("r", "abcde"), 1))
    assert [len(row["passages"]) for row in rows(artifact)] == [4, 4]
    short = mine(tmp_path / "2", [("q", "a"), ("r", "j")], LETTERS, (Ranked("r", "abc"), 1))
    assert [len(row["passages"]) for row in rows(short)] == [2, 3]
    assert short.facts["short_lists"] == 2 and short.facts["candidates"] == 5


def test_real_rankings_hold_no_positive_and_no_passage_twice(
    tmp_path: Path, tiny_beir_path: Path
) -> None:
    passages = [passage for _, passage in BeirFolder(str(tiny_beir_path)).passages()]
    queries = [(passage.contents[:30], passage.id) for passage in passages]
    retrievers: list[tuple[Retriever, int]] = [
        (BM25Retriever(passages), 2),
        (Ranked("fixed", [passage.id for passage in passages]), 1),
    ]
    contents = {passage.id: passage.contents for passage in passages}
    artifact = mine(tmp_path, queries, contents, *retrievers, candidates=9, shard_queries=16)
    assert len(artifact.dataset("candidates")) == 60
    for row, (query, positive) in zip(rows(artifact), queries, strict=True):
        assert row["query"] == query and row["positive"] == positive
        assert positive not in row["passages"]
        assert len(set(row["passages"])) == len(row["passages"]) == 9


@pytest.mark.fault("a killed search for negatives")
def test_finished_shards_are_not_searched_again(tmp_path: Path) -> None:
    class Failing(Ranked):
        def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().search(queries, k)

    queries = [(f"query {letter}", letter) for letter in "abcdefgh"]
    with pytest.raises(KeyboardInterrupt):
        mine(tmp_path / "cut", queries, LETTERS, (Failing("r", "abcdefgh"), 1))
    again = Ranked("r", "abcdefgh")
    resumed = mine(tmp_path / "cut", queries, LETTERS, (again, 1))
    straight = mine(tmp_path / "straight", queries, LETTERS, (Ranked("r", "abcdefgh"), 1))
    assert again.calls == 2
    assert resumed.manifest == straight.manifest


def test_two_retrievers_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two have one name \(r, r\)"):
        mine(tmp_path, [("q", "a")], LETTERS, (Ranked("r", "abc"), 1), (Ranked("r", "abc"), 1))
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 100))
def test_shares_are_in_proportion_and_add_up(shares: list[int], candidates: int) -> None:
    parts = _shares(shares, candidates)
    assert sum(parts) == candidates
    for part, share in zip(parts, shares, strict=True):
        assert abs(part - candidates * share / sum(shares)) <= 1


RANKINGS = st.lists(
    st.lists(st.sampled_from("abcdefghijkl"), unique=True, max_size=12), min_size=1, max_size=3
)


@given(RANKINGS, st.sets(st.sampled_from("abcdefghijkl")), st.integers(1, 12), st.data())
def test_chosen_are_different_and_as_many_as_there_are(
    rankings: list[list[str]], excluded: set[str], candidates: int, data: st.DataObject
) -> None:
    weights = [data.draw(st.integers(1, 5)) for _ in rankings]
    shares = _shares(weights, candidates)
    scored = [[(passage, 0.0) for passage in ranking] for ranking in rankings]
    chosen = _choose(scored, shares, excluded, candidates)
    found = {passage for ranking in rankings for passage in ranking} - excluded
    assert len(set(chosen)) == len(chosen) == min(candidates, len(found))
    assert set(chosen) <= found
    for ranking, share in zip(rankings, shares, strict=True):
        # The best of each retriever's own share are always among them.
        assert set([p for p in ranking if p not in excluded][:share]) <= set(chosen)
        # And it never skips a better passage for a worse one that nobody else gave.
        own = [p for p in ranking if p not in excluded]
        others = {p for other in rankings if other is not ranking for p in other}
        alone = [p in chosen for p in own if p not in others]
        assert alone == sorted(alone, reverse=True)


@pytest.mark.parametrize(
    ("scores", "ratio", "expected"),
    [
        ({"b": 9.6, "c": 9.5, "d": 9.4, "a": 10.0}, 0.95, "cd"),  # at the limit is not above it
        ({"b": 9.6, "c": 9.5, "d": 9.4, "a": 10.0}, None, "bcd"),
        ({"b": 11.0, "c": 9.6, "d": 1.0, "a": 10.0}, 1.0, "cd"),
        ({"b": -0.9, "c": -1.1, "d": -3.0, "a": -1.0}, 0.95, "cd"),  # of a source below zero
        ({"b": 3.0, "c": 2.0}, 0.95, ""),  # the source is not found: both are ahead of it
    ],
)
def test_what_scores_near_the_source_is_no_candidate(
    scores: dict[str, float], ratio: float | None, expected: str, tmp_path: Path
) -> None:
    artifact = mine(tmp_path, [("q", "a")], LETTERS, (Scored("s", scores), 1), ratio=ratio)
    assert rows(artifact)[0]["passages"] == [*expected]


def test_what_one_retriever_finds_too_near_is_no_candidate_of_another(tmp_path: Path) -> None:
    dense, bm25 = Scored("d", {"a": 1.0, "b": 0.99, "c": 0.5}), Scored("b", {"a": 9.0, "b": 1.0})
    artifact = mine(tmp_path, [("q", "a")], LETTERS, (dense, 1), (bm25, 1), ratio=0.95)
    assert rows(artifact)[0]["passages"] == ["c"]
