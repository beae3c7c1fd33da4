"""A retriever's file over a real Weaviate: a run's collection, and a live one."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import run_here
from recipes import live_recipe, tiny_recipe

pytest.importorskip("weaviate")
pytest.importorskip("langchain_core")

from weaviate.classes.config import Configure, DataType, Property, VectorDistances

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError, ModelStamp
from tercet.modeling import BiEncoder
from tercet.pipeline.finished import finished
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.weaviate.deployments import Records, rollback
from tercet.serving.search import RunSearch, live_retriever
from tercet.sharing.retriever import export, export_retriever

pytestmark = pytest.mark.weaviate

ALIAS = "Tercet_tests_exported"
NAMES = ("Tercet_tests_exported_theirs", "Tercet_tests_exported_others")
#: Where a server is that nobody configured: the file may say so.
WEAVIATE_S_OWN = "127.0.0.1:8080"
# A subprocess in which there is no Tercet, whatever is installed.
ALONE = """
import runpy, sys
class NoTercet:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tercet":
            raise ImportError("there is no tercet here")
sys.meta_path.insert(0, NoTercet())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(autouse=True)
def environment(server: Any, weaviate_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in (
        ("WEAVIATE_URL", weaviate_server.url),
        ("WEAVIATE_GRPC_URL", weaviate_server.grpc_url or ""),
        ("WEAVIATE_API_KEY", weaviate_server.api_key or ""),
    ):
        monkeypatch.setenv(name, value)
    yield
    server.client.alias.delete(alias_name=ALIAS)
    Records(server).remove(ALIAS)
    for name in server.client.collections.list_all():
        if name.startswith(("Tercet_exported_", *NAMES)):
            server.client.collections.delete(name)


def write(server: Any, name: str, rows: list[dict[str, str]], vectors: np.ndarray) -> None:
    """A collection as somebody's own program would: their property names, a named vector."""
    server.client.collections.delete(name)
    collection = server.client.collections.create(
        name,
        properties=[
            Property(name="key", data_type=DataType.TEXT),
            Property(name="text", data_type=DataType.TEXT),
        ],
        vector_config=[
            Configure.Vectors.self_provided(
                name="theirs",
                vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT),
            ),
        ],
    )
    with collection.batch.fixed_size(batch_size=50) as batch:
        for row, vector in zip(rows, vectors, strict=True):
            batch.add_object({"key": row["_id"], "text": row["text"]}, vector={"theirs": vector})
    assert not collection.batch.failed_objects


def alone(file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=file.parent,
        env=os.environ | environment,
    )


