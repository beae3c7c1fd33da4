"""Strings of faiss's factory: mended, refused before work, and never ranked by another metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

pytest.importorskip("faiss")

from tercet.core.schema import InputError, Ranking, Size, UnsupportedVectors
from tercet.retrieval.faiss_factory import check_factory, mended
from tercet.retrieval.faiss_index import FaissIndex
from tercet.retrieval.validation import check_finds

IDS = [f"p{row:03}" for row in range(600)]


def unit(rows: int = 600, dimension: int = 32, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("hnsw32", "HNSW32"),
        ("IVF16 , Flat", "IVF16,Flat"),
        (" Flat ", "Flat"),
        ("IDMap,Flat", "Flat"),
        ("IDMap2,HNSW32", "HNSW32"),
        ("Flat,IDMap", "Flat"),
        ("ivf{lists},pq8x4fs,refine(sq8)", "IVF{lists},PQ8x4fs,Refine(SQ8)"),
        ("l2norm,flat", "L2norm,Flat"),
        ("IVF{lists},SQfp16", "IVF{lists},SQfp16"),
        ("OPQ16_64,IVF{lists}_HNSW32,PQ16", "OPQ16_64,IVF{lists}_HNSW32,PQ16"),
    ],
)
def test_slips_are_mended(written: str, read: str) -> None:
    assert mended(written) == read


@given(st.sampled_from(["Flat", "HNSW32", "IVF{lists},PQ8", "PCA16,Flat"]), st.data())
def test_case_and_blanks_do_not_matter(factory: str, data: st.DataObject) -> None:
    cases = data.draw(st.lists(st.booleans(), min_size=len(factory), max_size=len(factory)))
    inside = [
        c if up or c in "lists{}" else c.lower() for c, up in zip(factory, cases, strict=True)
    ]
    assert mended(" ".join(inside)) == factory


@pytest.mark.fault("an index that does not find")
@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("HNSW32_PQ8x4", "compares by L2"),
        ("PCA16,HNSW32_PQ8x4", "compares by L2"),
        ("HNSW0", "ends the process"),
        ("HNSW1", "ends the process"),
        ("IVF{lists},PQ8x0", "ends the process"),
        ("PCA0,Flat", "does not find vectors by their own"),
        ("SQ8_direct", "does not find vectors by their own"),
        ("IVF0,Flat", "cur_nprobe"),
        ("BFlat", "could not parse"),
        ("LSH", "METRIC_L2"),
    ],
)
def test_what_faiss_cannot_rank_is_refused_in_a_line(factory: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        FaissIndex(factory).build(IDS, unit())
    assert "\n" not in str(refused.value) and "choose" in str(refused.value)


@pytest.mark.fault("an index that does not find")
@pytest.mark.parametrize(
    "factory",
    ["Flat", "hnsw16", "IVF{lists},Flat", "PQ8x4", "SQ8", "HNSW16_SQ8", "PCA16,Flat", "NSG16"],
)
def test_what_is_accepted_finds_its_own_vectors(factory: str) -> None:
    index = FaissIndex(factory)
    index.build(IDS, unit())
    found = [ranking[0][0] for ranking in index.search(unit()[:20], 1)]
    right = np.mean([id == own for id, own in zip(found, IDS[:20], strict=True)])
    assert right > (0.2 if "PQ" in factory or "PCA" in factory else 0.9)


class Ranked:
    """An index that ranks exactly, times a sign."""

    def __init__(self, sign: int) -> None:
        self.sign, self.ids, self.vectors = sign, IDS, unit()

    def build(self, ids: object, vectors: object) -> None:
        """Nothing: it is built."""

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """By the product and the sign; nothing with sign 0."""
        scores = self.sign * (vectors @ self.vectors.T)
        rows = np.argsort(-scores, axis=1)[:, :k] if self.sign else np.zeros((len(vectors), 0), int)
        return [[(self.ids[row], 1.0) for row in found] for found in rows.tolist()]

    def size(self) -> Size:
        """Nothing."""
        return Size(0, 0)

    def discard(self) -> None:
        """Nothing."""


@pytest.mark.fault("an index that does not find")
@pytest.mark.parametrize("sign", [-1, 0])
def test_an_index_that_ranks_upside_down_or_nothing_is_refused(sign: int) -> None:
    with pytest.raises(UnsupportedVectors, match="this index does not find its own vectors"):
        check_finds(Ranked(sign), "this index", IDS, unit())


def test_equal_vectors_are_found_by_any() -> None:
    same = np.tile(unit(1), (600, 1))
    check_finds(Ranked(1), "this index", IDS, unit())
    check_finds(Ranked(-1), "this index", IDS, same)


def test_a_string_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check_factory("HNSW8", 32)
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("tried again"))
    check_factory("HNSW8", 32)
