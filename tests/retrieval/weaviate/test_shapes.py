"""Collections as teams have them: tenants, long texts, kinds of properties, their own limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

pytest.importorskip("weaviate")

from weaviate.classes.config import Configure, DataType, Property, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.tenants import Tenant
from weaviate.util import generate_uuid5
from weaviate_fixtures import SCRATCH, Own, Server, own_weaviate

from tercet.config.corpus import PassagesTable
from tercet.core.schema import InputError, UnsupportedVectors
from tercet.data.sources import WeaviateCollection
from tercet.retrieval.weaviate.alias import move_alias
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.collection import Collection
from tercet.retrieval.weaviate.failures import ServerFailed
from tercet.retrieval.weaviate.index import WeaviateIndex
from tercet.retrieval.weaviate.live import LiveCollection
from tercet.retrieval.weaviate.paging import in_halves, paged
from tercet.retrieval.weaviate.reader import WeaviateReader
from tercet.retrieval.weaviate.settings import WeaviateSettings

pytestmark = [pytest.mark.weaviate, pytest.mark.fault("collections as teams have them")]

WIDTH = 8
VECTORS = np.random.default_rng(3).standard_normal((700, WIDTH)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
TEXT = Property(name="text", data_type=DataType.TEXT)


def created(server: WeaviateServer, *properties: Property, **given: Any) -> Any:
    return server.client.collections.create(
        SCRATCH,
        properties=list(properties),
        vector_config=Configure.Vectors.self_provided(
            vector_index_config=given.pop("index", None)
            or Configure.VectorIndex.flat(distance_metric=VectorDistances.COSINE)
        ),
        **given,
    )


def filled(handle: Any, rows: list[dict[str, Any]], first: int = 0, size: int = 200) -> None:
    objects = [
        DataObject(properties=row, uuid=generate_uuid5(i), vector=VECTORS[i])
        for i, row in enumerate(rows, first)
    ]
    for start in range(0, len(objects), size):
        assert not handle.data.insert_many(objects[start : start + size]).has_errors


def passages(server: WeaviateServer, *tenants: str, **columns: str) -> dict[str, tuple[str, str]]:
    source = WeaviateCollection(
        WeaviateReader(SCRATCH, server, tenants=tenants), PassagesTable(**columns)
    )
    return {each.id: (each.title, each.text) for _, each in source.passages()}


# --- kinds of properties -------------------------------------------------------------------------

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
OWN = uuid.uuid5(uuid.NAMESPACE_DNS, "own")
#: Name -> type, value, its text.
KINDS: dict[str, tuple[DataType, Any, str]] = {
    "ident": (DataType.UUID, OWN, str(OWN)),
    "page": (DataType.INT, 10, "10"),
    "share": (DataType.NUMBER, 1.5, "1.5"),
    "whole": (DataType.NUMBER, 2.0, "2"),
    "when": (DataType.DATE, NOW, "2024-01-02T03:04:05Z"),
    "open": (DataType.BOOL, True, "true"),
    "paragraphs": (DataType.TEXT_ARRAY, ["one", "two"], "one\n\ntwo"),
    "pages": (DataType.INT_ARRAY, [1, 2], "1\n\n2"),
}
NESTED = Property(
    name="meta",
    data_type=DataType.OBJECT,
    nested_properties=[
        Property(name="source", data_type=DataType.TEXT),
        Property(
            name="deep",
            data_type=DataType.OBJECT,
            nested_properties=[Property(name="number", data_type=DataType.INT)],
        ),
    ],
)


@pytest.fixture(scope="module")
def kinds(weaviate_server: Server) -> Iterator[WeaviateServer]:
    """A collection with a property of each kind and one object."""
    server = WeaviateServer.connect(**weaviate_server.keywords)
    server.client.collections.delete(SCRATCH)
    plain = [Property(name=name, data_type=kind) for name, (kind, _, _) in KINDS.items()]
    handle = created(server, TEXT, NESTED, *plain)
    row = {name: value for name, (_, value, _) in KINDS.items()}
    filled(handle, [row | {"text": "t", "meta": {"source": "s", "deep": {"number": 7}}}])
    yield server
    server.client.collections.delete(SCRATCH)
    server.close()


@pytest.mark.parametrize("name", [*KINDS, "meta.source", "meta.deep.number"])
def test_a_property_of_any_kind_is_a_title_or_text(
    kinds: WeaviateServer, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"meta.source": "s", "meta.deep.number": "7"}
    text = own.get(name) or KINDS[name][2]
    key = generate_uuid5(0)
    assert passages(kinds, title=name) == {key: (text, "t")}
    said = capsys.readouterr().out
    assert said.count("are joined by blank lines") == ("\n" in text)
    assert passages(kinds, text=name) == {key: ("", text)}


@pytest.mark.parametrize(
    "name", ["ident", "page", "share", "when", "open", "meta.source", "meta.deep.number"]
)
def test_a_property_of_any_kind_is_an_id_in_the_corpus_and_in_the_index(
    kinds: WeaviateServer, name: str
) -> None:
    own = {"meta.source": "s", "meta.deep.number": "7"}
    id = own.get(name) or KINDS[name][2]
    assert passages(kinds, id=name) == {id: ("", "t")}
    live = LiveCollection.connect(SCRATCH, id_property=name, server=kinds)
    live.build([id], VECTORS[:1])
    assert live.search(VECTORS[:2], 1)[1][0][0] == id


def test_uuid_is_the_objects_own_in_both_places(kinds: WeaviateServer) -> None:
    key = generate_uuid5(0)
    assert passages(kinds, id="uuid") == {key: ("", "t")}
    live = LiveCollection.connect(SCRATCH, id_property="uuid", server=kinds)
    assert live.search(VECTORS[:1], 1)[0][0][0] == key


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": "paragraphs"}, r"property paragraphs holds text\[\]: name one of text, numbers"),
        ({"text": "meta"}, "no column 'meta' .*meta.source, meta.deep.number"),
        ({"id": "meta.none"}, "no column 'meta.none'"),
    ],
)
def test_what_has_no_text_is_refused_in_a_line(
    kinds: WeaviateServer, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        passages(kinds, **columns)
    assert "\n" not in str(refused.value)


# --- tenants -------------------------------------------------------------------------------------


@pytest.fixture
def tenants(server: WeaviateServer) -> WeaviateServer:
    """Two tenants of 20 objects with equal ids; `server`'s other tests find the collection gone."""
    handle = created(
        server,
        TEXT,
        Property(name="doc", data_type=DataType.TEXT),
        multi_tenancy_config=Configure.multi_tenancy(enabled=True),
    )
    handle.tenants.create([Tenant(name="acme"), Tenant(name="globex")])
    for place, name in enumerate(("acme", "globex")):
        rows = [{"doc": f"d{i}", "text": f"{i} of {name}"} for i in range(20)]
        filled(handle.with_tenant(name), rows, first=20 * place)
    return server