def loaded(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"exported_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_pairs(documents: list[Any]) -> list[tuple[str, float]]:
    return [(found.metadata["id"], found.metadata["score"]) for found in documents]


def same_at_once(retriever: Any, queries: list[str]) -> None:
    """Asked one by one, in threads, and awaited all at once, in one loop and in another."""

    async def at_once() -> list[Any]:
        try:
            return list(await retriever.abatch(queries))
        finally:
            await retriever._index._async[asyncio.get_running_loop()].close()

    one_by_one = [as_pairs(retriever.invoke(query)) for query in queries]
    assert [as_pairs(each) for each in retriever.batch(queries)] == one_by_one
    for _ in range(2):
        assert [as_pairs(each) for each in asyncio.run(at_once())] == one_by_one


def test_a_runs_collection_is_asked_by_its_alias_with_texts_beside_the_file(
    server: Any,
    weaviate_server: Any,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> None:
    recipe = tiny_recipe(
        tmp_path,
        name="exported",
        corpus=tiny_beir_path,
        queries={"count": 40},
        negatives={"candidates": 6},
        teacher={"name": tiny_cross_encoder_path, "student_weight": 0.5},
        model=tiny_encoder_path,
        training={"num_train_epochs": 1, "learning_rate": 1e-3},
        index={"backend": "weaviate", "alias": ALIAS},
        evaluation={"interpolation_steps": 1},
    )
    pipeline = Pipeline(load_recipe(recipe))
    _ = pipeline.evaluation
    out = tmp_path / "there" / "retriever.py"
    made = run_here("scripts/export_retriever.py", recipe, f"--out={out}")
    assert made.returncode == 0, made.stdout + made.stderr
    address = weaviate_server.url.rpartition("/")[2]
    secrets = [weaviate_server.api_key, None if address == WEAVIATE_S_OWN else address]
    for file in out.parent.rglob("*"):
        for secret in secrets:
            assert not file.is_file() or not secret or secret.encode() not in file.read_bytes()
    tested = alone(out, "--self-test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.splitlines()[-1] == "10 of 10 queries of run 'exported': as the run found"

    module = loaded(out)
    assert (module.COLLECTION, module.ID_PROPERTY) == (ALIAS, "passage_id")
    retriever = module.TercetRetriever(k=4)
    texts = [query.text for query in pipeline.split("test")[0]]
    encoder = BiEncoder.from_pretrained(pipeline.model.path, precision="fp32")
    passages = encoder.encode_passages(list(pipeline.passages.contents))
    for query, vector in zip(texts, encoder.encode_queries(texts), strict=True):
        documents = retriever.invoke(query)
        best = np.sort(passages @ vector)[::-1][:4]
        assert [score for _, score in as_pairs(documents)] == pytest.approx(best, abs=1e-4)
        for found in documents:
            passage = pipeline.passages[pipeline.passages.rows([found.id])[found.id]]
            assert found.page_content == passage.text
            assert found.metadata["title"] == passage.title
    same_at_once(retriever, texts)
    with RunSearch(pipeline, "adapted") as search:
        assert search.place == f"collection {ALIAS}"
        for query in texts[:3]:
            found = [(passage.id, score) for passage, score in search.search(query, 4)]
            assert found == [
                (id, pytest.approx(score, abs=1e-4))
                for id, score in as_pairs(retriever.invoke(query))
            ]
        there = search.answerability_threshold()
    retriever.close()
    held = [*pipeline.split("validation")[0], *pipeline.split("guard")[0]]
    best_of_each = (passages @ encoder.encode_queries([q.text for q in held]).T).max(axis=0)
    assert there == pytest.approx(np.percentile(best_of_each, 5), abs=1e-4)

    # The alias serves another model's vectors one day: that is not what the run measured.
    other = Pipeline(load_recipe(recipe)).components.make_index()
    random = np.random.default_rng(1).standard_normal(passages.shape).astype(np.float32)
    other.build(pipeline.passages.ids, random)
    other.publish(ALIAS, ModelStamp())
    refused = alone(out, "--self-test")
    assert refused.returncode == 2 and "this model belongs to" in refused.stderr
    with pytest.raises(InputError, match="holds other vectors than those of run exported"):
        RunSearch(pipeline, "adapted")
    # Where the record says whose vectors they are, that is what it says.
    stamped = Pipeline(load_recipe(recipe)).components.make_index()
    stamped.build(pipeline.passages.ids, random)
    stamped.publish(ALIAS, ModelStamp(model="0" * 64, model_name="another"))
    refused = alone(out, "--self-test")
    assert refused.returncode == 2
    assert f"{ALIAS} answers for model another (000000000000), and" in refused.stderr
    rollback(server, ALIAS)
    rollback(server, ALIAS)
    tested = alone(out, "--self-test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    whole = tmp_path / "whole" / "retriever.py"
    with pytest.MonkeyPatch.context() as patch:  # with its vectors beside it, it asks no server
        patch.setenv("WEAVIATE_URL", "http://127.0.0.1:9")
        patch.setenv("WEAVIATE_GRPC_URL", "")
        export(finished(load_recipe(recipe), served=False), whole, exact=True)
        tested = alone(whole, "--self-test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "weaviate" not in whole.read_text()
    nowhere = alone(out, "honey", WEAVIATE_URL="http://127.0.0.1:9", WEAVIATE_GRPC_URL="")
    last = nowhere.stderr.splitlines()[-1]
    assert nowhere.returncode == 2 and last == "error: no Weaviate at 127.0.0.1:9: set WEAVIATE_URL"


def test_a_live_collection_gives_the_texts_and_another_is_refused(
    server: Any,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> None:
    rows = [json.loads(line) for line in (tiny_beir_path / "corpus.jsonl").open()]
    random = np.random.default_rng(7)
    topics = random.standard_normal((20, 16))
    made = [2 * topics[int(r["_id"][1:]) // 3] + random.standard_normal(16) for r in rows]
    vectors = np.array(made, np.float32)
    for name, some in zip(NAMES, (vectors, vectors[:, ::-1].copy()), strict=True):
        write(server, name, rows, some)
    recipe = live_recipe(
        tmp_path,
        NAMES[0],
        name="exported_live",
        corpus=tiny_beir_path,
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        evaluation={"interpolation_steps": 1},
    )
    pipeline = Pipeline(load_recipe(recipe))
    _ = pipeline.evaluation
    out = tmp_path / "there" / "retriever.py"
    beside = out.with_name("retriever.model")
    assert export_retriever(load_recipe(recipe), out) == [out, beside]
    assert {*out.parent.iterdir()} == {out, beside}
    tested = alone(out, "--self-test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    module = loaded(out)
    assert (module.VECTOR, module.ID_PROPERTY) == ("theirs", "key")
    assert module.LAYERS[-1][0] == "Dense" and module.LAYERS[-1][1].endswith("_Dense")
    retriever = module.TercetRetriever(k=4)
    contents = {row["_id"]: row["text"] for row in rows}
    texts = [query.text for query in pipeline.split("test")[0]]
    assert all(contents[found.id] == found.page_content for found in retriever.invoke(texts[0]))
    same_at_once(retriever, texts)
    for system in ("adapted", "base"):  # both over the collection as it stands
        with RunSearch(pipeline, system) as search:
            assert search.place == f"collection {NAMES[0]}"
            found = search.search(texts[0], 4)
            assert all(passage.text == contents[passage.id] for passage, _ in found)
            assert np.isfinite(search.answerability_threshold())
    whole = tmp_path / "whole" / "retriever.py"
    export(finished(load_recipe(recipe), served=False), whole, exact=True)
    # A vector that changes there changes what is found.
    best = retriever.invoke(module.EXPECTED[0][0])[0].id
    retriever.close()
    with pytest.raises(ValueError, match=rf"belongs to Weaviate collection {NAMES[0]}"):
        module.TercetRetriever(collection=NAMES[1])
    theirs = server.client.collections.use(NAMES[0])
    stored = next(o for o in theirs.iterator(include_vector=True) if o.properties["key"] == best)
    longer = {"theirs": [1.01 * number for number in stored.vector["theirs"]]}
    theirs.data.update(stored.uuid, vector=longer)
    failed = alone(out, "--self-test")
    assert failed.returncode == 1 and "DIFFERS" in failed.stdout, failed.stdout + failed.stderr
    tested = alone(whole, "--self-test", WEAVIATE_URL="http://127.0.0.1:9")  # it has its own
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.fault("collections as teams have them")
def test_tenants_are_adapted_to_and_searched_by_the_exported_file(
    server: Any,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> None:
    rows = [json.loads(line) for line in (tiny_beir_path / "corpus.jsonl").open()]
    tenant_of = {row["_id"]: ("blue", "red")[number % 2] for number, row in enumerate(rows)}
    random = np.random.default_rng(7)
    topics = random.standard_normal((20, 16))
    vectors = [2 * topics[int(r["_id"][1:]) // 3] + random.standard_normal(16) for r in rows]
    theirs = server.client.collections.create(
        NAMES[0],
        properties=[
            Property(name="key", data_type=DataType.TEXT),
            Property(name="text", data_type=DataType.TEXT),
        ],
        multi_tenancy_config=Configure.multi_tenancy(enabled=True, auto_tenant_creation=True),
        vector_config=[
            Configure.Vectors.self_provided(
                name="theirs",
                vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT),
            ),
        ],
    )
    for row, vector in zip(rows, vectors, strict=True):
        handle = theirs.with_tenant(tenant_of[row["_id"]])
        handle.data.insert({"key": row["_id"], "text": row["text"]}, vector={"theirs": vector})
    qrels = tmp_path / "qrels"
    qrels.mkdir()
    for split in ("test", "dev"):
        head, *judged = (tiny_beir_path / "qrels" / f"{split}.tsv").read_text().splitlines()
        lines = [line.split("\t") for line in judged]
        named = [f"{query}\t{tenant_of[id]}/{id}\t{grade}" for query, id, grade in lines]
        (qrels / f"{split}.tsv").write_text("\n".join([head, *named, ""]))
    path = live_recipe(
        tmp_path,
        NAMES[0],
        name="exported_tenants",
        corpus=tiny_beir_path,
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        evaluation={"interpolation_steps": 1},
    )
    given = [f"--corpus.qrels.path={qrels}/*.tsv", "--corpus.tenant=[blue, red]"]
    recipe = load_recipe(path, given)
    pipeline = Pipeline(recipe)
    _ = pipeline.evaluation
    assert set(pipeline.passages.ids) == {f"{tenant}/{id}" for id, tenant in tenant_of.items()}
    out = tmp_path / "there" / "retriever.py"
    export_retriever(recipe, out)
    tested = alone(out, "--self-test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    retriever = loaded(out).TercetRetriever(k=20)
    texts = [query.text for query in pipeline.split("test")[0]]
    found = retriever.invoke(texts[0])
    assert {each.id.partition("/")[0] for each in found} == {"blue", "red"}
    same_at_once(retriever, texts[:2])
    with RunSearch(pipeline, "adapted") as search:
        best = search.search(texts[0], 5)
    assert [passage.id for passage, _ in best] == [each.id for each in found[:5]]
    retriever.close()
    model = live_retriever(pipeline.model.path, NAMES[0], precision="fp32")
    (ranking,) = model.search(texts[:1], 5)  # the tenants are stored with the model
    assert [id for id, _ in ranking] == [each.id for each in found[:5]]
    model.close()
