"""A whole run whose every evaluation searches a real Weaviate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recipes import tiny_recipe

from tercet.retrieval.weaviate.alias import collection_behind

pytest.importorskip("weaviate")

from tercet.config.loading import load_recipe
from tercet.core.files import weights_digest
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.run_report import run_report
from tercet.retrieval.weaviate.deployments import Records, rollback
from tercet.retrieval.weaviate.index import WeaviateIndex

pytestmark = pytest.mark.weaviate


def test_epochs_measured_on_weaviate_equal_the_exact_index_and_the_best_is_published(
    weaviate_server: Any,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in weaviate_server.environment.items():
        monkeypatch.setenv(name, value)
    path = tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        queries={"count": 40},
        negatives={"candidates": 6},
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 2, "learning_rate": 1e-3},
        index={"alias": "Tercet_training_test"},
    )
    mined = [
        Pipeline(
            load_recipe(path, ["--name", "mined", "--negatives.index.backend", backend])
        ).negatives.dataset("candidates")["passages"][:]
        for backend in ("exact", "weaviate")
    ]
    assert mined[0] == mined[1]

    def run(backend: str) -> tuple[list[dict[str, float]], list[Any]]:
        pipeline = Pipeline(load_recipe(path, ["--name", backend, "--index.backend", backend]))
        pipeline.check()
        history = json.loads((pipeline.model.path / "history.json").read_text())
        assert "judged queries" in pipeline.evaluation.facts["test"]
        return history, run_report(pipeline).comparisons

    with WeaviateIndex.connect(**weaviate_server.keywords) as index:
        exact, live = run("exact"), run("weaviate")
        published = collection_behind(index.server, "Tercet_training_test")
        assert published
        names = index.server.client.collections.list_all()
        ours = [name for name in names if name.startswith("Tercet_weaviate_")]
        assert ours == [published]  # the other epochs' collections are gone
        index.server.client.alias.delete(alias_name="Tercet_training_test")
        run("weaviate")  # nothing to make, but what the server lost is published again
        again = collection_behind(index.server, "Tercet_training_test")
        assert again and again != published
        records = Records(index.server)
        record = records.find("Tercet_training_test")
        assert record and record.current and record.current.collection == again
        stamp = weights_digest(tmp_path / "runs" / "weaviate" / "model")
        assert record.current.model == stamp
        assert [entry.collection for entry in record.entries] == [published, again]
        index.settings = replace(index.settings, collection="Tercet_weaviate")
        index.settings = replace(index.settings, owner=_owner(index, again))
        assert index.drop_leftovers() == []  # what the alias served before stays
        assert published in index.server.client.collections.list_all()
        assert rollback(index.server, "Tercet_training_test")[0].current == record.entries[0]
        assert collection_behind(index.server, "Tercet_training_test") == published
        index.server.client.alias.delete(alias_name="Tercet_training_test")
        records.remove("Tercet_training_test")
        for name in (published, again):
            index.drop(name)

    # The server sums in float32: scores that differ in the last bit may change places, and one such
    # swap moves a figure of eight queries by a thousandth or two.
    for one, other in zip(exact[0], live[0], strict=True):
        assert one == pytest.approx(other, abs=5e-3)
    for one, other in zip(exact[1], live[1], strict=True):
        assert one.after == pytest.approx(other.after, abs=5e-3)


def _owner(index: WeaviateIndex, collection: str) -> str:
    """The run that a collection says it is of."""
    return index.server.client.collections.use(collection).config.get().description or ""
