"""A model is deployed to a collection that a service searches all the time, and rolled back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("weaviate")

from article_service import K, reading
from articles import articles, articles_recipe, finished_run, write_articles
from click.testing import CliRunner
from weaviate.classes.config import Configure
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.util import generate_uuid5

from tercet.commands.deploy import command as deploy_command
from tercet.commands.rollback import command as rollback_command
from tercet.core.files import weights_digest
from tercet.core.schema import InputError
from tercet.modeling import BiEncoder
from tercet.retrieval.weaviate.alias import collection_behind
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.deployments import Records
from tercet.serving.deployment import deploy, rollback
from tercet.serving.search import live_retriever

pytestmark = pytest.mark.weaviate

NAME, SMALL = "Deployed_articles", "Deployed_small"
KILLED = "from tercet.commands.deploy import command; command()"


class Magazine:
    """A collection of articles with the base model's vectors, and a finished run over it."""

    def __init__(
        self, server: Any, folder: Path, name: str, count: int, base: Path, teacher: Path
    ) -> None:
        self.server, self.folder, self.base = server, folder, base
        self.rows = articles(count)
        self.vectors = write_articles(server, name, self.rows, base)
        self.recipe = articles_recipe(
            folder, name, self.rows, name="magazine", model=base, teacher=teacher
        )
        self.pipeline = finished_run(self.recipe)
        self.run = folder / "runs" / "magazine"
        self.model = self.run / "model"
        self.digest = weights_digest(self.model)
        self.adapted = BiEncoder.from_pretrained(self.model, precision="fp32", max_length=48)
        self.texts = [query.text for query in self.pipeline.split("test")[0]]

    def answers(self, collection: str, vector: str, queries: np.ndarray) -> list[list[str]]:
        """The keys that each query vector finds."""
        handle = self.server.client.collections.use(collection)
        found = []
        for query in queries:
            hits = handle.query.near_vector(query, target_vector=vector, limit=K).objects
            found.append([hit.properties["key"] for hit in hits])
        return found

    def objects(self, collection: str, *vectors: str) -> dict[str, Any]:
        """Every object with its properties and vectors, by key."""
        handle = self.server.client.collections.use(collection)
        found = {}
        for stored in handle.iterator(include_vector=list(vectors)):
            assert stored.properties["key"] not in found
            assert str(stored.uuid) == generate_uuid5(stored.properties["key"])
            found[stored.properties["key"]] = stored
        return found


def clean(server: Any, prefix: str, besides: str = "") -> None:
    for alias in server.client.alias.list_all():
        if alias.startswith(prefix):
            server.client.alias.delete(alias_name=alias)
    for name in server.client.collections.list_all():
        if name.startswith(prefix) and name != besides:
            server.client.collections.delete(name)
    for served in [record.served for record in Records(server)]:
        if served.startswith(prefix):
            Records(server).remove(served)


