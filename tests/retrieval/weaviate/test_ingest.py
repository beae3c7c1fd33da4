"""Vectors that exist are in Weaviate once each, whatever happened on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("weaviate")

from weaviate.classes.query import MetadataQuery
from weaviate.exceptions import WeaviateQueryError
from weaviate.util import generate_uuid5

from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.ingest import BLOCK
from tercet.retrieval.weaviate.reader import WeaviateReader

pytestmark = pytest.mark.weaviate

ROOT = Path(__file__).parents[3]
NAME = "Tercet_tests_scratch"
ROWS, WIDTH = 30_000, 32


def corpus(folder: Path, rows: int = ROWS, **columns: Any) -> np.ndarray:
    """A Parquet file with the columns of Cohere's corpora; its vectors."""
    vectors = np.random.default_rng(7).standard_normal((rows, WIDTH)).astype(np.float32)
    table = {
        "docid": [f"{i}#é" for i in range(rows)],
        "title": [f"T{i}" for i in range(rows)],
        "text": ["" if i == 5 else f"text {i}" for i in range(rows)],
        "emb": list(vectors),
    } | columns
    if table["title"]:
        table["title"][5] = ""  # a passage without any text
    pq.write_table(pa.table(table), folder / "corpus.parquet", row_group_size=1_000)
    return vectors


def command(folder: Path, *overrides: str) -> list[str]:
    recipe = folder / "r.yaml"
    recipe.write_text(
        f"name: given\nruns_dir: {folder}/runs\n"
        "corpus:\n  source: tables\n"
        f"  passages: {{path: {folder}/corpus.parquet, vector: emb}}\n"
        f"ingest: {{collection: {NAME}, vector: cohere, kind: flat}}\n"
    )
    return [sys.executable, str(ROOT / "scripts" / "ingest.py"), str(recipe), *overrides]


def environment(weaviate_server: Any) -> dict[str, str]:
    return os.environ | {
        name: value for name, value in weaviate_server.environment.items() if value
    }


def ingested(
    folder: Path, weaviate_server: Any, *overrides: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *overrides),
        env=environment(weaviate_server),
        capture_output=True,
        text=True,
        timeout=300,
    )


def held(server: WeaviateServer) -> dict[str, tuple[str, str, np.ndarray]]:
    """Everything in the collection by passage id; its UUIDs must follow from those."""
    found = {}
    reader = WeaviateReader(NAME, server)
    for stored in reader.read(["passage_id", "title", "text"], "cohere"):
        row = stored.properties
        assert stored.uuid == generate_uuid5(row["passage_id"])
        assert row["passage_id"] not in found
        found[row["passage_id"]] = (row["title"], row["text"], stored.vector)
    return found


