"""Several query prompts: synthetic queries choose one of them, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from programs import made, manifests, run_here
from recipes import tiny_recipe

from tercet.config.loading import load_recipe
from tercet.core.files import read_json
from tercet.core.schema import InputError
from tercet.modeling import BiEncoder
from tercet.pipeline.finished import finished
from tercet.pipeline.pipeline import Pipeline

#: One that drowns a short query, and one of a few tokens.
DROWNS, SHORT = "winter care tools visitors " * 12, "the "


def test_the_prompt_that_finds_most_is_trained_searched_and_saved(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> None:
    path = tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        queries={"count": 60},
        teacher=tiny_cross_encoder_path,
        model={"name": tiny_encoder_path, "query_prompt": [DROWNS, SHORT]},
        training={"num_train_epochs": 1},
    )
    first = run_here("train.py", path)
    steps = made(first.stdout)
    assert first.returncode == 0 and steps.index("queries") < steps.index("student"), first.stderr
    facts = manifests(tmp_path / "runs" / "tiny")["student"]["facts"]
    tried = {row["prompt"]: row for row in facts["query_prompts"]}
    assert list(tried) == ["", DROWNS, SHORT]
    (chosen,) = [prompt for prompt, row in tried.items() if row["chosen"]]
    assert chosen == max(tried, key=lambda prompt: tried[prompt]["mrr@10"]) != DROWNS
    assert tried[DROWNS]["low"] <= tried[DROWNS]["difference"] <= tried[DROWNS]["high"]
    assert f"{SHORT!r}: mrr@10" in first.stdout

    # As if it had been given: each value is that of a model with this prompt.
    pipeline = finished(load_recipe(path))
    given = BiEncoder.from_pretrained(
        tiny_encoder_path, query_prompt=chosen, precision="fp32", max_length=48
    )
    texts = [query.text for query in pipeline.split("test")[0]]
    vectors = given.encode_queries(texts)
    assert np.array_equal(pipeline.starting_model.encode_queries(texts), vectors)
    saved = read_json(pipeline.model.path / "config_sentence_transformers.json")
    assert saved["prompts"]["query"] == chosen
    adapted = pipeline.adapted_model()
    assert isinstance(adapted, BiEncoder) and adapted.config.query_prompt == chosen

    assert made(run_here("train.py", path).stdout) == []
    again = run_here("train.py", path, "--seed=3", "--until=student")
    assert made(again.stdout) == ["queries", "student"], again.stdout


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"query_prompt": []}, "has no prompt"),
        (
            {"query_prompt": ["a"], "train": "query_encoder", "passage_vectors": "corpus"},
            "a list as model.query_prompt belongs to a local model",
        ),
    ],
)
def test_a_list_that_cannot_be_chosen_from_is_refused(
    tmp_path: Path, tiny_beir_path: Path, model: dict[str, object], reason: str
) -> None:
    path = tiny_recipe(
        tmp_path, corpus=tiny_beir_path, teacher="teacher", model={"name": "base"} | model
    )
    with pytest.raises(InputError, match=reason):
        Pipeline(load_recipe(path))