@pytest.mark.parametrize("id", ["doc", "uuid"])
def test_tenants_are_read_and_searched_one_alone_or_several_as_one(
    tenants: WeaviateServer, id: str
) -> None:
    names = [f"d{i % 20}" if id == "doc" else generate_uuid5(i) for i in range(40)]
    one = passages(tenants, "globex", id=id)
    assert one == {names[i]: ("", f"{i - 20} of globex") for i in range(20, 40)}
    both = passages(tenants, "acme", "globex", id=id)
    ids = [f"{'acme' if i < 20 else 'globex'}/{name}" for i, name in enumerate(names)]
    assert list(both) == sorted(ids) if id == "uuid" else set(both) == set(ids)

    live = LiveCollection.connect(
        SCRATCH, id_property=id, tenants=["acme", "globex"], server=tenants
    )
    assert live.count == 40
    live.build(ids, UNIT[:40])
    found = live.search(VECTORS[:40], 3)
    assert [ranking[0][0] for ranking in found] == ids
    exact = UNIT[:40] @ UNIT[:40].T
    for row, ranking in enumerate(found):
        assert [score for _, score in ranking] == pytest.approx(
            sorted(exact[row])[:-4:-1], abs=1e-4
        )
    blocks = list(WeaviateReader(SCRATCH, tenants, tenants=["globex"]).read_vectors("default", id))
    assert sorted(name for _, block, _ in blocks for name in block) == sorted(names[20:])
    live = LiveCollection.connect(SCRATCH, id_property=id, tenants=["globex"], server=tenants)
    live.build(names[20:], UNIT[20:40])
    assert live.search(VECTORS[25:26], 1)[0][0][0] == names[25]


