"""eval.py's table over a real Weaviate: the live indexes against exact search, and none left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recipes import tiny_recipe

pytest.importorskip("weaviate")

from tercet.config.loading import load_recipe
from tercet.evaluation.experiment import Experiment
from tercet.evaluation.latency import time_systems
from tercet.evaluation.summary import results_of
from tercet.retrieval.weaviate.index import WeaviateIndex

pytestmark = pytest.mark.weaviate

KINDS = ("hnsw", "hnsw+rq", "flat", "hfresh")


def test_the_table_over_live_indexes_and_nothing_is_left_behind(
    weaviate_server: Any,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in weaviate_server.environment.items():
        monkeypatch.setenv(name, value)
    path = tiny_recipe(
        tmp_path,
        name="table",
        corpus=tiny_beir_path,
        model=tiny_encoder_path,
        evaluation={
            "resamples": 200,
            "latency_queries": 20,
            "systems": [
                {"kind": "base"},
                {"kind": "dense", "name": "long", "model": tiny_encoder_path},
            ],
            "indexes": [{"backend": "weaviate", "kind": kind} for kind in KINDS],
        },
    )
    recipe = load_recipe(path, ["--model.similarity", "cosine"])
    with Experiment(recipe) as experiment:
        experiment.check()
        for index in experiment.indexes:
            experiment.search(index)
        time_systems(experiment)
        results = results_of(experiment)

    for kind in KINDS:
        cell = results.cell("base", f"weaviate {kind}")
        assert cell and cell.overlap is not None and cell.overlap >= 0.95, kind
        assert cell.build and cell.build.seconds > 0 and cell.build.memory is not None
        assert cell.single and cell.single.queries == 20
        exact = results.cell("base", "exact")
        assert exact
        if cell.overlap == 1:
            assert cell.figures["ndcg@10"].mean == pytest.approx(exact.figures["ndcg@10"].mean)
    assert any("no IVF-PQ" in note for note in results.notes)
    with WeaviateIndex.connect(**weaviate_server.keywords) as index:
        names = index.server.client.collections.list_all()
        assert not [name for name in names if name.startswith("Tercet_table_")]


def test_vectors_that_an_index_cannot_hold_are_told_and_the_rest_goes_on(
    weaviate_server: Any,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in weaviate_server.environment.items():
        monkeypatch.setenv(name, value)
    path = tiny_recipe(
        tmp_path,
        name="refused",
        corpus=tiny_beir_path,
        model={"name": tiny_encoder_path, "similarity": "dot"},
        evaluation={
            "resamples": 200,
            "latency_queries": 0,
            "systems": [{"kind": "base"}, {"kind": "bm25"}],
            "indexes": [{"backend": "weaviate", "kind": kind} for kind in ("hfresh", "flat")],
        },
    )
    with Experiment(load_recipe(path)) as experiment:
        experiment.check()
        for index in experiment.indexes:
            experiment.search(index)
        results = results_of(experiment)
    refused = results.cell("base", "weaviate hfresh")
    assert refused and "cosine" in refused.refused and not refused.figures
    kept = results.cell("base", "weaviate flat")
    assert kept and kept.overlap == 1