@pytest.fixture
def environment(
    server: Any, weaviate_server: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    for name, value in weaviate_server.environment.items():
        monkeypatch.setenv(name, value)
    clean(server, NAME)
    yield server
    clean(server, NAME)


@pytest.fixture(params=[1_000, pytest.param(20_000, marks=pytest.mark.long)])
def magazine(
    request: Any,
    environment: Any,
    tmp_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Magazine:
    return Magazine(
        environment, tmp_path, NAME, request.param, tiny_encoder_path, tiny_cross_encoder_path
    )


def killed_deploy(magazine: Magazine, share: float, *arguments: str) -> None:
    """Deploy in a process of its own, and kill it when about this share of the objects is done."""
    server, rows = magazine.server, magazine.rows
    keys = sorted(generate_uuid5(row["key"]) for row in rows)
    mark, short = keys[int(share * len(keys))], magazine.digest[:12]
    collection = f"{NAME}_{short}" if "collection" in arguments else NAME
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(magazine.run), "--weaviate", NAME, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    try:
        while process.poll() is None and not has_vector(
            server, collection, f"tercet_{short}", mark
        ):
            time.sleep(0.01)
        assert process.poll() is None, process.stderr and process.stderr.read()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = keys[-1]
    assert not has_vector(server, collection, f"tercet_{short}", last), "it was killed too late"


def has_vector(server: Any, collection: str, vector: str, key: str) -> bool:
    if not server.client.collections.exists(collection):
        return False
    handle = server.client.collections.use(collection)
    try:
        stored = handle.query.fetch_object_by_id(key, include_vector=[vector])
    except Exception:  # it is being made
        return False
    return stored is not None and vector in stored.vector


@pytest.mark.slow
@pytest.mark.parametrize("form", ["collection", "vector"])
def test_a_service_reads_on_while_a_model_is_deployed_killed_resumed_and_rolled_back(
    magazine: Magazine, form: str, tmp_path: Path
) -> None:
    server, count = magazine.server, len(magazine.rows)
    base = BiEncoder.from_pretrained(magazine.base, precision="fp32", max_length=48)
    old, new = base.encode_queries(magazine.texts), magazine.adapted.encode_queries(magazine.texts)
    before = magazine.answers(NAME, "theirs", old)
    whole = magazine.objects(NAME, "theirs")
    vector, base_digest = f"tercet_{magazine.digest[:12]}", weights_digest(magazine.base)
    assert base_digest != magazine.digest, "the base model ships: nothing is tried here"

    known = {"": old, base_digest: old, magazine.digest: new}
    with reading(tmp_path / "service", NAME, known) as answers:
        killed_deploy(magazine, 0.3, "--as", form)
        (record,) = [each for each in Records(server) if each.served == NAME]
        assert record.current and record.current.place == (NAME, "theirs")
        target = record.entries[-1].collection
        first = sorted(generate_uuid5(row["key"]) for row in magazine.rows)[0]
        written = updated(server, target, first)
        done = CliRunner().invoke(
            deploy_command,
            [str(magazine.run), "--weaviate", NAME, "--as", form],
            catch_exceptions=False,
        )
        assert done.exit_code == 0
        assert updated(server, target, first) == written, "what was written was written again"
        time.sleep(0.5)
        returned = CliRunner().invoke(
            rollback_command, ["--weaviate", NAME], catch_exceptions=False
        )
        assert returned.exit_code == 0

    # Nothing twice, nothing lost, and every property as it was.
    deployed = magazine.objects(target, "theirs", vector)
    assert len(deployed) == len(whole) == count
    for key, stored in deployed.items():
        assert stored.properties == whole[key].properties
        assert stored.vector["theirs"] == whole[key].vector["theirs"]
    keys = [row["key"] for row in magazine.rows]
    wanted = magazine.adapted.encode_passages([f"{r['title']} {r['text']}" for r in magazine.rows])
    held = np.array([deployed[key].vector[vector] for key in keys], np.float32)
    assert np.allclose(held, wanted, atol=1e-4)
    if form == "collection":
        layouts = [server.client.collections.use(name).config.get() for name in (NAME, target)]
        properties = [sorted(each.properties, key=lambda prop: prop.name) for each in layouts]
        assert properties[0] == properties[1]
        assert layouts[0].inverted_index_config == layouts[1].inverted_index_config
        assert set(layouts[1].vector_config) == {"theirs", vector}

    # Filters work on the new vectors.
    handle = server.client.collections.use(target)
    some = np.array([1990 <= row["year"] < 1995 for row in magazine.rows])
    for query in new[:5]:
        hits = handle.query.near_vector(
            query, target_vector=vector, limit=K, filters=Filter.by_property("year").less_than(1995)
        ).objects
        best = sorted(wanted[some] @ query)[::-1][:K]
        found = [wanted[keys.index(hit.properties["key"])] @ query for hit in hits]
        assert all(hit.properties["year"] < 1995 for hit in hits)
        assert found == pytest.approx(best, abs=1e-3)

    # The service: no failed and no half-filled answer, each of one place and of its model alone.
    errors = [answer["error"] for answer in answers if "error" in answer]
    assert not errors, errors[:3]
    assert all(len(answer["keys"]) == K for answer in answers)
    after = magazine.answers(target, vector, new)
    expected = {(NAME, "theirs"): before, (target, vector): after}
    rows = {key: row for row, key in enumerate(keys)}
    cosines = {(NAME, "theirs"): magazine.vectors @ old.T, (target, vector): wanted @ new.T}

    def same(place: Any, query: int, found: list[str]) -> bool:
        """Whether an answer is the expected one; passages of nearly equal scores may swap."""
        each = [
            cosines[place][[rows[key] for key in some], query]
            for some in (found, expected[place][query])
        ]
        return np.allclose(*each, rtol=0, atol=1e-5)

    wrong: Counter[tuple[str, str]] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    for answer in answers:
        place = tuple(answer["place"])
        seen[place] += 1
        wrong[place] += not same(place, answer["query"], answer["keys"])
    print(f"{form}: {dict(seen)} answers, other than expected: {dict(wrong)}")
    assert set(seen) == set(expected)
    assert not wrong[target, vector]
    if form == "collection":
        assert not wrong[NAME, "theirs"]
    else:  # an object that is written has no place in the graph for a moment
        assert wrong[NAME, "theirs"] <= 0.03 * seen[NAME, "theirs"]

    # Rolled back: the old answers, for the service and under the alias.
    place = tuple(answers[-1]["place"])
    assert place == (NAME, "theirs")
    returned_to = magazine.answers(NAME, "theirs", old)
    assert all(same(place, query, found) for query, found in enumerate(returned_to))
    if form == "collection":
        assert collection_behind(server, f"{NAME}_current") == NAME
        assert magazine.answers(f"{NAME}_current", "theirs", old) == before


def updated(server: Any, collection: str, key: str) -> Any:
    handle = server.client.collections.use(collection)
    stored = handle.query.fetch_object_by_id(key)
    return stored and stored.metadata.last_update_time


# ── smaller collections ──────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def small(
    weaviate_server: Any,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Iterator[Magazine]:
    """A collection of 300 articles and its run, made once; tests undo what they deploy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in weaviate_server.environment.items():
            patch.setenv(name, value)
        server = WeaviateServer.connect(**weaviate_server.keywords)
        clean(server, SMALL)
        folder = tmp_path_factory.mktemp("small")
        yield Magazine(server, folder, SMALL, 300, tiny_encoder_path, tiny_cross_encoder_path)
        clean(server, SMALL)
        server.close()


@pytest.fixture
def undeployed(
    small: Magazine, weaviate_server: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Magazine]:
    for name, value in weaviate_server.environment.items():
        monkeypatch.setenv(name, value)
    yield small
    clean(small.server, SMALL, besides=SMALL)


def other_model(magazine: Magazine, name: str, seed: int) -> Path:
    """The run again, under another name and with other weights."""
    run = magazine.run.with_name(name)
    if not run.exists():
        shutil.copytree(magazine.run, run)
        finished_run(magazine.recipe, seed, "--name", name)
    return run


def test_the_guide_s_code_searches_through_deployments_and_rollbacks(undeployed: Magazine) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    guide = (Path(__file__).parents[2] / "docs/guides/deploy.md").read_text()
    code = guide.partition("```python\n")[2].partition("```")[0]
    code = code.replace('"Articles"', repr(SMALL))
    space: dict[str, Any] = {"generate_uuid5": generate_uuid5}
    exec(code, space)
    magazine, texts = undeployed, undeployed.texts
    models = {
        weights_digest(folder): sentence_transformers.SentenceTransformer(str(folder), device="cpu")
        for folder in (magazine.base, magazine.model)
    }

    def found() -> list[list[str]]:
        hits = [space["search"](magazine.server.client, models, text) for text in texts[:8]]
        return [[hit.properties["key"] for hit in each] for each in hits]

    deployed = deploy(magazine.run, SMALL)
    expected = magazine.answers(
        deployed.collection,
        deployed.vector_name,
        magazine.adapted.encode_queries(texts[:8]),
    )
    assert found() == expected
    rollback(SMALL)
    base = BiEncoder.from_pretrained(magazine.base, precision="fp32", max_length=48)
    assert found() == magazine.answers(SMALL, "theirs", base.encode_queries(texts[:8]))


def test_a_model_that_is_not_the_recorded_one_is_refused(undeployed: Magazine) -> None:
    magazine = undeployed
    deployed = deploy(magazine.run, SMALL)
    names = (SMALL, f"{SMALL}_current", deployed.collection)
    for name in names[:2]:
        found = live_retriever(magazine.model, name).search(magazine.texts[:1], 3)
        assert found[0][0][0] == magazine.rows[0]["key"]
    for name in names:
        with pytest.raises(InputError, match=f"{name} answers for model .*magazine/model"):
            live_retriever(magazine.base, name, vector=deployed.vector_name)
    with pytest.raises(InputError, match="answers for model"):
        live_retriever(magazine.base, SMALL)
    live_retriever(magazine.base, SMALL, vector="theirs")  # its own vectors are still there
    rollback(run=magazine.run)
    with pytest.raises(InputError, match="answers for model"):
        live_retriever(magazine.model, SMALL)
    live_retriever(magazine.base, SMALL)


def test_changes_of_the_collection_since_the_run_and_during_a_deployment_are_seen(
    undeployed: Magazine,
) -> None:
    magazine, collection = undeployed, undeployed.server.client.collections.use(SMALL)
    first = deploy(magazine.run, SMALL)
    rollback(SMALL)
    new = {**magazine.rows[0], "key": "new", "title": "Honey", "text": "The honey of a beehive."}
    keys = [generate_uuid5(magazine.rows[i]["key"]) for i in (1, 2)]
    held = collection.query.fetch_object_by_id(keys[1], include_vector=["theirs"])
    added = collection.data.insert(new, uuid=generate_uuid5("new"), vector={"theirs": [1.0] * 32})
    collection.data.update(keys[0], properties={"text": "The kiln of a pottery."})
    collection.data.delete_by_id(keys[1])
    try:
        again = deploy(magazine.run, SMALL)  # the copy that the rollback left is brought up to date
        assert again.place == first.place
        copied = magazine.objects(again.collection, again.vector_name)
        source = magazine.objects(SMALL)
        assert {key: each.properties for key, each in copied.items()} == {
            key: each.properties for key, each in source.items()
        }
        texts = {"new": "Honey The honey of a beehive."}
        wanted = magazine.adapted.encode_passages([*texts.values()])
        assert np.allclose(copied["new"].vector[again.vector_name], wanted[0], atol=1e-4)
    finally:
        collection.data.delete_by_id(added)
        collection.data.insert(held.properties, uuid=keys[1], vector=held.vector)
        collection.data.update(keys[0], properties={"text": magazine.rows[1]["text"]})


def test_earlier_deployments_stay_as_long_as_they_are_kept(undeployed: Magazine) -> None:
    magazine, server = undeployed, undeployed.server
    runs = [magazine.run, *(other_model(magazine, f"other{i}", i) for i in (1, 2))]
    made = [deploy(run, SMALL, keep=1) for run in runs]
    there = [server.client.collections.exists(each.collection) for each in made]
    assert there == [False, True, True]
    assert server.client.collections.exists(SMALL)  # nobody's to delete
    assert collection_behind(server, f"{SMALL}_current") == made[2].collection
    assert rollback(SMALL).place == made[1].place
    with pytest.raises(InputError, match="nothing was deployed to .* before"):
        rollback(SMALL)
    as_vectors = [deploy(run, SMALL, form="vector") for run in runs[:1]]
    assert as_vectors[0].collection == made[1].collection


@pytest.mark.parametrize("kind", ["missing", "tenants", "empty", "strange", "taken", "unfinished"])
def test_what_cannot_be_deployed_is_refused_before_any_work(
    undeployed: Magazine, kind: str, tmp_path: Path
) -> None:
    magazine, client = undeployed, undeployed.server.client
    other, run, given = f"{SMALL}_other", magazine.run, {}
    message = {
        "missing": f"has no collection or alias '{other}'",
        "tenants": "has tenants",
        "empty": f"collection {other} is empty",
        "strange": "3 of 3 objects of .* are no passage of run magazine, such as 'x.' .it has 300",
        "taken": f"{SMALL} has a vector theirs already, of model",
        "unfinished": "run unfinished is not finished: .*evaluation is missing",
    }[kind]
    if kind in ("tenants", "empty", "strange"):
        made = client.collections.create(
            other,
            multi_tenancy_config=Configure.multi_tenancy(enabled=kind == "tenants"),
            vector_config=[Configure.Vectors.self_provided(name="theirs")],
        )
        for i in range(3) if kind == "strange" else ():
            made.data.insert({"passage_id": f"x{i}"}, vector={"theirs": [1.0, 2.0]})
        if kind == "tenants":
            made.tenants.create("one")
    if kind == "unfinished":
        run = magazine.run.with_name("unfinished")
        shutil.copytree(magazine.run, run)
        shutil.rmtree(run / "evaluation")
    if kind == "taken":
        given = {"form": "vector", "vector_name": "theirs"}
    name = SMALL if kind in ("taken", "unfinished") else other
    with pytest.raises(InputError, match=message) as refused:
        deploy(run, name, **given)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert not [record for record in Records(magazine.server) if record.served == name]


def test_a_key_is_asked_for(undeployed: Magazine, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ["WEAVIATE_API_KEY"]:
        pytest.skip("this server asks for none")
    monkeypatch.delenv("WEAVIATE_API_KEY")
    with pytest.raises(InputError, match="set WEAVIATE_API_KEY"):
        deploy(undeployed.run, SMALL)


def test_vectors_that_find_less_than_the_run_did_are_not_served(
    undeployed: Magazine, monkeypatch: pytest.MonkeyPatch
) -> None:
    magazine = undeployed
    queries = BiEncoder.encode_queries
    monkeypatch.setattr(
        BiEncoder, "encode_queries", lambda self, texts: queries(self, texts)[::-1].copy()
    )
    with pytest.raises(InputError, match=r"reaches mrr@10 .* and the run .*answers as before"):
        deploy(magazine.run, SMALL)
    (record,) = [each for each in Records(magazine.server) if each.served == SMALL]
    assert record.current and record.current.place == (SMALL, "theirs")


def test_an_unnamed_vector_gets_a_named_one_beside_it(undeployed: Magazine) -> None:
    magazine, client = undeployed, undeployed.server.client
    legacy, unnamed = f"{SMALL}_legacy", Configure.Vectorizer.none()
    index = Configure.VectorIndex.flat()  # a graph is another after its objects were written again
    made = client.collections.create(legacy, vectorizer_config=unnamed, vector_index_config=index)
    with made.batch.fixed_size(batch_size=100) as batch:
        for row, vector in zip(magazine.rows, magazine.vectors, strict=True):
            batch.add_object(row, uuid=generate_uuid5(row["key"]), vector=vector)
    assert not made.batch.failed_objects
    base = BiEncoder.from_pretrained(magazine.base, precision="fp32", max_length=48)
    queries = base.encode_queries(magazine.texts)

    def found() -> list[dict[str, float]]:
        nearest, distance = made.query.near_vector, MetadataQuery(distance=True)
        hits = [nearest(q, limit=K, return_metadata=distance).objects for q in queries]
        return [{hit.properties["key"]: hit.metadata.distance for hit in each} for each in hits]

    def same_answers(now: list[dict[str, float]]) -> None:
        """Equal but for passages that are as near as the last: an object written again moves."""
        for old, new in zip(before, now, strict=True):
            assert sorted(new.values()) == pytest.approx(sorted(old.values()), abs=1e-6)
            moved = {key: (old | new)[key] for key in old.keys() ^ new.keys()}
            assert all(far > max(old.values()) - 1e-6 for far in moved.values()), (moved, old)

    before = found()
    deployed = deploy(magazine.run, legacy, id="key")
    assert deployed.place == (legacy, f"tercet_{magazine.digest[:12]}")
    same_answers(found())
    nearest = live_retriever(magazine.model, legacy).search(magazine.texts[:1], 1)
    assert nearest[0][0][0] == magazine.rows[0]["key"]
    assert rollback(legacy).place == (legacy, "")
    same_answers(found())
    nearest = live_retriever(magazine.base, legacy, id="key").search(magazine.texts[:1], 1)
    assert nearest[0][0][0] == magazine.rows[0]["key"]


def test_a_query_encoder_is_deployed_to_vectors_that_stay(
    undeployed: Magazine, tiny_cross_encoder_path: Path, tmp_path: Path
) -> None:
    magazine = undeployed
    recipe = articles_recipe(
        tmp_path,
        SMALL,
        magazine.rows,
        name="asked",
        teacher=tiny_cross_encoder_path,
        model={"name": magazine.base, "train": "query_encoder", "passage_vectors": "index"},
        index={"backend": "weaviate", "collection": SMALL, "vector": "theirs"},
    )
    model = finished_run(recipe).model.path
    with pytest.raises(InputError, match="adapted queries alone"):
        deploy(tmp_path / "runs" / "asked", SMALL, form="vector")
    deployed = deploy(tmp_path / "runs" / "asked", SMALL)
    assert deployed.place == (SMALL, "theirs") and deployed.model == weights_digest(model)
    live_retriever(model, SMALL)
    with pytest.raises(InputError, match="answers for model"):
        live_retriever(magazine.base, SMALL)
    assert rollback(SMALL).model == weights_digest(magazine.base)
    live_retriever(magazine.base, SMALL)
