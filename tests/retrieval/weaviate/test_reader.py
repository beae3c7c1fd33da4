"""A collection that others wrote, and go on writing, is read whole and each object once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("weaviate")

from weaviate.classes.config import Configure, DataType, Property
from weaviate.util import generate_uuid5

from tercet.config.corpus import PassagesTable
from tercet.core.schema import InputError, Passage
from tercet.data.sources import WeaviateCollection
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.reader import WeaviateReader

pytestmark = pytest.mark.weaviate

NAME = "Tercet_tests_scratch"


def written(server: WeaviateServer, objects: int, **columns: Callable[[int], Any]) -> Any:
    """A collection of someone else's, with two named vectors and other properties than ours."""
    handle = server.client.collections.create(
        NAME,
        properties=[
            Property(name="headline", data_type=DataType.TEXT),
            Property(name="body", data_type=DataType.TEXT),
            Property(name="number", data_type=DataType.INT),
        ],
        vector_config=[
            Configure.Vectors.self_provided(
                name=name, vector_index_config=Configure.VectorIndex.flat()
            )
            for name in ("cohere", "other")
        ],
    )
    write(handle, range(objects), **columns)
    return handle


def write(handle: Any, numbers: range, **columns: Callable[[int], Any]) -> None:
    with handle.batch.fixed_size(1_000, 2) as batch:
        for i in numbers:
            row = {"headline": f"H{i}", "body": f"b{i}", "number": i}
            row |= {name: column(i) for name, column in columns.items()}
            vectors = {"cohere": [i + 1.0, 0.5], "other": [0.0, 1.0, 2.0]}
            batch.add_object(row, uuid=generate_uuid5(i), vector=vectors)
    assert not handle.batch.failed_objects


def test_each_of_50_000_objects_comes_once_while_others_write(server: WeaviateServer) -> None:
    handle, before = written(server, 50_000), set(range(50_000))
    reader = WeaviateReader(NAME, server)
    assert len(reader) == 50_000
    stop, added = threading.Event(), []

    def go_on() -> None:
        while not stop.is_set():
            first = 50_000 + len(added)
            write(handle, range(first, first + 1_000))
            added.extend(range(first, first + 1_000))

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        found = Counter(stored.properties["number"] for stored in reader.read(["number"]))
    finally:
        stop.set()
        writer.join()
    assert added, "nobody wrote meanwhile"
    assert set(found.values()) == {1}
    assert before <= set(found) <= before | set(added)


def test_objects_are_passages_by_the_properties_that_the_recipe_names(
    server: WeaviateServer,
) -> None:
    written(server, 1_100, body=lambda i: None if i == 3 else f"b{i}")
    reader = WeaviateReader(NAME, server)
    columns = PassagesTable(title="headline", id="number")
    source = WeaviateCollection(reader, columns)
    passages = {passage.id: passage for _, passage in source.passages()}
    assert passages["7"] == Passage("7", "H7", "b7") and passages["3"].text == ""
    assert len(passages) == 1_100
    by_uuid = dict(WeaviateCollection(reader, PassagesTable(title="headline")).passages())
    assert by_uuid[f"{NAME} {generate_uuid5(7)}"].id == generate_uuid5(7)
    before = source.identity()
    assert before == source.identity()
    server.client.collections.use(NAME).data.update(generate_uuid5(9), {"body": "other"})
    assert source.identity() != before


def test_vectors_are_read_by_their_name(server: WeaviateServer) -> None:
    written(server, 10)
    reader = WeaviateReader(NAME, server)
    for stored in reader.read(["number"], "cohere"):
        assert stored.vector is not None and stored.vector.dtype == np.float32
        assert stored.vector.tolist() == [stored.properties["number"] + 1.0, 0.5]
    with pytest.raises(InputError, match="no vector 'theirs'; there are: cohere, other"):
        next(reader.read(["number"], "theirs"))


def test_what_is_not_there_is_refused_by_name(server: WeaviateServer) -> None:
    with pytest.raises(InputError, match="has no collection or alias 'Tercet_tests_scratch'"):
        WeaviateReader(NAME, server)
    written(server, 1)
    with pytest.raises(InputError, match="no column .texts. .*; there are headline, body"):
        WeaviateCollection(WeaviateReader(NAME, server), PassagesTable(text="texts"))
