"""Whole runs with models behind an API on loopback: killed, resumed, and none alike."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from api_server import Service, serve_apis
from cohere_server import Trouble
from programs import hashes, killed_at, made, run_here
from recipes import changed, tiny_recipe
from sentence_transformers import SentenceTransformer

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError, Passage
from tercet.forecast.forecast import read_forecast
from tercet.modeling import AdaptedEncoder, BiEncoder, load_query_encoder
from tercet.pipeline.pipeline import Pipeline

KEY = "sk-canary-77e1f0c5"
PRICES = {"dollars_per_million_read": 2.0, "dollars_per_million_written": 8.0}


@pytest.fixture
def service(tiny_encoder_path: Path) -> Iterator[Service]:
    model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
    with serve_apis(KEY) as service:
        service.embed = lambda texts, width: model.encode(texts).astype(float).tolist()
        yield service


@pytest.fixture
def recipe(tmp_path: Path, service: Service, tiny_beir_path: Path, tiny_encoder_path: Path) -> Path:
    writer = {"kind": "endpoint", "endpoint": f"{service.address}/v1", "model": "writer"}
    return tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        queries={
            "count": 60,
            "per_passage": 2,
            "shard_passages": 8,
            "generators": [
                writer | {"style": "question", "judge": "judge", "dollars": 1.0, **PRICES},
                writer | {"style": "keywords", "concurrency": 3},
            ],
        },
        teacher={"name": "ranker", "student_weight": 0.5},
        model=tiny_encoder_path,
        training={"num_train_epochs": 1},
        evaluation={"interpolation_steps": 1},
    )


@pytest.fixture
def given(recipe: Path, service: Service, tmp_path: Path) -> dict[str, str]:
    """The environment; the recipe's teacher is no local model, whose keys it has."""
    teacher = {"name": "ranker", "api": "vllm", "endpoint": service.address, "shard_pairs": 128}
    changed(recipe, teacher=teacher)
    return {"TERCET_CACHE": str(tmp_path / "cache"), "OPENAI_API_KEY": KEY}


def load_text(recipe: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(recipe.read_text()))


def facts(run: Path, stage: str) -> dict[str, Any]:
    return dict(json.loads((run / stage / "manifest.json").read_text())["facts"])


def no_file_has_the_key(folder: Path) -> None:
    for file in folder.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_killed_run_pays_for_nothing_twice_and_ends_with_the_same_bytes(
    recipe: Path, given: dict[str, str], service: Service, tmp_path: Path
) -> None:
    with patch.dict(os.environ, given):
        _ = Pipeline(load_recipe(recipe, ["--name=whole"])).evaluation
    whole = tmp_path / "runs" / "whole"
    told = facts(whole, "queries")
    assert told["tokens_read"] and told["tokens_written"] and told["dropped_unanswerable"] == 0
    assert not +service.again
    billed = service.billed.copy()
    # Another cache, troubles, and kills amid the writing and the scoring.
    given["TERCET_CACHE"] = str(tmp_path / "second")
    service.answered.clear(), service.again.clear()
    service.delay = 0.01
    chance = random.Random(0)
    kinds = [Trouble()] * 3 + [Trouble(status=500), Trouble(cut=True, delay=0.01)]
    kinds += [Trouble(status=429, headers={"Retry-After": "0.05"})]
    service.troubles = chance.choices(kinds, k=12)
    run = tmp_path / "runs" / "tiny"
    moments = [f"queries.partial/generated-{i:05}*" for i in (0, 2)]
    moments += [f"scores.partial/pairs-{i:05}*" for i in (0, 2)]
    killed_at(moments, run, tmp_path / "log", "train.py", recipe, **given)
    assert (tmp_path / "log").read_text().count("killed at") >= 2
    found = run_here("train.py", recipe, **given)
    assert found.returncode == 0, found.stdout + found.stderr
    assert {k: v for k, v in hashes(run).items() if k not in ("model", "evaluation")} == {
        k: v for k, v in hashes(whole).items() if k not in ("model", "evaluation")
    }
    assert facts(run, "queries") == told
    # Calls that were on their way at a kill, eight and four at most.
    assert sum(service.again.values()) <= 2 * 8 + 2 * 4 * 9
    assert billed["read"] > 0
    no_file_has_the_key(tmp_path)
    assert KEY not in (tmp_path / "log").read_text() + found.stdout + found.stderr
    # What it costs and how fast it is asked makes nothing again; another model does.
    writers = load_text(recipe)["queries"]["generators"]
    changed(
        recipe,
        queries=load_text(recipe)["queries"]
        | {"generators": [writers[0] | {"dollars": 2.0}, writers[1] | {"concurrency": 5}]},
    )
    calls = len(service.calls)
    again = run_here("train.py", recipe, **given)
    assert again.returncode == 0 and made(again.stdout) == []
    # It asks whether the service is there for nothing that is made.
    assert len(service.calls) == calls


