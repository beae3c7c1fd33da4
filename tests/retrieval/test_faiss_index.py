from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tercet.core.disk import scratch_in
from tercet.core.schema import InputError, UnsupportedVectors
from tercet.retrieval.exact_index import ExactIndex
from tercet.retrieval.faiss_index import NPROBE, FaissIndex, lists_for

COUNT, DIMENSION = 2000, 32
IDS = [f"p{i:04}" for i in range(COUNT)]
COMPRESSED = "IVF16,PQ16x4fs,Refine(SQ8)"


def clustered(count, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, DIMENSION))
    vectors = centres[rng.integers(20, size=count)] + rng.standard_normal((count, DIMENSION)) / 2
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS, QUERIES = clustered(COUNT, 0), clustered(50, 1)


def built(index, ids=IDS, vectors=VECTORS):
    index.build(ids, vectors)
    return index


def overlap(rankings, expected):
    shares = [
        len({id for id, _ in one} & {id for id, _ in other}) / len(other)
        for one, other in zip(rankings, expected, strict=True)
    ]
    return np.mean(shares)


def test_flat_finds_what_exact_search_finds():
    expected = built(ExactIndex()).search(QUERIES, 10)
    for ranking, other in zip(built(FaissIndex()).search(QUERIES, 10), expected, strict=True):
        assert [id for id, _ in ranking] == [id for id, _ in other]
        assert [s for _, s in ranking] == pytest.approx([s for _, s in other], abs=1e-6)


@pytest.mark.parametrize("k", [1, 5, 60, 100])
def test_flat_orders_ties_as_exact_search_does_at_the_cut_off_too(k):
    rng = np.random.default_rng(3)
    vectors = rng.integers(-1, 2, (60, 4)).astype(np.float32)
    vectors[~vectors.any(axis=1)] = 1
    queries = np.array([[1, 0, 0, 0], [1, 1, 0, -1], [0, 0, 0, 2]], np.float32)
    order = rng.permutation(60)
    expected = built(ExactIndex(), IDS[:60], vectors).search(queries, k)
    index = built(FaissIndex(), [IDS[i] for i in order], vectors[order])
    assert index.search(queries, k) == expected
    assert index.search(queries[1:2], k) == expected[1:2]


@pytest.mark.parametrize(
    ("index", "least"),
    [
        (FaissIndex("HNSW32", ef_search=128), 0.97),
        (FaissIndex("IVF16,Flat", nprobe=16), 0.999),
        (FaissIndex(COMPRESSED, nprobe=16), 0.97),
    ],
    ids=["graph", "lists", "compressed"],
)
def test_approximate_indexes_find_nearly_all(index, least):
    expected = built(ExactIndex()).search(QUERIES, 10)
    rankings = built(index).search(QUERIES, 10)
    assert overlap(rankings, expected) >= least
    for ranking in rankings:
        assert len(ranking) == len({id for id, _ in ranking}) == 10
        assert list(ranking) == sorted(ranking, key=lambda pair: (pair[1], pair[0]), reverse=True)


def test_reading_more_lists_finds_more():
    expected = built(ExactIndex()).search(QUERIES, 10)
    found = [
        overlap(built(FaissIndex("IVF64,Flat", nprobe=n)).search(QUERIES, 10), expected)
        for n in (1, 4, 64)
    ]
    assert found == sorted(found) and found[0] < found[-1]


@pytest.mark.long
@pytest.mark.parametrize(
    "factory", ["IVF{lists},PQ16", "OPQ16,IVF{lists},PQ16", "IVF{lists},PQ16x4fs,Refine(SQ8)"]
)
def test_lists_follow_the_number_of_vectors_and_a_query_reads_as_many_as_told(factory, capfd):
    index = built(FaissIndex(factory))
    inverted = faiss.extract_index_ivf(index._index)
    assert (inverted.nlist, inverted.nprobe) == (44, NPROBE)
    told = faiss.extract_index_ivf(built(FaissIndex(factory, nprobe=7))._index)
    assert told.nprobe == 7
    few = faiss.extract_index_ivf(built(FaissIndex(factory), IDS[:300], VECTORS[:300])._index)
    assert few.nlist == few.nprobe == 7
    assert "WARNING" not in "".join(capfd.readouterr())


@given(st.integers(1, 10**9))
def test_there_are_as_many_lists_as_k_means_can_learn(count):
    lists = lists_for(count)
    assert lists == 1 or lists * 39 <= count
    assert lists**2 <= count
    assert (lists + 1) ** 2 > count or (lists + 1) * 39 > count


def test_codes_are_those_of_faiss_left_to_itself():
    index = faiss.index_factory(DIMENSION, "IVF16,PQ16x4", faiss.METRIC_INNER_PRODUCT)
    rows = VECTORS[::-1]  # the larger id first
    index.train(rows)
    index.add(rows)
    index.nprobe = 16
    scores, _ = index.search(QUERIES, 10)
    ours = built(FaissIndex("IVF16,PQ16x4", nprobe=16)).search(QUERIES, 10)
    assert [[s for _, s in ranking] for ranking in ours] == [
        pytest.approx(row, abs=1e-5) for row in scores.tolist()
    ]