@pytest.mark.fault("a killed encoder or index")
def test_killed_at_three_moments_it_ends_with_every_vector_once(
    server: WeaviateServer, weaviate_server: Any, tmp_path: Path
) -> None:
    vectors, random_ = corpus(tmp_path), random.Random(3)
    note = tmp_path / "runs" / "given" / "ingest.partial" / "reached.json"
    first = None
    for kill in range(3):
        process = subprocess.Popen(
            command(tmp_path),
            env=environment(weaviate_server),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        mark = (kill + 1) * BLOCK + random_.randrange(BLOCK * 2 // 3)  # above what is there
        try:
            while process.poll() is None and total(server) <= min(mark, ROWS - 1_000):
                time.sleep(0.02)
            assert process.poll() is None, process.stderr and process.stderr.read()
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert json.loads(note.read_text())["rows"] >= (kill + 1) * BLOCK
        first = first or updated(server, "0#é")
    done = ingested(tmp_path, weaviate_server)
    assert done.returncode == 0, done.stderr
    found = held(server)
    assert set(found) == {f"{i}#é" for i in range(ROWS)} - {"5#é"}
    for i in (0, 4, 6, 8_191, 8_192, ROWS - 1):
        title, text, vector = found[f"{i}#é"]
        assert (title, text) == (f"T{i}", f"text {i}")
        assert np.array_equal(vector, vectors[i])
    manifest = json.loads((tmp_path / "runs/given/ingest/manifest.json").read_text())
    assert manifest["facts"] == {"passages": ROWS - 1, "empty_passages": 1}

    assert updated(server, "0#é") == first, "what was noted as written was written again"
    last = updated(server, f"{ROWS - 1}#é")
    again = ingested(tmp_path, weaviate_server)
    assert again.returncode == 0 and "reuse ingest" in again.stdout
    assert updated(server, f"{ROWS - 1}#é") == last, "a second run wrote"


def total(server: WeaviateServer) -> int:
    if not server.client.collections.exists(NAME):
        return 0
    try:
        reply = server.client.collections.use(NAME).aggregate.over_all(total_count=True)
    except WeaviateQueryError:  # another process makes it just now: it is known, and not there yet
        return 0
    return reply.total_count or 0


def updated(server: WeaviateServer, passage: str) -> datetime:
    """When a passage was written last."""
    objects = server.client.collections.use(NAME).query.fetch_objects_by_ids(
        [generate_uuid5(passage)], return_metadata=MetadataQuery(last_update_time=True)
    )
    return objects.objects[0].metadata.last_update_time


@pytest.mark.fault("other dimensions")
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"emb": [[1.0, 2.0], [1.0], [1.0, 2.0]]}, "'b' has a vector of 1 numbers, those before"),
        ({"emb": [[1.0, 2.0], [float("nan"), 0.0], [1.0, 2.0]]}, "row 2: 'emb' is a vector that"),
        ({"emb": [[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]}, "row 2: 'emb' is a vector that"),
        ({"emb": [[1.0, 2.0], None, [1.0, 2.0]]}, "row 2: 'emb' must be a list of numbers"),
        ({"docid": ["a", "b", "a"]}, "1 ids of passages occur more than once, such as 'a'"),
    ],
)
def test_what_cannot_be_ingested_is_refused(
    server: WeaviateServer,
    weaviate_server: Any,
    tmp_path: Path,
    columns: dict[str, Any],
    message: str,
) -> None:
    table = {"docid": ["a", "b", "c"], "text": ["x", "y", "z"], "emb": [[1.0, 2.0]] * 3} | columns
    pq.write_table(pa.table(table), tmp_path / "corpus.parquet")
    result = ingested(tmp_path, weaviate_server)
    assert result.returncode == 2 and message in result.stderr, result.stdout + result.stderr


def test_a_collection_of_someone_else_is_left_alone(
    server: WeaviateServer, weaviate_server: Any, tmp_path: Path
) -> None:
    corpus(tmp_path, 10)
    server.client.collections.create(NAME)
    result = ingested(tmp_path, weaviate_server)
    assert result.returncode == 2 and f"has a collection {NAME} already" in result.stderr
    assert total(server) == 0
    assert not (tmp_path / "runs" / "given" / "ingest").exists()


def test_a_collection_that_lost_passages_since_is_not_called_full(
    server: WeaviateServer, weaviate_server: Any, tmp_path: Path
) -> None:
    corpus(tmp_path, 10)
    assert ingested(tmp_path, weaviate_server).returncode == 0
    server.client.collections.use(NAME).data.delete_by_id(generate_uuid5("3#é"))
    result = ingested(tmp_path, weaviate_server)
    assert result.returncode == 2 and "held 9 passages when it was written, and holds 8 now" in (
        result.stderr
    )


@pytest.mark.parametrize("kind", ["hnsw", "hnsw+pq", "hnsw+sq", "hnsw+rq", "flat+bq"])
def test_every_kind_of_index_is_filled_and_compressed(
    server: WeaviateServer, weaviate_server: Any, tmp_path: Path, kind: str
) -> None:
    vectors = corpus(tmp_path, 400)
    done = ingested(tmp_path, weaviate_server, f"--ingest.kind={kind}")
    assert done.returncode == 0, done.stderr
    found = held(server)
    assert len(found) == 399
    assert np.allclose(found["17#é"][2], vectors[17], atol=1e-6)
