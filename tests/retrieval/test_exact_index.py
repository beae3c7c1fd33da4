from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from tercet.core.mapped import MappedVectors
from tercet.core.schema import InputError, Size
from tercet.retrieval import exact_index
from tercet.retrieval.exact_index import ExactIndex
from tercet.retrieval.validation import check_queries, check_vectors


def unit_vectors(count, dimension, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def built(ids, vectors):
    index = ExactIndex()
    index.build(ids, vectors)
    return index


@given(
    arrays(np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(-2, 2)),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_rankings_are_those_of_a_full_sort_in_whatever_order_passages_came(vectors, k, rng):
    vectors[~vectors.any(axis=1)] = 1
    names = [f"p{i}" for i in range(len(vectors))]
    queries = np.array([[1, 2, -1], [0, 1, 0]], np.float32)
    order = list(range(len(names)))
    rng.shuffle(order)
    index = built([names[i] for i in order], vectors[order])
    for query, ranking in zip(queries, index.search(queries, k), strict=True):
        scored = [
            (name, float(vector @ query)) for name, vector in zip(names, vectors, strict=True)
        ]
        expected = sorted(scored, key=lambda pair: (pair[1], pair[0]), reverse=True)[:k]
        assert list(ranking) == expected


def test_order_batch_and_blocks_change_no_bit_even_among_equal_vectors(monkeypatch):
    vectors = unit_vectors(500, 37)[np.arange(1000) % 500]  # every vector twice
    names = [f"p{i:04}" for i in range(1000)]
    queries = unit_vectors(20, 37, seed=1)
    rankings = built(names, vectors).search(queries, 7)
    order = np.random.default_rng(2).permutation(1000)
    index = built([names[i] for i in order], vectors[order])
    assert index.search(queries, 7) == rankings
    assert [index.search(query[None], 7)[0] for query in queries] == rankings
    monkeypatch.setattr(exact_index, "_SCORES_AT_ONCE", 3000)
    assert index.search(queries, 7) == rankings
    for ranking in rankings:
        assert [int(id[1:]) for id, _ in ranking[:6:2]] == [
            int(id[1:]) + 500 for id, _ in ranking[1:6:2]
        ]


def test_scores_are_true_to_the_last_bit_of_float32():
    vectors, queries = unit_vectors(300, 64), unit_vectors(5, 64, seed=1)
    truth = (queries.astype(np.float64) @ vectors.T.astype(np.float64)).astype(np.float32)
    rankings = built([str(i) for i in range(300)], vectors).search(queries, 300)
    for row, ranking in zip(truth, rankings, strict=True):
        assert len(ranking) == 300
        assert all(score == row[int(id)] for id, score in ranking)


@pytest.mark.parametrize("dimension", [8, 512])
@pytest.mark.parametrize("length", [1, 64])
def test_products_that_err_as_far_as_float32_may_lose_no_best_passage(dimension, length):
    # Half an epsilon of both lengths' product for each dimension.
    error = dimension / 2 * np.finfo(np.float32).eps * length

    class Erring(MappedVectors):
        """The best passage's product is too small, the next one's too large."""

        def blocks(self):
            for rows, block in super().blocks():
                first = np.where(rows == 0, block[:, 0] - error, block[:, 0] + error)
                yield rows, np.concatenate([first[:, None], block[:, 1:]], axis=1, dtype=np.float32)

    vectors = np.zeros((2, dimension), np.float32)
    vectors[:, 0] = 0.5 * length + error / 4, 0.5 * length
    vectors[:, 1] = 0.75**0.5 * length
    index = built(["best", "next"], Erring([vectors], np.arange(2)))
    query = length * np.eye(1, dimension, dtype=np.float32)  # its products are exact in any order
    assert [id for id, _ in index.search(query, 1)[0]] == ["best"]


def test_building_again_replaces_and_keeps_a_copy():
    index = built(["a", "b"], unit_vectors(2, 4))
    vectors = np.eye(3, dtype=np.float32)
    index.build(["c", "d", "e"], vectors)
    vectors[:] = 7
    assert index.search(np.eye(3, dtype=np.float32)[:1], 5) == [
        [("c", 1.0), ("e", 0.0), ("d", 0.0)]
    ]


def test_no_queries_give_no_rankings():
    assert built(["a"], unit_vectors(1, 4)).search(np.zeros((0, 4), np.float32), 3) == []


def test_other_float_types_and_layouts_are_taken():
    wide = np.asfortranarray(unit_vectors(6, 4).astype(np.float64))
    rows = check_vectors(list("abcdef"), wide)
    assert rows.dtype == np.float32 and rows.flags.c_contiguous
    assert np.array_equal(rows, wide.astype(np.float32))
    assert check_vectors(list("abcdef"), rows) is rows


def spoilt(value, row=1):
    vectors = unit_vectors(3, 4).astype(np.float64)
    vectors[row] = value
    return vectors


@pytest.mark.fault("a vector that is no number")
@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b", "a"], unit_vectors(3, 4), "passage 'a' occurs twice"),
        (["a", "b", "c"], spoilt(0), "passage 'b' is zero"),
        (["a", "b", "c"], spoilt([0, np.nan, 0, 0]), "passage 'b' is not finite"),
        (["a", "b", "c"], spoilt([0, np.inf, 0, 0]), "passage 'b' is not finite"),
        (["a", "b", "c"], spoilt(1e60), "passage 'b' is not finite"),
        (["a", "b", "c"], spoilt(1e30), "passage 'b' is too long"),
        (["a", "b"], unit_vectors(3, 4), "2 passage ids came with 3 vectors"),
        (["a"], unit_vectors(1, 4)[0], r"of shape \[4\]"),
        (["a"], np.ones((1, 4), np.int64), "int64"),
        (["a"], np.ones((1, 0), np.float32), r"of shape \[1, 0\]"),
        ([], np.ones((0, 4), np.float32), "no passages"),
    ],
)
def test_faulty_vectors_are_refused_by_the_passage_they_belong_to(ids, vectors, message):
    with pytest.raises(InputError, match=message):
        ExactIndex().build(ids, vectors)


def test_tiny_vectors_are_not_zero():
    assert len(check_vectors(["a"], np.full((1, 2), 1e-30, np.float32))) == 1


@pytest.mark.fault("other dimensions")
@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (unit_vectors(3, 5), "5 dimensions and the index has 4"),
        (spoilt(0, row=2), r"query 2 \(counted from 0\) is zero"),
        (spoilt(np.nan), "query 1"),
    ],
)
def test_faulty_queries_are_refused(vectors, message):
    with pytest.raises(InputError, match=message):
        check_queries(vectors, 4)


def test_its_size_is_its_vectors_and_nothing_once_discarded():
    index = built(["a", "b"], unit_vectors(2, 4).astype(np.float64))
    assert index.size() == Size(memory=2 * 4 * 4, disk=2 * 4 * 4)
    index.discard()
    assert index.size() == Size(memory=0, disk=0)


def test_an_empty_index_and_a_k_of_zero_are_refused():
    with pytest.raises(InputError, match="build it"):
        ExactIndex().search(unit_vectors(1, 4), 3)
    with pytest.raises(InputError, match="at least 1"):
        built(["a"], unit_vectors(1, 4)).search(unit_vectors(1, 4), 0)