def test_without_a_tenant_those_that_there_are_are_named(tenants: WeaviateServer) -> None:
    for setting, key in (("corpus.path", "corpus.tenant"), ("index.collection", "index.tenant")):
        with pytest.raises(InputError, match=f"name one .*{key}.*there are: acme, globex$"):
            WeaviateReader(SCRATCH, tenants, setting=setting)
    with pytest.raises(InputError, match="has no tenant 'initech'; there are: acme, globex$"):
        LiveCollection.connect(SCRATCH, tenants=["initech"], server=tenants)
    tenants.client.collections.delete(SCRATCH)
    created(tenants, TEXT)
    with pytest.raises(InputError, match="has no tenants: leave out acme"):
        WeaviateReader(SCRATCH, tenants, tenants=["acme"])


# --- pages ---------------------------------------------------------------------------------------


class _Stored:
    def __init__(self, key: int, size: int) -> None:
        self.uuid, self.size = key, size


def test_a_page_is_halved_and_grows_again_down_to_one_object_that_is_named() -> None:
    from tercet.retrieval.weaviate.failures import TooLarge

    asked: list[int] = []

    def fetch(sizes: list[int]) -> Any:
        def page(after: Any, limit: int) -> list[Any]:
            start = 0 if after is None else after + 1
            if sum(sizes[start : start + limit]) > 100:
                raise TooLarge("message larger than max")
            asked.append(limit)
            return [_Stored(i, sizes[i]) for i in range(start, min(start + limit, len(sizes)))]

        return page

    sizes = [1] * 1_000 + [60] * 10 + [0] * 3_000
    read = [each.uuid for page in paged(fetch(sizes), "c", str) for each in page]
    assert read == list(range(len(sizes)))
    assert 1 in asked and asked[-1] == 500
    with pytest.raises(InputError, match="c: object 4 is more than one message"):
        list(paged(fetch([1] * 5 + [101]), "c", str))
    keys = [str(i) for i in range(9)]

    def of(some: Any) -> list[str]:
        if len(some) > 2:
            raise TooLarge("larger than max")
        return list(some)

    assert in_halves(of, keys) == keys


# --- servers with settings of their own ----------------------------------------------------------

READ_KEY = "may-only-read"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """A server that indexes later, of small messages and results, with a key that only reads."""
    with own_weaviate(
        tmp_path_factory.mktemp("limited"),
        ASYNC_INDEXING="true",
        GRPC_MAX_MESSAGE_SIZE="10485760",
        QUERY_MAXIMUM_RESULTS="100",
        WEAVIATE_READ_KEY=READ_KEY,
    ) as own:
        if not (own.home / "pid").read_text().strip().isdecimal():
            pytest.skip("the server runs in Docker, whose settings are not ours")
        yield own


@pytest.fixture
def narrow(limited: Own, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeaviateServer]:
    for name, value in limited.server.environment.items():
        monkeypatch.setenv(name, value)
    server = WeaviateServer.connect()
    server.client.collections.delete(SCRATCH)
    yield server
    server.client.collections.delete(SCRATCH)
    server.close()


@pytest.mark.slow
def test_long_texts_and_few_results_are_read_written_and_searched_whole(
    narrow: WeaviateServer,
) -> None:
    long = "lorem ipsum " * 20_000  # of 240 kB: 43 to a message
    collection = Collection.create(
        narrow, SCRATCH, WeaviateSettings(kind="flat", metric="cosine"), texts=["text"]
    )
    ids = [f"p{i}" for i in range(120)]
    texts = [{"text": f"{i} {long}"} for i in range(120)]
    collection.write(ids, VECTORS[:120], texts)
    collection.settle(120)
    collection.verify(ids, VECTORS[:120])
    assert passages(narrow, id="passage_id") == {
        id: ("", each["text"]) for id, each in zip(ids, texts, strict=True)
    }
    live = LiveCollection.connect(SCRATCH, server=narrow)
    live.build(ids, VECTORS[:120])
    assert np.array_equal(live.vectors_of(ids), VECTORS[:120])
    assert [ranking[0][0] for ranking in live.search(VECTORS[:120], 90)] == ids
    assert len(live.search(VECTORS[:1], 100)[0]) == 100
    with pytest.raises(UnsupportedVectors, match="(QUERY_MAXIMUM_RESULTS is|at most) 100"):
        live.search(VECTORS[:1], 101)