def test_its_size_is_that_of_the_file_that_faiss_would_write():
    index = FaissIndex(COMPRESSED)
    assert index.size().memory == 0
    built(index)
    assert index.size().memory == index.size().disk == len(faiss.serialize_index(index._index))
    assert index.size().memory < built(FaissIndex("HNSW32")).size().memory
    index.discard()
    assert index.size().disk == 0


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", COMPRESSED, "OPQ16,IVF{lists},PQ16"])
def test_equal_passages_build_the_same_index_in_any_order(factory):
    order = np.random.default_rng(4).permutation(COUNT)
    one = built(FaissIndex(factory)).search(QUERIES, 10)
    other = built(FaissIndex(factory), [IDS[i] for i in order], VECTORS[order])
    assert other.search(QUERIES, 10) == one


def test_few_passages_are_all_found_and_lists_that_run_dry_invent_none():
    few = built(FaissIndex("HNSW8"), IDS[:3], VECTORS[:3])
    assert {len(ranking) for ranking in few.search(QUERIES, 10)} == {3}
    for factory in ("IVF64,Flat", COMPRESSED):
        for ranking in built(FaissIndex(factory, nprobe=1)).search(QUERIES, COUNT):
            assert 0 < len(ranking) == len({id for id, _ in ranking}) < COUNT
    assert built(FaissIndex()).search(QUERIES[:0], 3) == []


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (FaissIndex("Nope"), "index.factory 'Nope': faiss could not parse it: choose HNSW32"),
        (FaissIndex("PQ7"), "cannot build 'PQ7' .*multiple of the number of subquantizers"),
        (FaissIndex("IVF3000,Flat"), "for 2000 vectors: .*at least as large as number of clusters"),
        (FaissIndex("Flat", nprobe=3), "cannot set nprobe=3 for 'Flat'"),
        (FaissIndex("Flat", ef_search=3), "cannot set efSearch=3 for 'Flat'"),
    ],
)
def test_what_faiss_cannot_do_is_refused_in_one_line(index, message):
    with pytest.raises(InputError, match=message) as raised:
        built(index)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("factory", "count", "message"),
    [
        ("IVF{lists},PQ16", 255, "clusters .256.: choose HNSW32 or Flat"),
        ("OPQ16,IVF{lists},PQ16", 31, "rotation of 32 dimensions from 31 vectors: choose HNSW32"),
        ("IVF50,Flat", 49, "choose HNSW32 or Flat"),
        ("IVF{lists},PQ7", COUNT, "choose HNSW32 or Flat"),
    ],
)
def test_vectors_that_a_kind_cannot_hold_are_unfit_and_told_of_one_that_can(
    factory, count, message
):
    with pytest.raises(UnsupportedVectors, match=message) as raised:
        built(FaissIndex(factory), IDS[:count], VECTORS[:count])
    assert "\n" not in str(raised.value)
    built(FaissIndex("HNSW32"), IDS[:count], VECTORS[:count])


def test_a_string_that_faiss_cannot_read_is_no_fault_of_the_vectors():
    with pytest.raises(InputError) as raised:
        built(FaissIndex("Nope"))
    assert not isinstance(raised.value, UnsupportedVectors)


def test_a_build_that_fails_leaves_the_index_as_it_was():
    index = built(FaissIndex("IVF{lists},PQ16"))
    before = index.search(QUERIES, 5)
    with pytest.raises(UnsupportedVectors):
        built(index, IDS[:9], VECTORS[:9])
    assert index.search(QUERIES, 5) == before


@pytest.mark.fault("a vector that is no number")
def test_faulty_vectors_are_refused():
    with pytest.raises(InputError, match="passage 'a' occurs twice"):
        FaissIndex().build(["a", "a"], VECTORS[:2])
    with pytest.raises(InputError, match="build it"):
        FaissIndex().search(QUERIES, 3)
    with pytest.raises(InputError, match="7 dimensions"):
        built(FaissIndex()).search(np.ones((1, 7), np.float32), 3)


def unit_vectors(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_lists_on_disk_give_what_lists_in_memory_give(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(3000, 16), unit_vectors(20, 16, seed=1)
    names = [f"p{i}" for i in range(3000)]
    factory = "IVF{lists},SQ8"
    found = []
    for on_disk in (False, True):
        index = FaissIndex(factory, nprobe=54, on_disk=on_disk)
        with scratch_in(tmp_path):
            index.build(names, vectors)
        found.append(index.search(queries, 10))
    assert found[0] == found[1]
    assert not list(tmp_path.iterdir()), "the file is mapped, and has no name that could be left"


@pytest.mark.parametrize("factory", ["HNSW32", "IVF{lists},PQ4,Refine(SQ8)"])
def test_what_stays_in_memory_is_not_called_on_disk(factory: str) -> None:
    with pytest.raises(InputError, match="on_disk"):
        FaissIndex(factory, on_disk=True).build(
            [f"p{i}" for i in range(3000)], unit_vectors(3000, 16)
        )
