"""A collection that others wrote is searched as it stands, told from another, and never written."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("weaviate")

from weaviate.classes.config import (
    Configure,
    DataType,
    Property,
    Tokenization,
    VectorDistances,
)
from weaviate.util import generate_uuid5

from tercet.core.mapped import MappedVectors, Strings
from tercet.core.schema import InputError, ServedIndex, UnsupportedVectors
from tercet.retrieval.exact_index import ExactIndex
from tercet.retrieval.vector_files import gather_vectors
from tercet.retrieval.weaviate import live as live_module
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.live import LiveCollection
from tercet.retrieval.weaviate.reader import WeaviateReader

pytestmark = pytest.mark.weaviate

COUNT, WIDTH = 700, 24
RANDOM = np.random.default_rng(5)
VECTORS = RANDOM.normal(size=(COUNT, WIDTH)).astype(np.float32)
OTHERS = RANDOM.normal(size=(COUNT, 8)).astype(np.float32)
QUERIES = RANDOM.normal(size=(12, WIDTH)).astype(np.float32)
IDS = [f"{row}#0" for row in range(COUNT)]
UUIDS = [generate_uuid5(id) for id in IDS]

DISTANCES = {"dot": VectorDistances.DOT, "cosine": VectorDistances.COSINE}


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def index_by(distance: str) -> Any:
    return Configure.VectorIndex.hnsw(
        distance_metric=DISTANCES.get(distance, VectorDistances.L2_SQUARED)
    )


class Theirs:
    """Collections that someone else writes, each of a name that nobody has."""

    def __init__(self, server: WeaviateServer) -> None:
        self.server = server
        self.names: list[str] = []
        self.aliases: list[str] = []

    def name(self) -> str:
        self.names.append(f"Tercet_live_tests_{uuid.uuid4().hex[:10]}")
        return self.names[-1]

    def written(
        self,
        vectors: dict[str, str],
        id_property: str = "docid",
        tokenization: Tokenization = Tokenization.FIELD,
        ids: Sequence[str] = IDS,
        **options: Any,
    ) -> str:
        """With a vector of each name, compared by each distance: VECTORS, of "small" OTHERS."""
        name = self.name()
        handle = self.server.client.collections.create(
            name,
            properties=[
                Property(
                    name=id_property, data_type=DataType.TEXT, tokenization=tokenization, **options
                ),
                Property(name="number", data_type=DataType.INT),
                Property(name="share", data_type=DataType.NUMBER),
            ],
            vector_config=[
                Configure.Vectors.self_provided(name=key, vector_index_config=index_by(distance))
                for key, distance in vectors.items()
            ],
        )
        with handle.batch.fixed_size(200, 2) as batch:
            for row, id in enumerate(ids):
                given = {key: (OTHERS if key == "small" else VECTORS)[row] for key in vectors}
                batch.add_object(
                    {id_property: id, "number": row}, uuid=generate_uuid5(id), vector=given
                )
        assert not handle.batch.failed_objects
        return name

    def unnamed(self, distance: str) -> str:
        """As collections were before vectors had names."""
        name = self.name()
        handle = self.server.client.collections.create(
            name,
            vector_index_config=index_by(distance),
            vectorizer_config=Configure.Vectorizer.none(),
        )
        with handle.batch.fixed_size(200, 2) as batch:
            for key, vector in zip(UUIDS, VECTORS, strict=True):
                batch.add_object({}, uuid=key, vector=vector)
        assert not handle.batch.failed_objects
        return name

    def alias(self, target: str) -> str:
        self.aliases.append(f"{target}_alias")
        self.server.client.alias.create(alias_name=self.aliases[-1], target_collection=target)
        return self.aliases[-1]

    def state(self, name: str) -> tuple[int, Any]:
        handle = self.server.client.collections.use(name)
        return handle.aggregate.over_all(total_count=True).total_count, handle.config.get()


@pytest.fixture
def theirs(weaviate_server: Any) -> Iterator[Theirs]:
    server = WeaviateServer.connect(**weaviate_server.keywords)
    theirs = Theirs(server)
    yield theirs
    for alias in theirs.aliases:
        server.client.alias.delete(alias_name=alias)
    for name in theirs.names:
        server.client.collections.delete(name)
    server.close()


def connected(theirs: Theirs, name: str, **settings: Any) -> LiveCollection:
    return LiveCollection.connect(name, server=theirs.server, **settings)


def assert_exact(live: LiveCollection, ids: Sequence[str], metric: str) -> None:
    """The same passages and scores as brute force, each query alone and all at once."""
    exact = ExactIndex()
    exact.build(ids, VECTORS if metric == "dot" else unit(VECTORS))
    expected = exact.search(QUERIES if metric == "dot" else unit(QUERIES), 10)
    found = live.search(QUERIES, 10)
    for mine, true in zip(found, expected, strict=True):
        assert [id for id, _ in mine] == [id for id, _ in true]
        assert [score for _, score in mine] == pytest.approx([s for _, s in true], abs=1e-4)
    assert live.search(QUERIES[:1], 10) == found[:1]
    assert live.search(QUERIES[:0], 10) == []


# --- the same answers as brute force -------------------------------------------------------------


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_one_vector_among_several_is_searched_under_the_ids_of_a_property(
    theirs: Theirs, metric: str
) -> None:
    name = theirs.written({"small": "cosine", "cohere": metric})
    live = connected(theirs, name, vector="cohere", id_property="docid")
    assert (live.name, live.vector, live.metric) == (name, "cohere", metric)
    assert (live.dimension, live.count) == (WIDTH, COUNT)
    live.build(IDS, VECTORS)
    assert_exact(live, IDS, metric)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_objects_go_by_their_uuids_where_no_property_is_named(theirs: Theirs, metric: str) -> None:
    for name in (theirs.written({"openai": metric}), theirs.unnamed(metric)):
        live = connected(theirs, name)
        assert live.id_property is None and live.vector in ("openai", "default")
        live.build(UUIDS, VECTORS)
        assert_exact(live, UUIDS, metric)


def test_the_property_that_tercet_writes_is_found_by_itself(theirs: Theirs) -> None:
    live = connected(theirs, theirs.written({"given": "dot"}, id_property="passage_id"))
    assert live.id_property == "passage_id"
    live.build(IDS, VECTORS)
    assert_exact(live, IDS, "dot")


def test_whole_numbers_are_ids_by_their_digits(theirs: Theirs) -> None:
    live = connected(theirs, theirs.written({"given": "dot"}), id_property="number")
    numbers = [str(row) for row in range(COUNT)]
    live.build(numbers, VECTORS)
    assert_exact(live, numbers, "dot")
    with pytest.raises(InputError, match="has no passage 'p1'"):
        live.vectors_of(["3", "p1"])


def test_equal_scores_put_the_larger_id_first_and_choose_it_at_the_cut(theirs: Theirs) -> None:
    name = theirs.name()
    handle = theirs.server.client.collections.create(
        name,
        properties=[Property(name="passage_id", data_type=DataType.TEXT)],
        vector_config=Configure.Vectors.self_provided(vector_index_config=index_by("dot")),
    )
    for id in ("p1", "p3", "p2"):
        handle.data.insert({"passage_id": id}, vector=[1.0, 0.0])
    (ranking,) = connected(theirs, name).search(np.array([[1, 0]], np.float32), 2)
    assert [id for id, _ in ranking] == ["p3", "p2"]


def test_passages_and_queries_may_be_mapped_from_files(theirs: Theirs, tmp_path: Any) -> None:
    live = connected(theirs, theirs.written({"given": "dot"}), id_property="docid")
    order = RANDOM.permutation(COUNT)
    passages = MappedVectors([VECTORS[order[:300]], VECTORS[order[300:]]], order)
    live.build(Strings([pa.array(IDS)]), passages)
    np.save(tmp_path / "queries.npy", QUERIES)
    mapped = np.load(tmp_path / "queries.npy", mmap_mode="r")
    assert live.search(mapped, 5) == live.search(QUERIES, 5)


def test_one_query_starts_no_thread(theirs: Theirs, monkeypatch: pytest.MonkeyPatch) -> None:
    live = connected(theirs, theirs.written({"given": "dot"}), id_property="docid")
    monkeypatch.setattr(live_module, "ThreadPoolExecutor", None)
    assert len(live.search(QUERIES[:1], 5)[0]) == 5


def test_an_alias_is_followed_once(theirs: Theirs) -> None:
    first, second = (theirs.written({"given": "dot"}, ids=IDS[:n]) for n in (40, 30))
    alias = theirs.alias(first)
    live = connected(theirs, alias, id_property="docid")
    theirs.server.client.alias.update(alias_name=alias, new_target_collection=second)
    assert (live.name, live.count) == (first, 40)
    assert len(live.search(QUERIES[:1], 100)[0]) == 40
    assert np.array_equal(live.vectors_of(IDS[35:40]), VECTORS[35:40])
    assert connected(theirs, alias).name == second


def test_what_a_query_can_return_has_an_end(theirs: Theirs) -> None:
    live = connected(theirs, theirs.written({"given": "dot"}), id_property="docid")
    with pytest.raises(UnsupportedVectors, match="at most 10000"):
        live.search(QUERIES, 10_001)
    with pytest.raises(InputError, match="at least 1"):
        live.search(QUERIES, 0)
    with pytest.raises(InputError, match="dimensions"):
        live.search(QUERIES[:, :5], 3)


# --- vectors that stand there --------------------------------------------------------------------


@pytest.mark.parametrize("tokenization", [Tokenization.FIELD, Tokenization.WORD])
def test_vectors_are_read_by_id_even_where_the_server_cannot_look_it_up(
    theirs: Theirs, tokenization: Tokenization
) -> None:
    # Of words, the first two ids are the same, and the last two are nothing.
    ids = ["1#0", "0#1", "X", "x", "the", "a"]
    name = theirs.written({"given": "dot"}, tokenization=tokenization, ids=ids)
    live = connected(theirs, name, id_property="docid")
    wanted = ["a", "1#0", "x", "0#1", "the", "X"]
    rows = [ids.index(id) for id in wanted]
    assert np.array_equal(live.vectors_of(wanted), VECTORS[rows])
    assert np.array_equal(live.vectors_of(["the"]), VECTORS[[4]])
    assert live.vectors_of([]).shape == (0, WIDTH)
    with pytest.raises(InputError, match="has no passage 'A'"):
        live.vectors_of(["x", "A"])


def test_vectors_are_read_by_a_property_without_an_index(theirs: Theirs) -> None:
    name = theirs.written({"given": "dot"}, index_filterable=False, index_searchable=False)
    live = connected(theirs, name, id_property="docid")
    assert np.array_equal(live.vectors_of(IDS[::-1]), VECTORS[::-1])


def test_an_id_of_two_objects_is_refused(theirs: Theirs) -> None:
    name = theirs.written({"given": "dot"}, ids=IDS[:3])
    handle = theirs.server.client.collections.use(name)
    handle.data.insert({"docid": IDS[1]}, vector={"given": VECTORS[1]})
    live = connected(theirs, name, id_property="docid")
    with pytest.raises(InputError, match="several objects have the docid '1#0'"):
        live.vectors_of(IDS[:3])


@pytest.mark.parametrize("id_property", ["docid", None])
def test_all_vectors_are_streamed_and_gathered_by_id(
    theirs: Theirs, id_property: str | None
) -> None:
    ids = IDS if id_property else UUIDS
    reader = WeaviateReader(theirs.written({"small": "dot", "given": "dot"}), theirs.server)
    blocks = list(reader.read_vectors("given", id_property))
    assert [len(names) for _, names, _ in blocks] == [500, 200]
    assert all(block.dtype == np.float32 for _, _, block in blocks)
    order = [UUIDS[ids.index(name)] for _, names, _ in blocks for name in names]
    assert order == sorted(UUIDS)
    vectors, others = gather_vectors(reader.name, blocks, ids[10:], "passages")
    assert others == 10 and np.array_equal(vectors, VECTORS[10:])


def test_a_vector_without_a_name_is_streamed(theirs: Theirs) -> None:
    blocks = list(WeaviateReader(theirs.unnamed("dot"), theirs.server).read_vectors())
    assert np.array_equal(gather_vectors("here", blocks, UUIDS, "passages")[0], VECTORS)


@pytest.mark.fault("collections as teams have them")
def test_objects_without_the_vector_are_counted_and_said(
    theirs: Theirs, capsys: pytest.CaptureFixture[str]
) -> None:
    name = theirs.written({"small": "dot", "given": "dot"}, ids=IDS[:3])
    handle = theirs.server.client.collections.use(name)
    handle.data.insert({"docid": "late"}, vector={"small": OTHERS[0]})
    live = connected(theirs, name, vector="given", id_property="docid")
    with pytest.raises(InputError, match="no vector given for passage 'late': fill it"):
        live.vectors_of(["0#0", "late"])
    reader = WeaviateReader(name, theirs.server)
    blocks = list(reader.read_vectors("given", "docid"))
    assert f"1 objects of {name} have no vector given: left out" in capsys.readouterr().out
    found, others = gather_vectors("there", blocks, IDS[:3], "passages")
    assert np.array_equal(found, VECTORS[:3]) and not others
    with pytest.raises(InputError, match="1 of 4 passages have no vector"):
        gather_vectors("there", blocks, [*IDS[:3], "late"], "passages")


# --- another space, and a collection that is written by others -----------------------------------


@pytest.mark.fault("other dimensions")
@pytest.mark.parametrize("id_property", ["docid", None])
def test_another_space_is_refused(theirs: Theirs, id_property: str | None) -> None:
    ids = IDS if id_property else UUIDS
    name = theirs.written({"given": "dot"})
    live = connected(theirs, name, id_property=id_property)
    for other in (VECTORS[::-1], VECTORS * 2):
        with pytest.raises(InputError, match=f"{name} holds another vector given for passage '"):
            live.build(ids, other)
    with pytest.raises(InputError, match=f"vector given of collection {name} has 24 dimensions"):
        live.build(ids, OTHERS)
    with pytest.raises(InputError, match=f"{name} has no passage '77.*: adapt to the collection"):
        live.build([f"77{id}" for id in ids], VECTORS)
    with pytest.raises(InputError, match="holds 700 objects and the corpus 701 passages"):
        live.build([*ids, "more"], np.concatenate([VECTORS, VECTORS[:1]]))
    with pytest.raises(InputError, match="occurs twice"):
        live.build([ids[0], ids[0]], VECTORS[:2])


def test_a_cosine_compares_directions(theirs: Theirs) -> None:
    live = connected(theirs, theirs.written({"given": "cosine"}), id_property="docid")
    live.build(IDS, VECTORS * 2)
    with pytest.raises(InputError, match="another vector"):
        live.build(IDS, -VECTORS)


def test_objects_that_the_corpus_has_not_are_well_and_found(theirs: Theirs) -> None:
    live = connected(theirs, theirs.written({"given": "dot"}), id_property="docid")
    live.build(IDS[100:], VECTORS[100:])
    assert_exact(live, IDS, "dot")
    handle = theirs.server.client.collections.use(live.name)
    handle.data.insert({"docid": "late"}, vector={"given": 9 * QUERIES[0]})
    live.build(IDS, VECTORS)
    assert live.count == COUNT + 1
    assert live.search(QUERIES[:1], 3)[0][0][0] == "late"


def test_nothing_is_written_and_letting_go_leaves_it(
    theirs: Theirs, weaviate_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = theirs.written({"given": "dot", "small": "cosine"})
    before, names = theirs.state(name), set(theirs.server.client.collections.list_all())
    for key, value in (
        ("WEAVIATE_URL", weaviate_server.url),
        ("WEAVIATE_GRPC_URL", weaviate_server.grpc_url),
        ("WEAVIATE_API_KEY", weaviate_server.api_key),
    ):
        monkeypatch.setenv(key, value or "")
    live = LiveCollection.connect(name, vector="given", id_property="docid")
    live.build(IDS, VECTORS)
    live.search(QUERIES, 10)
    assert not isinstance(live, ServedIndex)
    assert (live.size().memory, live.size().disk) == (None, None)
    assert "not built here" in live.size().note
    live.discard()
    with pytest.raises(InputError, match="closed"):
        live.search(QUERIES, 10)
    assert theirs.state(name) == before
    written = set(theirs.server.client.collections.list_all()) - names
    assert not {other for other in written if other.startswith(name)}


def test_a_connection_that_was_given_stays(theirs: Theirs) -> None:
    live = connected(theirs, theirs.written({"given": "dot"}), id_property="docid")
    live.discard()
    assert theirs.server.client.collections.exists(live.name)


# --- what is refused -----------------------------------------------------------------------------


def test_what_cannot_be_compared_or_is_not_there_is_refused(theirs: Theirs) -> None:
    name = theirs.written({"far": "l2", "given": "dot", "cohere": "cosine"}, ids=IDS[:3])
    for settings, message in (
        ({"vector": "far"}, f"vector far of {name} compares by l2-squared: name a vector"),
        ({"vector": "their"}, "has no vector 'their'; there are: cohere, far, given"),
        ({}, "several vectors: name one of them: cohere, far, given"),
        ({"vector": "given", "id_property": "id"}, "no property 'id' .* there are: docid, number"),
    ):
        with pytest.raises(InputError, match=message):
            connected(theirs, name, **settings)
    missing = theirs.name()
    with pytest.raises(InputError, match=f"has no collection or alias '{missing}'$"):
        connected(theirs, missing)


def test_an_empty_collection_is_refused(theirs: Theirs) -> None:
    with pytest.raises(InputError, match="holds no vector given: fill it"):
        connected(theirs, theirs.written({"given": "dot"}, ids=[]))


def test_an_object_of_several_vectors_is_refused() -> None:
    layout = SimpleNamespace(distance_metric=VectorDistances.COSINE, multi_vector=object())
    with pytest.raises(InputError, match="vector colbert of X is several vectors"):
        live_module._settings(layout, "vector colbert of X", 4)
