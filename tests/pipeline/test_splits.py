"""Which queries train, choose, guard and test, and what passages of one text are to them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topics import TOPICS

from tercet.config.loading import load_recipe
from tercet.core.schema import Query
from tercet.data.mixture import anchored
from tercet.data.targets import calibrate
from tercet.modeling.training.adapter_trial import adapter_trial
from tercet.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Path:
    """The tiny judgements over passages of rare words, of which much is asked; ten occur twice."""
    folder = tmp_path_factory.mktemp("splits")
    corpus = Path(shutil.copytree(tiny_beir_path, folder / "corpus"))
    words = [word for topic in TOPICS for word in topic]
    random = np.random.default_rng(0)
    texts = [" ".join(map("".join, random.choice(words, (8, 2)))) for _ in range(60)]
    rows = [{"_id": f"p{i:02}", "title": "", "text": text} for i, text in enumerate(texts)]
    rows += [row | {"_id": row["_id"] + "again"} for row in rows[:10]]
    (corpus / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
runs_dir: {folder}/runs
corpus: {{path: {corpus}}}
queries: {{count: 420, per_passage: 6}}
negatives: {{candidates: 4}}
teacher: {{name: {tiny_cross_encoder_path}, precision: fp32, max_length: 48}}
model: {{name: {tiny_encoder_path}, precision: fp32, max_length: 48}}
triplets: {{held_out: 0.5}}
"""
    )
    return path


@pytest.fixture(scope="module")
def pipeline(recipe: Path) -> Pipeline:
    return Pipeline(load_recipe(recipe))


def rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    return pipeline.triplets.dataset("lists").to_list()


def passages_by_split(pipeline: Pipeline) -> dict[str, int]:
    """How many passages each split's queries are about."""
    about = {(row["split"], row["passages"][0]) for row in rows(pipeline)}
    return dict(Counter(split for split, _ in about if split != "left_out"))


def test_of_what_is_held_out_two_thirds_choose_and_a_third_guards(pipeline: Pipeline) -> None:
    split = passages_by_split(pipeline)
    assert set(split) == {"train", "validation", "guard"}
    every = len({row["passages"][0] for row in rows(pipeline)})
    assert (split["validation"], split["guard"]) == (round(every / 3), round(every / 6))


def test_without_judgements_half_as_many_again_test(recipe: Path, pipeline: Pipeline) -> None:
    split = passages_by_split(
        Pipeline(load_recipe(recipe, ["--corpus.test_split=none", "--name=unjudged"]))
    )
    every = len({row["passages"][0] for row in rows(pipeline)})
    parts = {"validation": every / 3, "guard": every / 6, "test": every / 4}
    for name, part in parts.items():
        assert abs(split[name] - part) <= 1, name


def texts(pipeline: Pipeline) -> dict[str, str]:
    return dict(zip(pipeline.passages.ids, pipeline.passages.contents, strict=True))


def test_a_passage_of_the_sources_text_is_never_its_negative(pipeline: Pipeline) -> None:
    text = texts(pipeline)
    lists = [row["passages"] for row in rows(pipeline)]
    assert sum(source.endswith("again") for source, *_ in lists) > 0
    for source, *candidates in lists:
        assert text[source] not in [text[id] for id in candidates]


@pytest.mark.parametrize("split", ["validation", "guard"])
def test_every_passage_of_the_sources_text_is_what_its_query_should_find(
    pipeline: Pipeline, split: str
) -> None:
    text = texts(pipeline)
    queries, qrels, _ = pipeline.split(split)
    source = {r["query_id"]: r["passages"][0] for r in rows(pipeline) if r["split"] == split}
    assert [query.id for query in queries] == list(source) == list(qrels)
    for query, grades in qrels.items():
        assert grades == {id: 1 for id in text if text[id] == text[source[query]]}
    assert any(len(grades) == 2 for grades in qrels.values())


def test_lambda_is_tried_on_validation_queries_by_adapters_of_training_queries(
    pipeline: Pipeline,
) -> None:
    lists = pipeline.triplets.dataset("lists")
    named = np.array(lists["split"])
    train, held = (lists.select(np.flatnonzero(named == n)) for n in ("train", "validation"))
    queries = [Query(row["query_id"], row["query"]) for row in held]
    _, qrels, _ = pipeline.split("validation")
    given = pipeline.starting_model, pipeline.passages, pipeline.vectors
    trial = adapter_trial(*given, train, queries, qrels, seed=pipeline.recipe.seed)
    assert trial is not None
    scores = {
        part: [[np.array(x, np.float32) for x in of[name]] for name in ("teacher", "student")]
        for part, of in (("all", lists), ("train", train))
    }
    teacher, student = scores["train"]
    scaled = calibrate(*scores["all"]).scaled(teacher, "std_ratio")
    tried = {each["student"]: each["mean"] for each in pipeline.targets.facts["tried"]}
    for weight in (0.85, 0.0):
        found = float(np.mean(trial(anchored(scaled, student, weight))))
        assert tried[weight] == pytest.approx(found, abs=1e-6)
