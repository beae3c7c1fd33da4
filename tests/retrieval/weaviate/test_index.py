from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, get_args

import numpy as np
import pytest

from tercet.retrieval.weaviate.alias import collection_behind, move_alias

pytest.importorskip("weaviate")

import grpc

from tercet.config.index import WeaviateKind
from tercet.core.schema import InputError, UnsupportedVectors
from tercet.retrieval.weaviate import client as client_module, index as index_module
from tercet.retrieval.weaviate.failures import RefusedPassages, ServerFailed
from tercet.retrieval.weaviate.index import WeaviateIndex
from tercet.retrieval.weaviate.live import LiveCollection
from tercet.retrieval.weaviate.settings import Metric, WeaviateSettings, check_fit
from tercet.retrieval.weaviate.size import memory as estimate_memory

pytestmark = pytest.mark.weaviate

PREFIX = "Tercet_tests"
IDS = [f"doc/{row}#é" for row in range(400)]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(len(IDS), 24)).astype(np.float32)
QUERIES = RANDOM.normal(size=(25, 24)).astype(np.float32)


@pytest.fixture
def connect(weaviate_server: Any) -> Iterator[Any]:
    """WeaviateIndex.connect to the real server; drops what the test left behind."""
    opened: list[WeaviateIndex] = []

    def connect(kind: WeaviateKind = "hnsw", **settings: Any) -> WeaviateIndex:
        keywords = {**weaviate_server.keywords, "collection": PREFIX, **settings}
        opened.append(WeaviateIndex.connect(kind, **keywords))
        return opened[-1]

    yield connect
    with WeaviateIndex.connect(**weaviate_server.keywords) as index:
        for alias in index.server.client.alias.list_all():
            if alias.startswith(PREFIX):
                index.server.client.alias.delete(alias_name=alias)
        for name in written(index):
            index.drop(name)
    for used in opened:
        used.close()


def written(index: WeaviateIndex) -> set[str]:
    return {name for name in index.server.client.collections.list_all() if name.startswith(PREFIX)}


# --- the same answers as brute force -------------------------------------------------------------


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("kind", get_args(WeaviateKind))
def test_every_kind_finds_what_brute_force_finds(
    connect: Any, kind: WeaviateKind, metric: Metric
) -> None:
    vectors = unit(VECTORS) if (kind, metric) == ("hfresh", "dot") else VECTORS
    exact = QUERIES @ vectors.T if metric == "dot" else unit(QUERIES) @ unit(vectors).T
    index = connect(kind, metric=metric)
    index.build(IDS, vectors)
    found = 0
    for row, ranking in enumerate(index.search(QUERIES, 10)):
        scores = dict(zip(IDS, exact[row].tolist(), strict=True))
        best = sorted(scores, key=lambda id: scores[id], reverse=True)[:10]
        found += len({id for id, _ in ranking} & set(best))
        assert [score for _, score in ranking] == pytest.approx(
            [scores[id] for id, _ in ranking], abs=1e-4
        )
        assert list(ranking) == sorted(ranking, key=lambda hit: (hit[1], hit[0]), reverse=True)
    assert found / (10 * len(QUERIES)) >= (0.9 if kind == "hnsw+pq" else 0.99)
    assert index.collection.is_compressed() == ("+" in kind or kind == "hfresh")


def test_equal_scores_put_the_larger_id_first_and_choose_it_at_the_cut(connect: Any) -> None:
    index = connect("flat")
    index.build(["a", "c", "b", "d"], np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32))
    (ranking,) = index.search(np.array([[1, 0]], np.float32), 2)
    assert [id for id, _ in ranking] == ["c", "b"]


def test_k_beyond_the_corpus_gives_every_passage(connect: Any) -> None:
    index = connect()
    index.build(IDS, VECTORS)
    (ranking,) = index.search(QUERIES[:1], 1000)
    assert sorted(id for id, _ in ranking) == sorted(IDS)
    assert index.search(QUERIES[:0], 10) == []


