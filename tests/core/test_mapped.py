"""What is read from files as it is asked for is what would be there in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from tercet.core import mapped
from tercet.core.artifacts import Stage, produce
from tercet.core.mapped import MappedVectors, Strings, by_id, in_blocks, map_scratch, new_scratch
from tercet.core.schema import InputError, Passage
from tercet.data import Passages, embed_passages, read_vectors
from tercet.data.passages import find_duplicates
from tercet.retrieval import ExactIndex
from tercet.retrieval.validation import check_vectors

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True)


@given(NAMES, st.integers(1, 4), st.data())
def test_strings_are_a_list_that_can_be_searched(names, parts, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(names)), min_size=parts, max_size=parts)))
    bounds = [0, *cuts, len(names)]
    pairs = zip(bounds, bounds[1:], strict=False)
    strings = Strings(pa.array(names[low:high], pa.string()) for low, high in pairs)
    assert len(strings) == len(names) and list(strings) == names
    assert [strings[i] for i in range(len(names))] == names
    assert strings[1:5:2] == names[1:5:2]
    assert [names[i] for i in by_id(strings)] == sorted(names)
    assert by_id(strings).tolist() == by_id(names).tolist()
    wanted = [*names[::2], "no such name", *names[:1]]
    assert strings.find(wanted) == {name: names.index(name) for name in names[::2]}
    with pytest.raises(IndexError):
        strings[len(names)]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_mapped_vectors_are_an_array_in_another_order(sizes, seed):
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((sum(sizes), 3)).astype(np.float32)
    order = random.permutation(len(vectors))
    stored = np.split(vectors[order], np.cumsum(sizes)[:-1])
    found = MappedVectors(stored, order)
    assert (found.shape, len(found)) == (vectors.shape, len(vectors))
    rows = random.integers(0, len(vectors), 7)
    assert np.array_equal(found[rows], vectors[rows])
    assert np.array_equal(found[1:3], vectors[1:3])
    assert np.array_equal(found[len(vectors) - 1], vectors[-1])
    assert np.array_equal(np.asarray(found), vectors)
    assert np.array_equal(np.stack(list(found)), vectors)
    for given_vectors in (found, vectors):
        seen = np.zeros_like(vectors)
        for places, block in in_blocks(given_vectors):
            seen[places] += block
        assert np.array_equal(seen, vectors)


def test_exact_search_of_mapped_vectors_is_that_of_an_array(tmp_path: Path, monkeypatch):
    random = np.random.default_rng(0)
    vectors = random.standard_normal((300, 8)).astype(np.float32)
    vectors[250:] = vectors[:50]  # equal ones, in different blocks
    queries = random.standard_normal((20, 8)).astype(np.float32)
    ids = [f"p{i}" for i in range(300)]
    whole = ExactIndex()
    whole.build(ids, vectors)
    expected = whole.search(queries, 12)
    monkeypatch.setattr(mapped, "BLOCK", 32)
    order = random.permutation(300)
    path = new_scratch(tmp_path, 300, 8)
    scratch = map_scratch(path, 300, 8)
    path.unlink()
    scratch[:] = vectors
    for given_vectors in (MappedVectors(np.split(vectors[order], [100, 107]), order), scratch):
        index = ExactIndex()
        index.build(Strings([pa.array(ids)]), given_vectors)
        assert index.search(queries, 12) == expected
        assert index.search(queries[:1], 400)[0][:12] == expected[0]
        assert index.size() == whole.size()


def test_a_faulty_mapped_vector_is_refused_by_its_passage():
    vectors = np.ones((4, 2), np.float32)
    vectors[1] = 0  # stored second, row 3
    with pytest.raises(InputError, match="passage 'd' is zero"):
        check_vectors(list("abcd"), MappedVectors([vectors], np.array([0, 3, 1, 2])))
    with pytest.raises(InputError, match="3 passage ids came with 4"):
        check_vectors(list("abc"), MappedVectors([vectors], np.arange(4)))


class Lengths:
    """An encoder whose vector says how long a text is, and how many were encoded with it."""

    name, dimension = "lengths", 2

    def encode_passages(self, texts):
        return np.array([[len(text), len(texts)] for text in texts], np.float32)

    encode_queries = encode_passages


def test_embedded_passages_are_read_back_in_the_corpus_order(tmp_path: Path):
    passages = Passages.of(Passage(f"p{7 * i % 3000}", "", "x" * (i + 1)) for i in range(3000))
    made = produce(
        Stage(tmp_path / "embeddings", {}, {}),
        lambda writer: embed_passages(writer, Lengths(), passages),
    )
    vectors = read_vectors(made, passages)
    assert vectors[:][:, 0].tolist() == list(range(1, 3001))
    assert set(vectors[:][:, 1].tolist()) == {1024, 952}


@given(st.lists(st.sampled_from("abcd"), max_size=12))
def test_duplicates_are_the_passages_of_one_text(texts):
    passages = Passages.of(Passage(f"p{i}", "", text) for i, text in enumerate(texts))
    assert passages.duplicates == {
        f"p{i}": [f"p{j}" for j, other in enumerate(texts) if other == text]
        for i, text in enumerate(texts)
        if texts.count(text) > 1
    }
    # Texts that share a fingerprint and nothing else are no duplicates.
    alike = find_duplicates(passages.contents, np.zeros(len(texts), np.uint64))
    assert alike.num_rows == sum(texts.count(text) > 1 for text in texts)


def test_passages_give_their_texts_by_id(tmp_path: Path):
    passages = Passages.of([Passage("b", "T", "x"), Passage("a", "", "y")])
    assert list(passages) == [passages[0], passages[1]] == passages[:]
    assert passages.texts(["a", "b", "c"]) == {"a": "y", "b": "T x"}
    assert passages.rows(iter("ab")) == {"a": 1, "b": 0}
    assert list(passages.contents) == passages.contents[:] == ["T x", "y"]