@pytest.mark.slow
def test_a_budget_ends_a_run_in_a_line_and_a_larger_one_goes_on(
    recipe: Path, given: dict[str, str], service: Service, tmp_path: Path
) -> None:
    held = load_text(recipe)["queries"]
    held["generators"] = [held["generators"][1] | {"tokens": 9_000}]
    changed(recipe, queries=held)
    stopped = run_here("train.py", recipe, "--until=queries", **given)
    assert stopped.returncode == 2
    assert "the budget of 9,000 tokens could be passed" in stopped.stderr
    assert 0 < sum(service.billed.values()) <= 9_000
    more = run_here(
        "train.py", recipe, "--until=queries", "--queries.generators.0.tokens=900000", **given
    )
    assert more.returncode == 0, more.stderr
    assert not +service.again
    assert facts(tmp_path / "runs" / "tiny", "queries")["queries"] > 50


def test_what_is_lacking_is_told_before_any_work(
    recipe: Path, given: dict[str, str], service: Service
) -> None:
    with patch.dict(os.environ, given | {"OPENAI_API_KEY": "stale"}):
        with pytest.raises(InputError, match="queries.generators.0: 127.0.0.1 refuses the key in"):
            Pipeline(load_recipe(recipe, [])).check()
    with patch.dict(os.environ, given):
        Pipeline(load_recipe(recipe, [])).check()
        away = "--queries.generators.1.endpoint=http://127.0.0.1:9/v1"
        with pytest.raises(InputError, match="generators.1: 127.0.0.1 does not answer"):
            Pipeline(load_recipe(recipe, [away])).check()
        away = "--teacher.endpoint=http://127.0.0.1:9"
        with pytest.raises(InputError, match="127.0.0.1 does not answer"):
            Pipeline(load_recipe(recipe, [away])).check()
    assert service.calls == []


@pytest.mark.slow
def test_the_forecast_has_the_price_and_the_time(
    recipe: Path, given: dict[str, str], service: Service, tmp_path: Path
) -> None:
    service.delay = 0.02
    held = load_text(recipe)["queries"]
    held |= {"count": 110, "generators": [held["generators"][0] | {"concurrency": 2}]}
    teacher = load_text(recipe)["teacher"] | {"dollars_per_1000_searches": 2.0}
    changed(recipe, queries=held, teacher=teacher)
    found = run_here("train.py", recipe, "--forecast", **given)
    assert found.returncode == 0, found.stdout + found.stderr
    with patch.dict(os.environ, given):
        forecast = read_forecast(tmp_path / "runs" / "tiny")
    assert forecast is not None
    first = run_here("train.py", recipe, "--until=scores", **given)
    assert first.returncode == 0, first.stderr
    assert not +service.again, "what the forecast bought is the run's"
    told = facts(tmp_path / "runs" / "tiny", "queries")
    dollars = (2 * told["tokens_read"] + 8 * told["tokens_written"]) / 1e6
    assert forecast.stages["queries"].dollars == pytest.approx(dollars, rel=0.25)
    # 55 passages, two requests each, two at a time.
    assert 0.6 < forecast.stages["queries"].seconds / (55 * 2 / 2 * 0.02) < 3
    queries = facts(tmp_path / "runs" / "tiny", "scores")["queries"]
    assert forecast.stages["scores"].dollars == pytest.approx(2e-3 * queries, rel=0.25)


def openai_vectors(
    path: Path, service: Service, beir: Path, encoder: Path, prompt: str = ""
) -> list[str]:
    """A Parquet of the passages' vectors, as whoever paid for them would have them."""
    passages = [json.loads(line) for line in (beir / "corpus.jsonl").open()]
    texts = [Passage(p["_id"], p.get("title", ""), p["text"]).contents for p in passages]
    rows = SentenceTransformer(str(encoder), device="cpu").encode([prompt + t for t in texts])
    column = pa.array(rows.astype(np.float32).tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [p["_id"] for p in passages], "vector": column}), path)
    return texts