def test_hfresh_says_how_many_it_can_return(connect: Any) -> None:
    index = connect("hfresh", metric="cosine", rescore_limit=380)
    index.build(IDS, VECTORS)
    assert len(index.search(QUERIES[:1], 380)[0]) == 380
    with pytest.raises(InputError, match="at most 380"):
        index.search(QUERIES[:1], 381)


def test_product_quantization_takes_its_segments(connect: Any) -> None:
    index = connect("hnsw+pq", segments=6)
    index.build(IDS, VECTORS)
    config = index.server.client.collections.use(index.collection_name).config.get()
    assert config.vector_config["default"].vector_index_config.quantizer.segments == 6


@pytest.mark.parametrize("kind", get_args(WeaviateKind))
def test_a_collection_is_of_its_kind_and_others_find_in_it_what_its_index_does(
    connect: Any, kind: WeaviateKind
) -> None:
    index = connect(kind, metric="cosine", ef=77, rescore_limit=99)
    index.build(IDS[:60], VECTORS[:60])
    reader = LiveCollection.connect(index.collection_name, server=index.server)
    assert reader.search(QUERIES, 10) == index.search(QUERIES, 10)
    layout = index.server.client.collections.use(index.collection_name).config.get()
    layout = layout.vector_config["default"].vector_index_config
    if kind.startswith("hnsw"):
        assert layout.ef == 77
    if kind in ("hnsw+rq", "hnsw+sq", "flat+bq", "hfresh"):
        assert layout.quantizer.rescore_limit == 99


