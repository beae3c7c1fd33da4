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
