"""A Weaviate that is killed: an import and a search go on when it is back, or end in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recipes import tiny_recipe

pytest.importorskip("weaviate")

from weaviate.exceptions import WeaviateQueryError
from weaviate_fixtures import SCRATCH, Own, own_weaviate

from tercet.config.loading import load_recipe
from tercet.evaluation.experiment import Experiment
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.failures import ServerFailed
from tercet.retrieval.weaviate.index import WeaviateIndex
from tercet.retrieval.weaviate.live import LiveCollection
from tercet.retrieval.weaviate.reader import WeaviateReader

pytestmark = [pytest.mark.weaviate, pytest.mark.fault("a Weaviate that dies")]

PROGRAM = Path(__file__).parents[3] / "scripts" / "ingest.py"
WIDTH = 64


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """A server that may be killed."""
    with own_weaviate(tmp_path_factory.mktemp("mortal")) as own:
        yield own


@pytest.fixture
def own(mortal: Own, monkeypatch: pytest.MonkeyPatch) -> Own:
    """The server, up and without `SCRATCH`; the environment names it."""
    mortal.start()
    for name, value in mortal.server.environment.items():
        monkeypatch.setenv(name, value)
    server = WeaviateServer.connect()
    server.client.collections.delete(SCRATCH)
    server.close()
    return mortal


class Import:
    """`tercet ingest` of random vectors, in a process."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.vectors = np.random.default_rng(1).standard_normal((rows, WIDTH)).astype(np.float32)
        ids = [f"p{row}" for row in range(rows)]
        table = {"id": ids, "text": ids, "emb": list(self.vectors)}
        pq.write_table(pa.table(table), folder / "corpus.parquet", row_group_size=1_000)
        self.recipe = folder / "r.yaml"
        self.recipe.write_text(
            f"name: given\nruns_dir: {folder}/runs\ncorpus:\n  source: tables\n"
            f"  passages: {{path: {folder}/corpus.parquet, vector: emb}}\n"
            f"ingest: {{collection: {SCRATCH}, vector: given, kind: flat, metric: cosine}}\n"
        )

    def begun(self, deadline: float = 120) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.recipe)],
            env=os.environ | {"WEAVIATE_DEADLINE": str(deadline)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def check_whole(self) -> None:
        """Every object is there once, and sampled vectors are those that were sent."""
        server = WeaviateServer.connect()
        try:
            reader = WeaviateReader(SCRATCH, server)
            assert len(reader) == len(self.vectors)
            ids, seen = [], 0
            for _, names, vectors in reader.read_vectors("given"):
                ids += names
                for name, vector in list(zip(names, vectors, strict=True))[::25]:
                    assert np.array_equal(vector, self.vectors[int(name[1:])])
                    seen += 1
            assert len(set(ids)) == len(ids) == len(self.vectors) and seen >= 64
            few = range(0, len(self.vectors), len(self.vectors) // 1_000)
            live = LiveCollection.connect(SCRATCH, server=server)
            found = live.search(self.vectors[list(few)], 1)
            assert [ranking[0][0] for ranking in found] == [f"p{row}" for row in few]
        finally:
            server.close()


def await_objects(process: subprocess.Popen[str], least: int) -> None:
    """Until the import has written so many objects, and more are to come."""
    server = WeaviateServer.connect()
    handle = server.client.collections.use(SCRATCH)
    try:
        while process.poll() is None:
            if server.client.collections.exists(SCRATCH):
                with suppress(WeaviateQueryError):  # it is made just now
                    if (handle.aggregate.over_all(total_count=True).total_count or 0) >= least:
                        return
            time.sleep(0.01)
        raise AssertionError(process.communicate())
    except BaseException:
        process.kill()
        raise
    finally:
        server.close()


def killed_and_back(own: Own, folder: Path, rows: int, kills: int) -> None:
    made = Import(folder, rows)
    process = made.begun()
    for kill in range(kills):
        await_objects(process, 1 + kill * rows // kills)
        own.kill()
        assert process.poll() is None, "the import was over"
        time.sleep(1)
        own.start()
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.count("again in") >= kills and "could not" in said
    made.check_whole()


@pytest.mark.slow
def test_an_import_goes_on_when_the_server_is_back(own: Own, tmp_path: Path) -> None:
    killed_and_back(own, tmp_path, 2_000, 1)


@pytest.mark.long
def test_an_import_of_50_000_goes_on_after_each_of_three_kills(own: Own, tmp_path: Path) -> None:
    killed_and_back(own, tmp_path, 50_000, 3)


def stays_dead(own: Own, folder: Path, rows: int, deadline: float) -> None:
    made = Import(folder, rows)
    process = made.begun(deadline)
    await_objects(process, 1)
    own.kill()
    began = time.monotonic()
    said, errors = process.communicate(timeout=120)
    assert time.monotonic() - began < deadline + 4
    assert process.returncode == 1 and errors.startswith("error: Weaviate at "), errors
    assert errors.count("\n") == 1 and "run the same command again" in errors
    assert said.count("again in") >= 2
    own.start()
    process = made.begun()
    assert process.communicate(timeout=300) and process.returncode == 0
    made.check_whole()


@pytest.mark.slow
def test_an_import_into_a_server_that_stays_dead_ends_by_its_deadline_and_resumes(
    own: Own, tmp_path: Path
) -> None:
    stays_dead(own, tmp_path, 2_000, 3)


@pytest.mark.long
def test_an_import_of_50_000_ends_by_its_deadline_and_resumes(own: Own, tmp_path: Path) -> None:
    stays_dead(own, tmp_path, 50_000, 10)


@pytest.mark.slow
def test_a_search_goes_on_when_the_server_is_back_over_an_index_that_lacks_nothing(
    own: Own,
) -> None:
    vectors = np.random.default_rng(2).standard_normal((1_000, WIDTH)).astype(np.float32)
    with WeaviateIndex.connect("flat", metric="cosine", collection=SCRATCH) as index:
        index.build([f"p{row}" for row in range(len(vectors))], vectors)
        expected, built = index.search(vectors, 10), index.collection_name
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(index.search, vectors, 10)
            time.sleep(0.2)
            own.kill()
            assert not found.done()
            own.start()
            assert found.result(120) == expected
        assert index.server.lost and index.collection_name != built
        assert not index.server.client.collections.exists(built)
        index.discard()


@pytest.mark.slow
def test_an_evaluation_over_a_server_that_dies_goes_on_or_ends_by_its_deadline(
    own: Own,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEAVIATE_DEADLINE", "20")
    path = tiny_recipe(
        tmp_path,
        name="mortal",
        corpus=tiny_beir_path,
        model=tiny_encoder_path,
        evaluation={
            "resamples": 200,
            "latency_queries": 0,
            "systems": [{"kind": "base"}],
            "indexes": [{"backend": "weaviate", "kind": "flat"}],
        },
    )
    with Experiment(load_recipe(path, ["--model.similarity", "cosine"])) as experiment:
        experiment.check()
        back = threading.Timer(0.5, own.start)
        own.kill()
        back.start()
        for index in experiment.indexes:
            experiment.search(index)
        back.join()
    monkeypatch.setenv("WEAVIATE_DEADLINE", "1")
    with Experiment(load_recipe(path, ["--model.similarity", "dot"])) as experiment:
        experiment.check()
        (index,) = [each for each in experiment.indexes if each.backend == "weaviate"]
        build = WeaviateIndex.build

        def build_and_die(*given: object) -> None:
            build(*given)  # type: ignore[arg-type]
            own.kill()

        monkeypatch.setattr(WeaviateIndex, "build", build_and_die)
        began = time.monotonic()
        with pytest.raises(ServerFailed, match="could not search .* for 1 s: run the same"):
            experiment.search(index)
        assert time.monotonic() - began < 10