def test_one_query_starts_no_thread(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index = connect("flat")
    index.build(IDS, VECTORS)
    expected = index.search(QUERIES[:2], 5)[:1]
    monkeypatch.setattr(index_module, "ThreadPoolExecutor", None)
    assert index.search(QUERIES[:1], 5) == expected


# --- what it takes -------------------------------------------------------------------------------


def test_disk_is_what_lies_in_the_servers_folder_and_memory_follows_the_codes(
    connect: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index = connect("flat+bq")
    assert index.size().memory == index.size().disk == 0
    index.build(IDS, VECTORS)
    folder = os.environ.get("WEAVIATE_DATA_PATH")
    if folder and (Path(folder) / index.collection_name.lower()).exists():
        assert index.size().disk >= VECTORS.nbytes
    monkeypatch.setenv("WEAVIATE_DATA_PATH", str(tmp_path))
    assert index.size().disk is None
    shard = tmp_path / index.collection_name.lower() / "shard" / "lsm"
    shard.mkdir(parents=True)
    (shard / "segment.db").write_bytes(b"x" * 100_000)
    assert 100_000 <= index.size().disk < 110_000
    monkeypatch.delenv("WEAVIATE_DATA_PATH")
    assert index.size().disk is None
    assert "estimate" in index.size().note


def test_memory_is_near_what_was_measured_and_fewer_bits_take_less() -> None:
    def memory(kind: WeaviateKind, **settings: Any) -> int:
        return estimate_memory(WeaviateSettings(kind=kind, **settings), 50_000, 384)

    kinds: list[WeaviateKind] = ["hnsw", "hnsw+pq", "hnsw+rq", "hnsw+sq", "hnsw+bq"]
    sizes = [memory(kind) for kind in kinds]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 50_000 * 384 * 4 > sizes[1]
    # Megabytes of a server's live heap that such a collection was measured to take.
    measured = {"hnsw": 92, "hnsw+rq": 36, "hnsw+bq": 19, "flat+bq": 5.1, "hfresh": 4.1}
    for kind, megabytes in measured.items():
        assert memory(kind) == pytest.approx(1e6 * megabytes, rel=0.15)
    assert memory("hnsw", max_connections=8) < memory("hnsw")
    assert memory("flat") < memory("hfresh") < memory("flat+bq") < memory("hnsw+bq")


# --- collections and aliases ---------------------------------------------------------------------


def test_a_rebuild_makes_a_new_collection_and_keeps_the_old(connect: Any) -> None:
    index = connect()
    index.build(IDS, VECTORS)
    first = index.collection_name
    before = index.search(QUERIES, 5)
    index.build(IDS[:7], VECTORS[:7])
    assert index.collection_name != first
    assert len(index.search(QUERIES[:1], 10)[0]) == 7
    old = LiveCollection.connect(first, server=index.server)
    assert old.search(QUERIES, 5) == before


def test_an_alias_serves_one_collection_then_another(connect: Any) -> None:
    index, alias = connect("flat"), f"{PREFIX}_alias"
    assert collection_behind(index.server, alias) is None
    index.build(IDS, VECTORS)
    first = index.collection_name
    move_alias(index.server, alias, first)
    assert collection_behind(index.server, alias) == first
    index.build(IDS[:7], VECTORS[:7])
    move_alias(index.server, alias, index.collection_name)
    move_alias(index.server, alias, index.collection_name)
    live = LiveCollection.connect(alias, server=index.server)
    assert live.name == index.collection_name
    assert live.search(QUERIES, 7) == index.search(QUERIES, 7)


def test_what_an_alias_serves_is_not_dropped(connect: Any) -> None:
    index = connect("flat")
    index.build(["a"], VECTORS[:1])
    name = index.collection_name
    move_alias(index.server, f"{PREFIX}_alias", name)
    with pytest.raises(InputError, match=f"{PREFIX}_alias serves {name}"):
        index.drop(name)
    index.build(["a"], VECTORS[:1])
    move_alias(index.server, f"{PREFIX}_alias", index.collection_name)
    index.drop(name)
    index.drop(name)
    assert written(index) == {index.collection_name}


def test_an_alias_needs_a_valid_name_and_a_collection(connect: Any) -> None:
    index = connect()
    with pytest.raises(InputError, match="use 'My_run'"):
        move_alias(index.server, "my-run", "Whatever")
    with pytest.raises(InputError, match="does not exist"):
        move_alias(index.server, f"{PREFIX}_alias", f"{PREFIX}_missing")


# --- what is refused, and leaves nothing behind --------------------------------------------------


@pytest.mark.fault("a vector that is no number")
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_not_finite_or_zero_writes_nothing(connect: Any, bad: float) -> None:
    index = connect()
    vectors = VECTORS.copy()
    vectors[3] = bad
    with pytest.raises(InputError, match="doc/3#é"):
        index.build(IDS, vectors)
    assert written(index) == set()
    with pytest.raises(InputError, match="is empty"):
        index.search(QUERIES, 5)


def test_duplicate_ids_write_nothing(connect: Any) -> None:
    index = connect()
    with pytest.raises(InputError, match="'a' occurs twice"):
        index.build(["a", "b", "a"], VECTORS[:3])
    assert written(index) == set()


@pytest.mark.fault("other dimensions")
def test_queries_of_another_dimension_and_k_of_zero_are_refused(connect: Any) -> None:
    index = connect("flat")
    index.build(IDS, VECTORS)
    with pytest.raises(InputError, match="dimensions"):
        index.search(QUERIES[:, :5], 5)
    with pytest.raises(InputError, match="at least 1"):
        index.search(QUERIES, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hfresh"}, "not of length 1"),
        ({"kind": "hnsw+pq", "segments": 7}, "do not divide 24"),
    ],
)
def test_vectors_that_do_not_fit_the_kind_write_nothing(
    connect: Any, settings: dict[str, Any], message: str
) -> None:
    index = connect(**settings)
    with pytest.raises(UnsupportedVectors, match=message):
        index.build(IDS, VECTORS)
    assert written(index) == set()


@pytest.mark.parametrize(
    ("kind", "vectors", "message"),
    [
        ("hnsw+pq", VECTORS[:2], "2 passages: choose flat"),
        ("hnsw+sq", VECTORS[:1], "1 passages: choose hnsw or flat"),
        ("hnsw+sq", np.ones((9, 4), np.float32), "choose hnsw or flat"),
        ("hnsw+bq", np.abs(VECTORS), "the same: choose hnsw"),
        ("flat+bq", np.abs(VECTORS), "the same: choose flat"),
    ],
)
def test_codes_that_could_tell_nothing_apart_are_unfit(
    kind: WeaviateKind, vectors: np.ndarray, message: str
) -> None:
    with pytest.raises(UnsupportedVectors, match=message):
        check_fit(WeaviateSettings(kind=kind), vectors)


@pytest.mark.parametrize("kind", ["hnsw+pq", "hnsw+sq"])
def test_the_fewest_vectors_that_codes_can_learn_from_are_found(
    connect: Any, kind: WeaviateKind
) -> None:
    count = 3 if kind == "hnsw+pq" else 2
    index = connect(kind)
    index.build(IDS[:count], VECTORS[:count])
    assert index.collection.is_compressed()
    assert {id for id, _ in index.search(QUERIES[:1], 10)[0]} == set(IDS[:count])


@pytest.mark.fault("objects that fail")
def test_every_passage_that_the_server_refuses_is_named(connect: Any) -> None:
    index = connect()
    index.build(IDS, VECTORS)
    ids = [f"more/{row}" for row in range(75)]
    mixed: Any = [VECTORS[row, :9] if row % 3 == 0 else VECTORS[row] for row in range(75)]
    with pytest.raises(RefusedPassages, match="refused 25 passages.*'more/.*length 9") as refused:
        index.collection.write(ids, mixed)
    assert set(refused.value.failures) == set(ids[::3])
    assert "\n" not in str(refused.value)


def test_a_collection_that_holds_fewer_passages_than_were_sent_is_dropped(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "check_vectors", lambda ids, vectors: vectors)
    index = connect()
    with pytest.raises(InputError, match="holds 2 passages of the 3 sent"):
        index.build(["a", "b", "a"], VECTORS[:3])
    assert written(index) == set()


def test_another_vector_than_was_sent_is_noticed(connect: Any) -> None:
    index = connect(metric="cosine")
    index.build(IDS, VECTORS)
    index.collection.verify(IDS, VECTORS * 2)  # the same to a cosine
    with pytest.raises(InputError, match="another vector"):
        index.collection.verify(IDS, VECTORS[::-1])


def test_only_what_the_same_owner_left_and_no_alias_serves_is_dropped(connect: Any) -> None:
    def built(**settings: str) -> str:
        index = connect(**settings)
        index.build(IDS[:3], VECTORS[:3])
        return str(index.collection_name)

    served, left = built(owner="a run"), built(owner="a run")
    others = {built(owner="another run"), built(), built(owner="a run", collection=f"{PREFIX}2")}
    index = connect(owner="a run")
    move_alias(index.server, f"{PREFIX}_served", served)
    assert index.drop_leftovers() == [left]
    assert {served, *others} <= set(index.server.client.collections.list_all())
    assert connect().drop_leftovers() == []


def test_a_failed_build_leaves_the_index_as_it_was(connect: Any) -> None:
    index = connect()
    index.build(IDS, VECTORS)
    before = index.search(QUERIES, 5)
    with pytest.raises(InputError):
        index.build(["a", "a"], VECTORS[:2])
    assert index.search(QUERIES, 5) == before


# --- servers that do not answer as they should ---------------------------------------------------


@pytest.mark.fault("no permission")
def test_a_wrong_or_missing_key_is_refused_and_not_shown(
    weaviate_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if weaviate_server.api_key is None:
        pytest.skip("this server takes anyone")
    monkeypatch.delenv("WEAVIATE_API_KEY", raising=False)
    began = time.monotonic()
    for key in ("s3cret-and-wrong", "s3cret\nbroken", None):
        with pytest.raises(InputError, match="API key") as refused:
            WeaviateIndex.connect(**{**weaviate_server.keywords, "api_key": key})
        assert "s3cret" not in "".join(traceback.format_exception(refused.value))
    assert time.monotonic() - began < 60, "no key is waited for"


def test_the_key_comes_from_the_environment_and_is_never_shown(
    weaviate_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAVIATE_URL", weaviate_server.url)
    if weaviate_server.grpc_url:
        monkeypatch.setenv("WEAVIATE_GRPC_URL", weaviate_server.grpc_url)
    if weaviate_server.api_key:
        monkeypatch.setenv("WEAVIATE_API_KEY", weaviate_server.api_key + "\n")
    with WeaviateIndex.connect() as index:
        shown = repr(index) + str(index)
        with pytest.raises(InputError) as missing:
            move_alias(index.server, f"{PREFIX}_alias", f"{PREFIX}_missing")
    shown += "".join(traceback.format_exception(missing.value))
    assert weaviate_server.url in shown
    assert not weaviate_server.api_key or weaviate_server.api_key not in shown


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unreachable_server_is_named_within_seconds(weaviate_server: Any) -> None:
    nowhere = f"http://127.0.0.1:{closed_port()}"
    began = time.monotonic()
    with pytest.raises(InputError, match=f"no Weaviate at {nowhere}.*make weaviate"):
        WeaviateIndex.connect(url=nowhere)
    with pytest.raises(InputError, match=f"gRPC port is not at {nowhere}"):
        WeaviateIndex.connect(**{**weaviate_server.keywords, "grpc_url": nowhere})
    assert time.monotonic() - began < 60


def test_an_unknown_kind_or_metric_is_refused() -> None:
    with pytest.raises(InputError, match="kind 'ivf'.*hnsw"):
        WeaviateIndex.connect("ivf")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="metric 'l2'.*dot, cosine"):
        WeaviateIndex.connect(metric="l2")


@contextmanager
def fake_server(version: str, busy: int = 0) -> Iterator[dict[str, str]]:
    """What no real server shows: another version, and 503 to its first `busy` alias reads."""
    left = [busy]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = 200, {"version": version}
            if "/aliases" in self.path:
                status, answer = (503, {}) if left[0] else (404, {})
                left[0] -= 1
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    rest = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=rest.serve_forever, daemon=True).start()
    call = grpc.server(ThreadPoolExecutor(1))
    port = call.add_insecure_port("127.0.0.1:0")
    call.start()
    try:
        yield {
            "url": f"http://127.0.0.1:{rest.server_port}",
            "grpc_url": f"http://127.0.0.1:{port}",
        }
    finally:
        call.stop(None)
        rest.shutdown()
        rest.server_close()


def test_a_server_too_old_is_refused_by_its_version() -> None:
    with fake_server("1.20.0") as old, pytest.raises(InputError, match=r"1\.20\.0.*1\.27"):
        WeaviateIndex.connect(**old)
    with fake_server("1.31.4") as old:
        with pytest.raises(InputError, match=r"1\.31.*hfresh needs 1\.38"):
            WeaviateIndex.connect("hfresh", **old)
        with (
            WeaviateIndex.connect(**old) as index,
            pytest.raises(InputError, match=r"aliases needs 1\.32"),
        ):
            collection_behind(index.server, "Alias")


@pytest.mark.fault("a read-only, busy or slow server")
def test_a_busy_server_is_asked_again_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client_module, "_PAUSES", (0.01,) * 4)
    with fake_server("1.38.0", busy=4) as server, WeaviateIndex.connect(**server) as index:
        assert collection_behind(index.server, "Alias") is None
    assert "could not read alias Alias" in (said := capsys.readouterr().out) and "again in" in said
    monkeypatch.setenv("WEAVIATE_DEADLINE", "1")
    with fake_server("1.38.0", busy=10_000) as server, WeaviateIndex.connect(**server) as index:
        began = time.monotonic()
        with pytest.raises(ServerFailed, match=r"could not read alias Alias.*503.*, for 1 s: run"):
            collection_behind(index.server, "Alias")
        assert time.monotonic() - began < 3
        with pytest.raises(ServerFailed):  # nothing else is waited for
            collection_behind(index.server, "Alias")
        assert time.monotonic() - began < 3
