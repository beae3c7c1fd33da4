"""The forecast of a run compared with the run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from programs import run_here
from recipes import tiny_recipe

from tercet.core.schema import Passage
from tercet.data.sources.beir import BeirFolder
from tercet.forecast.counts import expected_duplicates
from tercet.forecast.forecast import ROWS, TrainingSize, read_forecast
from tercet.forecast.generation import spread
from tercet.forecast.sampling import Lists
from tercet.forecast.source import read_source
from tercet.forecast.throughput import Found, paced, padded
from tercet.modeling.batching import plan_batches
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.reports.forecast_table import size_in_words


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    return tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        teacher={"name": tiny_cross_encoder_path, "student_weight": 0.5},
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 2, "learning_rate": 1e-3},
    )


def train(recipe: Path, *given: str) -> str:
    """What train.py prints."""
    done = run_here("train.py", recipe, *given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_forecast_makes_nothing_and_agrees_with_the_run(
    recipe: Path, tiny_beir_path: Path, tiny_encoder_path: Path
) -> None:
    run = recipe.parent / "runs" / "tiny"
    said = train(recipe, "--forecast")
    assert {path.name for path in run.iterdir()} <= {"forecast.json", ".lock"}
    assert "Chinchilla" in said
    forecast = read_forecast(run)
    assert forecast is not None
    assert list(forecast.left) == list(ROWS)
    assert all(stage.seconds > 0 for stage in forecast.stages.values() if stage.tokens)
    train(recipe)
    stages = json.loads((run / "metrics.json").read_text())["forecast"]["stages"]
    for name, stage in stages.items():
        rows = stage["rows"]
        assert rows["expected"] == pytest.approx(rows["fact"], rel=0.06, abs=1), name
        tokens = stage["tokens"]
        if tokens["fact"] is not None:
            # In so small a corpus the queries of a batch share most of their passages.
            within = 0.2 if name == "model" else 0.06
            assert tokens["expected"] == pytest.approx(tokens["fact"], rel=within), name
        assert stage["seconds"]["fact"] is not None
        assert stage["disk"]["fact"] > 0
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, max_length=48)
    texts = [passage.contents for _, passage in BeirFolder(str(tiny_beir_path)).passages()]
    tokens = sum(map(len, encoder.tokenize(texts, "passage")))
    assert forecast.stages["embeddings"].tokens == tokens
    assert "## Forecast and actual use" in (run / "report.md").read_text()
    # What is done costs nothing more, and what was expected of it is still told.
    manifests = {path: path.read_bytes() for path in run.glob("*/manifest.json")}
    said = train(recipe, "--forecast")
    assert "nothing is left to do" in said
    again = read_forecast(run)
    assert again is not None
    assert not again.left
    assert again.stages["scores"].rows == forecast.stages["scores"].rows
    assert manifests == {path: path.read_bytes() for path in run.glob("*/manifest.json")}
    # Other settings: what does not depend on them stays done, and the report compares nothing.
    train(recipe, "--forecast", "--teacher.max_length", "32")
    other = read_forecast(run)
    assert other is not None
    assert list(other.left) == ["scores", "triplets", "targets", "model", "evaluation"]
    train(recipe)
    assert "is of other settings" in (run / "report.md").read_text()


@pytest.mark.parametrize("section", ["model", "teacher"])
def test_a_forecast_refuses_what_the_run_would(recipe: Path, section: str) -> None:
    refused = run_here("train.py", recipe, "--forecast", f"--{section}.name", recipe.parent)
    assert refused.returncode == 2
    assert str(recipe.parent) in refused.stderr
    assert not (recipe.parent / "runs").exists()


@pytest.mark.slow
def test_a_causal_model_is_tried_before_it_writes(recipe: Path, tiny_causal_path: Path) -> None:
    generators = f"[{{kind: causal, model: {tiny_causal_path}, max_new_tokens: 6}}]"
    train(recipe, "--forecast", "--queries.generators", generators)
    forecast = read_forecast(recipe.parent / "runs" / "tiny")
    assert forecast is not None
    parts = forecast.stages["queries"].parts
    assert 0 < parts["tokens_written"] < parts["tokens_read"]
    assert forecast.stages["queries"].tokens == sum(parts.values())


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 64, 1000])
def test_a_spread_beginning_with_the_middle_has_everything_once(length: int) -> None:
    found = spread(list(range(length)))
    assert sorted(found) == list(range(length))
    if length > 8:
        assert found[0] == length // 2
        assert np.mean(found[:3]) == pytest.approx(length / 2, rel=0.1)


def test_padding_is_that_of_the_batches() -> None:
    lengths = np.array([3, 9, 4, 4, 8, 2])
    batches = plan_batches(lengths, 20)
    assert padded(lengths, 20) == sum(len(b) * lengths[b].max() for b in batches)


def test_what_is_timed_is_not_what_warms_up() -> None:
    seen: list[list[int]] = []

    def work(items: list[int]) -> int:
        seen.append(items)
        return len(items)

    made, slices, _ = paced(work, range(1_000), budget=60)
    assert sum(made) == 1_000
    assert [i for part in slices for i in range(1_000)[part]] == [i for s in seen[1:] for i in s]


def test_texts_that_several_queries_have_are_told_from_a_sample() -> None:
    random.seed(0)
    texts = [str(random.randrange(20_000)) for _ in range(2_000)]
    distinct = len(set(texts))
    sample = texts[:1_000]
    expected = len(texts) * float(np.mean(1 / (1 + expected_duplicates(sample, len(texts)))))
    assert expected == pytest.approx(distinct, rel=0.03)
    assert len(texts) * np.mean(1 / (1 + expected_duplicates(texts, len(texts)))) == pytest.approx(
        distinct
    )


def test_passages_that_queries_of_a_batch_share_count_once() -> None:
    """Against batches drawn from whole lists, of which some passages are many queries'."""
    random = np.random.default_rng(0)
    popular = 1 / np.arange(1, 2_001)
    lists = [
        random.choice(2_000, 10, replace=False, p=popular / popular.sum()).tolist()
        for _ in range(600)
    ]
    drawn = [
        len({p for q in random.choice(600, 16, False) for p in random.choice(lists[q], 5, False)})
        for _ in range(300)
    ]
    own = [Passage(f"own{i}", "", "") for i in range(200)]
    rankings = [[Passage(str(p), "", "") for p in lists[i]] for i in range(200)]
    queries = [(str(i), passage) for i, passage in enumerate(own)]
    sampled = Lists(queries, [Found(1, 1.0, 10, rankings, 0.0, 0.0)], candidates=10)
    assert sampled.passages_a_batch(16, 5, seed=1) - 16 == pytest.approx(np.mean(drawn), rel=0.05)


def test_a_source_that_is_long_is_read_in_part(tmp_path: Path) -> None:
    lines = [json.dumps({"_id": str(i), "title": "", "text": f"text {i}"}) for i in range(20_000)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    whole = read_source(BeirFolder(str(tmp_path)), "test", seed=1, budget=60)
    part = read_source(BeirFolder(str(tmp_path)), "test", seed=1, budget=0)
    assert whole.passages == len(whole.sample) == 20_000
    assert not whole.note
    assert len(part.sample) == 1_000
    assert part.passages == pytest.approx(20_000, rel=0.1)
    assert "assumes that the rest is alike" in part.note


def test_the_size_of_training_is_told_beside_the_field() -> None:
    size_of_gpl = TrainingSize(66_000_000, 66_000_000, 582_400_000, 250_000, 140_000, 130.0)
    words = " ".join(size_in_words(size_of_gpl))
    assert "8.8 a parameter" in words
    assert "4.48 million triplets" in words
    assert "more than GPL's" in words or "comparable to GPL's setup" in words