@pytest.mark.slow
@pytest.mark.fault("a collection that is being indexed")
def test_a_live_collection_is_awaited_before_it_is_measured(
    narrow: WeaviateServer, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(4)
    vectors = random.standard_normal((5_000, 256)).astype(np.float32)
    index = Configure.VectorIndex.hnsw(distance_metric=VectorDistances.COSINE)
    handle = created(narrow, TEXT, index=index)
    keys = [generate_uuid5(i) for i in range(len(vectors))]

    def write(rows: range) -> None:
        objects = [DataObject(properties={}, uuid=keys[i], vector=vectors[i]) for i in rows]
        assert not handle.data.insert_many(objects).has_errors

    for start in range(0, 4_000, 500):
        write(range(start, start + 500))
    live = LiveCollection.connect(SCRATCH, server=narrow)
    assert "waiting for Weaviate to index" in capsys.readouterr().out
    chosen = range(0, 4_000, 40)
    found = live.search(vectors[list(chosen)], 1)
    assert [ranking[0][0] for ranking in found] == [keys[i] for i in chosen]
    for start in (4_000, 4_500):  # others write while evaluations go on
        write(range(start, start + 500))
    found = live.search(vectors[4_000:5_000:20], 1)
    assert [ranking[0][0] for ranking in found] == keys[4_000:5_000:20]
    live.build(keys, vectors)


@pytest.mark.fault("a collection that is being indexed")
def test_objects_that_are_deleted_or_changed_behind_an_alias_are_noticed(
    narrow: WeaviateServer,
) -> None:
    index, alias = WeaviateIndex(narrow, WeaviateSettings(collection=SCRATCH)), f"{SCRATCH}_alias"
    ids = [f"p{i}" for i in range(40)]

    def serves() -> bool:
        return index.serves(alias, 40, lambda: (ids[:16], VECTORS[:16]))

    index.build(ids, VECTORS[:40])
    name = str(index.collection_name)
    assert not serves()
    move_alias(narrow, alias, name)
    try:
        assert serves()
        data = narrow.client.collections.use(name).data
        data.update(generate_uuid5("p3"), vector={"default": VECTORS[60]})
        assert not serves()
        data.update(generate_uuid5("p3"), vector={"default": VECTORS[3]})
        assert serves()
        data.delete_by_id(generate_uuid5("p39"))
        assert not serves()
    finally:
        narrow.client.alias.delete(alias_name=alias)
        narrow.client.collections.delete(name)


@pytest.mark.fault("no permission")
def test_a_key_that_only_reads_is_met_before_work(
    narrow: WeaviateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tercet.config.index import IndexSettings
    from tercet.retrieval.indexes import make_index, try_out
    from tercet.retrieval.weaviate.ingest import Ingest

    handle = created(narrow, TEXT)
    filled(handle, [{"text": "t"}])
    monkeypatch.setenv("WEAVIATE_API_KEY", READ_KEY)
    assert passages(WeaviateServer.connect()) == {generate_uuid5(0): ("", "t")}
    live = LiveCollection.connect(SCRATCH)  # reading is all it needs
    assert live.count == 1
    live.discard()
    for work in (
        lambda: try_out(make_index(IndexSettings(backend="weaviate"), "Tercet_tests"), WIDTH),
        lambda: Ingest("Tercet_tests_given", "v", WeaviateSettings(), fresh=True),
    ):
        with pytest.raises(
            InputError, match="key may not do that: set WEAVIATE_API_KEY.* [(]"
        ) as told:
            work()
        assert READ_KEY not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.fault("a read-only, busy or slow server")
def test_a_read_only_shard_is_waited_for_until_the_deadline(
    narrow: WeaviateServer, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    collection = Collection.create(narrow, SCRATCH, WeaviateSettings(kind="flat"))
    handle = narrow.client.collections.use(SCRATCH)
    shards = [shard.name for shard in handle.config.get_shards()]
    ids = [f"p{i}" for i in range(20)]
    handle.config.update_shards("READONLY", shards)
    back = threading.Timer(2, lambda: handle.config.update_shards("READY", shards))
    back.start()
    collection.write(ids, VECTORS[:20])
    back.join()
    assert collection.total() == 20
    assert "store is read-only" in (said := capsys.readouterr().out) and "again in" in said
    handle.config.update_shards("READONLY", shards)
    narrow.deadline = 1
    with pytest.raises(ServerFailed, match="store is read-only.*for 1 s: run the same command"):
        collection.write(["more"], VECTORS[:1])
    handle.config.update_shards("READY", shards)
    collection.write(["more"], VECTORS[:1])
    assert collection.total() == 21
