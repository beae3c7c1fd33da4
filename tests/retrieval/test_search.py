"""Searching and measuring: a query that is a passage of the corpus does not find itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tercet.core.schema import Query
from tercet.retrieval import deeper, evaluate, fuse, measured, search_and_measure, search_deep
from tercet.retrieval.exact_index import ExactIndex

#: A passage is a direction; its neighbours are the next best.
DEGREES = {f"p{i}": 10.0 * i for i in range(8)}
#: Each query is a passage, and the one after next is relevant.
QUERIES = [Query(f"p{i}", f"p{i}", own=1) for i in range(3)]
QRELS = {f"p{i}": {f"p{i + 2}": 1} for i in range(3)}


class Directions:
    """An encoder of names of passages."""

    name = "directions"
    dimension = 2

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        angles = np.radians([DEGREES[text] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    encode_queries = encode_passages


def filled() -> ExactIndex:
    index = ExactIndex()
    index.build(list(DEGREES), Directions().encode_passages(list(DEGREES)))
    return index


def ranked(queries: Sequence[Query], k: int) -> list[list[str]]:
    rankings = filled().search(Directions().encode_queries([q.text for q in queries]), k)
    return [[passage for passage, _ in ranking] for ranking in rankings]


def test_no_figure_counts_the_query_s_own_passage() -> None:
    metrics = ["mrr@2", "recall@2", "hit@1"]
    found = search_and_measure(Directions(), filled(), QUERIES, QRELS, metrics)
    pairs = zip(QUERIES, ranked(QUERIES, 8), strict=True)
    without = [[p for p in ranking if p != query.id] for query, ranking in pairs]
    places = [ranking.index(f"p{i + 2}") + 1 for i, ranking in enumerate(without)]
    assert list(found["mrr@2"].values()) == [1 / place if place <= 2 else 0 for place in places]
    assert list(found["recall@2"].values()) == [float(place <= 2) for place in places]
    plain = [Query(query.id, query.text) for query in QUERIES]
    before = search_and_measure(Directions(), filled(), plain, QRELS, metrics)
    assert sum(before["recall@2"].values()) < sum(found["recall@2"].values())


def test_the_deeper_rankings_are_fused_and_the_others_measured() -> None:
    asked = Directions(), filled(), QUERIES
    dense, deep = search_deep(*asked, 2)
    assert {len(ranking) for ranking in dense} == {3}  # one more, for the query itself
    assert [ranking[:3] for ranking in deep] == dense and {len(ranking) for ranking in deep} == {8}
    for weight in (None, 0.5):
        fused = [fuse([ranking, ranking], 3, weight) for ranking in deep]
        assert measured(QUERIES, fused, 2).keys() == {query.id for query in QUERIES}
        found = evaluate(QRELS, measured(QUERIES, fused, 2), ["recall@2"])
        assert found == search_and_measure(*asked, QRELS, ["recall@2"])  # equal rankings


@pytest.mark.parametrize("depth", [1, 3, None])
def test_a_ranking_is_cut_after_its_own_passage_is_left_out(depth: int | None) -> None:
    queries = [Query("a", "x", own=1), Query("b", "y")]
    ranking = [("a", 3.0), ("b", 2.0), ("c", 1.0), ("d", 0.0)]
    run = measured(queries, [ranking, ranking], depth)
    assert run["a"] == ranking[1:][:depth] and run["b"] == ranking[:depth]
    assert deeper(queries, 10) == 11 and deeper(queries[1:], 10) == 10
