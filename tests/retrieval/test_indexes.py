from __future__ import annotations

import numpy as np
import pytest

from tercet.config.index import ComparedIndex, IndexSection, IndexSettings
from tercet.core.schema import InputError
from tercet.retrieval import make_index
from tercet.retrieval.exact_index import ExactIndex

faiss = pytest.importorskip("faiss")

COUNT = 400
IDS = [f"p{row:03}" for row in range(COUNT)]
VECTORS = np.random.default_rng(0).standard_normal((COUNT, 16)).astype(np.float32)


def built(**settings):
    index = make_index(IndexSettings(**settings), "Tercet_tests")
    index.build(IDS, VECTORS)
    return index


def test_exact_search_is_the_default():
    assert isinstance(make_index(IndexSection(), "Any"), ExactIndex)


@pytest.mark.parametrize(("given", "expected"), [({}, 512), ({"ef": 7}, 7)])
def test_a_graph_looks_as_far_as_told_else_far(given, expected):
    index = built(backend="faiss", factory="HNSW16", **given)
    assert faiss.downcast_index(index._index).hnsw.efSearch == expected


@pytest.mark.parametrize(("given", "expected"), [({}, 10), ({"nprobe": 3}, 3)])
def test_inverted_lists_are_read_as_told_else_32_or_all(given, expected):
    index = built(backend="faiss", factory="IVF{lists},Flat", **given)
    inverted = faiss.extract_index_ivf(index._index)
    assert (inverted.nlist, inverted.nprobe) == (10, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ef": 9}, "exact search has no ef"),
        ({"nprobe": 9}, "exact search has no nprobe"),
        ({"backend": "faiss", "nprobe": 9}, "faiss HNSW32 has no nprobe"),
        ({"backend": "faiss", "factory": "IVF4,Flat", "ef": 9}, "faiss IVF4,Flat has no ef"),
        ({"backend": "weaviate", "kind": "flat+bq", "ef": 9}, r"weaviate flat\+bq has no ef"),
        ({"backend": "weaviate", "nprobe": 9}, "weaviate hnsw has no nprobe"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(settings, message):
    with pytest.raises(InputError, match=f"{message}: leave it out"):
        make_index(ComparedIndex(**settings), "Any")


@pytest.mark.weaviate
@pytest.mark.parametrize(("given", "expected"), [({}, 2000), ({"ef": 64}, 64)])
def test_weaviate_takes_kind_metric_and_ef(weaviate_server, monkeypatch, given, expected):
    pytest.importorskip("weaviate")
    monkeypatch.setenv("WEAVIATE_URL", weaviate_server.url)
    monkeypatch.setenv("WEAVIATE_GRPC_URL", weaviate_server.grpc_url or "")
    monkeypatch.setenv("WEAVIATE_API_KEY", weaviate_server.api_key or "")
    section = IndexSettings(backend="weaviate", kind="hnsw+rq", metric="cosine", **given)
    index = make_index(section, "Tercet_tests")
    try:
        settings = index.settings
        assert (settings.kind, settings.metric) == ("hnsw+rq", "cosine")
        assert (settings.ef, settings.collection) == (expected, "Tercet_tests")
    finally:
        index.discard()
