"""`${NAME}` in recipes: the value is used, and what is written has the name."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest

from tercet.config.loading import load_recipe, save_recipe
from tercet.config.parsing import flatten
from tercet.core.artifacts import Stage
from tercet.core.environment import FromEnvironment, recorded, written
from tercet.core.files import write_json
from tercet.core.schema import InputError

SECRET = "canary-7Qx"
TEXT = """
name: ${RUN}
seed: ${SEED}
corpus: {path: "${PLACE}/corpus"}
model: {query_prompt: "$${KEPT}: "}
chat: {model: "of-${TOKEN}"}
training: {learning_rate: "${RATE}", hub_model_id: "${RUN}/x"}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    given = {"RUN": "1.10", "SEED": "7", "PLACE": "/data", "TOKEN": SECRET, "RATE": "3e-5"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "r.yaml").write_text(TEXT)
    return tmp_path / "r.yaml"


def test_values_are_those_of_the_environment_and_of_their_types(path: Path) -> None:
    recipe = load_recipe(path, ["--index.alias", "A_${SEED}"])
    assert (recipe.name, recipe.seed, recipe.corpus.path) == ("1.10", 7, "/data/corpus")
    assert recipe.model.query_prompt == "${KEPT}: "
    assert recipe.training["learning_rate"] == 3e-5 and recipe.training["hub_model_id"] == "1.10/x"
    assert recipe.chat.model == f"of-{SECRET}"
    assert recipe.index.alias == "A_7"


def test_what_is_written_has_the_names(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    save_recipe(recipe, tmp_path / "s.yaml")
    text = (tmp_path / "s.yaml").read_text()
    assert SECRET not in text and "${TOKEN}" in text and "${PLACE}/corpus" in text
    assert load_recipe(tmp_path / "s.yaml") == recipe
    write_json(tmp_path / "s.json", asdict(recipe))
    assert SECRET not in (tmp_path / "s.json").read_text()
    assert SECRET not in json.dumps(flatten(asdict(recipe)))


def test_a_plan_changes_with_the_value_that_it_does_not_hold(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    for place in ("/data", "/data", "/other"):
        monkeypatch.setenv("PLACE", place)
        settings = {"path": load_recipe(path).corpus.path}
        plans.append(Stage(tmp_path / "corpus", settings, {}).plan)
    assert plans[0] == plans[1] != plans[2]
    assert plans[0]["settings"]["path"].startswith("${PLACE}/corpus ")
    assert "/data" not in json.dumps(plans)


def test_a_variable_that_is_not_set_is_named_with_its_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "")
    with pytest.raises(InputError) as refused:
        load_recipe(path)
    place, _, rest = str(refused.value).partition("r.yaml:")
    assert rest == "6: chat.model needs the environment variable TOKEN, which is not set"
    with pytest.raises(InputError, match="^--queries.generators.0.model: .*0.model needs .* NONE,"):
        monkeypatch.setenv("TOKEN", SECRET)
        load_recipe(path, ["--queries.generators.0.model=${NONE}"])


def test_copies_keep_how_a_text_is_written() -> None:
    text = FromEnvironment("value", "${NAME}")
    for copied in (copy.deepcopy(text), copy.copy(text), pickle.loads(pickle.dumps(text))):
        assert copied == "value" and written([copied]) == ["${NAME}"]
    assert recorded({"a": text}) != recorded({"a": FromEnvironment("other", "${NAME}")})


@pytest.mark.fault("malformed input")
def test_a_home_before_a_path_is_expanded_once_and_written_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("MINE", "~/data")
    (tmp_path / "r.yaml").write_text(
        "corpus: {path: ~/corpus}\nmodel: {name: ~/models/x, query_prompt: ~/not a path}\n"
        "queries: {generators: [{kind: causal, model: ~/m}]}\nname: a~/b\n"
    )
    recipe = load_recipe(
        tmp_path / "r.yaml", ["--teacher.name=~/t", "--runs_dir=${MINE}"], cross_check=False
    )
    assert (recipe.corpus.path, recipe.model.name) == ("/home/me/corpus", "/home/me/models/x")
    assert recipe.queries.generators[0].model == "/home/me/m"
    assert (recipe.teacher.name, recipe.runs_dir) == ("/home/me/t", "/home/me/data")
    assert (recipe.model.query_prompt, recipe.name) == ("~/not a path", "a~/b")
    save_recipe(recipe, tmp_path / "s.yaml")
    text = (tmp_path / "s.yaml").read_text()
    assert "/home/me" not in text and "~/models/x" in text and "${MINE}" in text
    assert load_recipe(tmp_path / "s.yaml", cross_check=False) == recipe


@pytest.mark.fault("malformed input")
def test_a_small_number_in_a_mapping_is_a_number_and_in_quotes_text(tmp_path: Path) -> None:
    text = """
corpus: {source: "a.b:C", options: {rate: 1e-6, list: [2E5, .5e1, 5.e-1], text: "1e-6", id: e5}}
queries: {generators: [{kind: endpoint, model: 1e5, request: {rate: -1e-6}}]}
training: {lr_scheduler_kwargs: {min_lr: 1e-6}}
"""
    (tmp_path / "r.yaml").write_text(text)
    given = "--index.options={x: 1e-6}"
    recipe = load_recipe(tmp_path / "r.yaml", [given], cross_check=False)
    assert recipe.corpus.options == {
        "rate": 1e-6,
        "list": [2e5, 5, 0.5],
        "text": "1e-6",
        "id": "e5",
    }
    (writer,) = recipe.queries.generators
    assert writer.model == "1e5" and writer.request == {"rate": -1e-6}
    assert recipe.training["lr_scheduler_kwargs"] == {"min_lr": 1e-6}
    assert recipe.index.options == {"x": 1e-6}
    save_recipe(recipe, tmp_path / "s.yaml")
    assert load_recipe(tmp_path / "s.yaml", cross_check=False) == recipe