@pytest.mark.slow
def test_an_adapter_over_an_index_of_openai_vectors(
    recipe: Path,
    given: dict[str, str],
    service: Service,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> None:
    path = tmp_path / "vectors.parquet"
    openai_vectors(path, service, tiny_beir_path, tiny_encoder_path)
    own = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32").similarity
    model = {
        "name": "embedder",
        "api": "openai",
        "endpoint": f"{service.address}/v1",
        "train": "query_adapter",
        "passage_vectors": path,
        "similarity": own,
    }
    system = {"kind": "api", "api": "openai", "name": "by the API", "model": "embedder"}
    system |= {"endpoint": f"{service.address}/v1"}
    reranked = {"kind": "rerank", "name": "reranked", "of": ["bm25"], "api": "vllm"}
    reranked |= {"teacher": "ranker", "endpoint": service.address}
    changed(
        recipe,
        model=model,
        queries={"count": 60, "per_passage": 1, "generators": [{"kind": "spans"}]},
        teacher={"name": tiny_cross_encoder_path, "precision": "fp32", "max_length": 48},
        evaluation={
            "interpolation_steps": 1,
            "systems": [{"kind": "bm25"}, {"kind": "base"}, system, reranked],
        },
    )
    without = run_here("train.py", recipe, TERCET_CACHE=given["TERCET_CACHE"], OPENAI_API_KEY="")
    assert without.returncode == 2 and "set OPENAI_API_KEY" in without.stderr
    found = run_here("train.py", recipe, **given)
    assert found.returncode == 0, found.stdout + found.stderr
    compared = run_here("eval.py", recipe, "--evaluation.latency_queries=20", **given)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert not +service.again
    metrics = json.loads((tmp_path / "runs/tiny/results/metrics.json").read_text())
    assert {"by the API", "reranked"} <= {each["name"] for each in metrics["systems"]}
    # What was paid for trains another time without a key or a call.
    calls = len(service.calls)
    shutil.rmtree(tmp_path / "runs" / "tiny" / "model")
    cached = {"TERCET_CACHE": given["TERCET_CACHE"], "OPENAI_API_KEY": ""}
    again = run_here("train.py", recipe, **cached)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(service.calls) == calls
    with patch.dict(os.environ, given):
        shipped = load_query_encoder(tmp_path / "runs" / "tiny" / "model")
        assert isinstance(shipped, AdaptedEncoder) and shipped.name == "embedder"
        assert shipped.encode_queries(["a new question"]).shape == (1, shipped.dimension)
    no_file_has_the_key(tmp_path)


@pytest.mark.slow
def test_vectors_of_another_model_are_refused(
    recipe: Path,
    given: dict[str, str],
    service: Service,
    tmp_path: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> None:
    path = tmp_path / "vectors.parquet"
    openai_vectors(path, service, tiny_beir_path, tiny_encoder_path)
    service.embed = lambda texts, width: [[1.0, *[0.0] * (width - 1)] for _ in texts]
    model = {"name": "embedder", "api": "openai", "endpoint": f"{service.address}/v1"}
    model |= {"train": "query_adapter", "passage_vectors": str(path)}
    teacher = {"name": tiny_cross_encoder_path, "precision": "fp32", "max_length": 48}
    changed(recipe, model=model, teacher=teacher)
    found = run_here("train.py", recipe, "--until=student", **given)
    assert found.returncode == 2
    assert "embedder did not make the vectors of vectors.parquet" in found.stderr


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--queries.generators=[{kind: endpoint, model: m}]"], "needs an `endpoint`, such as"),
        (
            ["--queries.generators=[{kind: endpoint, endpoint: 'http://a'}]"],
            "is endpoint, which needs a `model`",
        ),
        (
            ["--queries.generators=[{kind: endpoint, endpoint: 'http://a', model: m, dollars: 1}]"],
            "has a budget in dollars: give dollars_per_million_read",
        ),
        (["--queries.generators=[{kind: spans, judge: m}]"], "`judge` belongs to kind endpoint"),
        (["--teacher.api=tei", "--teacher.endpoint=null"], "give teacher.endpoint"),
        (["--teacher.api=null"], "teacher.endpoint belongs to teacher.api"),
        (["--teacher.max_length=64"], "teacher.max_length belongs to a local model"),
        (["--model.endpoint=http://a"], "model.endpoint belongs to model.api: openai"),
        (
            ["--evaluation.systems=[{kind: api, api: tei, model: m}]"],
            "`api` tei does not embed",
        ),
        (
            ["--evaluation.systems=[{kind: bm25}, {kind: rerank, of: [bm25], api: cohere}]"],
            "reranks by an API: give its model as `teacher`",
        ),
        (
            ["--evaluation.systems=[{kind: base, endpoint: 'http://a'}]"],
            "`endpoint` is for an `api`, not cohere",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    recipe: Path, given: dict[str, str], options: list[str], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        load_recipe(recipe, options)
