"""What a name in a recipe resolves to, what is refused, and what a plug-in's identity is of."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tercet.config.loading import load_recipe
from tercet.config.recipe import GeneratorSettings, QueriesSection, Recipe
from tercet.core import plugins
from tercet.core.schema import InputError
from tercet.pipeline.components import Components
from tercet.pipeline.needs import key_value

Write = Callable[[str, str], None]

_GENERATOR = """
class Titles:
    name = "titles"

    def __init__(self, words=3):
        self.words = words

    def generate(self, passages, per_passage, seed):
        return [[passage.title] for passage in passages]


class Halfway:
    def __init__(self):
        self.name = "halfway"


def titles():
    return Titles()


def nothing():
    return object()


def huber(student, target, mask, *, delta=1.0):
    return 0


NUMBER = 3
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file below a folder of sys.path; modules that were imported from there are left."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(path: str, text: str = "") -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        for name in set(sys.modules) - before:
            del sys.modules[name]

    write("acme/__init__.py", "")
    write("acme/parts.py", _GENERATOR)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(group: str, name: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        plugins.make(group, name, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_name_makes_the_object_with_its_options(write: Write) -> None:
    assert plugins.make("generators", "acme.parts:Titles", {"words": 5}).words == 5
    assert plugins.make("generators", "acme.parts:titles", {}).name == "titles"
    loss = plugins.make("losses", "acme.parts:huber", {"delta": 2.0})
    assert loss.keywords == {"delta": 2.0}


@pytest.mark.parametrize(
    ("group", "name", "options", "words"),
    [
        ("losses", "huber", {}, "'huber' is no built-in loss and no plug-in"),
        ("losses", "acne.parts:huber", {}, "there is no module acne: install its package"),
        ("losses", "acme.part:huber", {}, "there is no module acme.part"),
        ("losses", "acme.parts:hubber", {}, "acme.parts has no hubber"),
        ("losses", "acme.parts:NUMBER", {}, "is no loss: it cannot be called"),
        ("losses", "acme.parts:Titles", {}, "a loss is a function of (student, target, mask)"),
        ("losses", "acme.parts:huber", {"delt": 1}, "unexpected keyword argument 'delt'"),
        ("generators", "acme.parts:Titles", {"word": 1}, "unexpected keyword argument 'word'"),
        ("generators", "acme.parts:Halfway", {}, "no generator: it has no generate"),
        ("generators", "acme.parts:nothing", {}, "no generator: it has no name, generate"),
        ("indexes", "acme.parts:Titles", {}, "no index: it has no build, search, size, discard"),
        ("metrics", "acme.broken:x", {}, "acme.broken cannot be imported (ZeroDivisionError"),
        ("metrics", "acme.lacking:x", {}, "cannot be imported (ModuleNotFoundError: No module"),
    ],
)
def test_what_is_no_plugin_is_refused_in_a_line(
    write: Write, group: str, name: str, options: dict[str, Any], words: str
) -> None:
    write("acme/broken.py", "1 / 0")
    write("acme/lacking.py", "import nowhere_to_be_found")
    assert re.search(re.escape(words), refusal(group, name, **options))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("acme.parts:Titles", True),
        ("acme:Titles", True),
        ("kl", False),
        ("cross-encoder/ms-marco-MiniLM-L6-v2", False),
        ("C:/models/teacher", False),
        ("http://example.org:80", False),
        ("acme.parts:", False),
        (3, False),
    ],
)
def test_a_plugin_is_known_by_its_form(name: object, is_one: bool) -> None:
    assert plugins.is_plugin("losses", name) == is_one


# ── identity ─────────────────────────────────────────────────────────────────────────────────────


def identity(name: str = "acme.parts:Titles") -> str:
    return plugins.identity("generators", name)


def test_the_identity_is_of_every_file_of_the_top_package(write: Write, tmp_path: Path) -> None:
    seen = [identity()]
    for path, text in (
        ("acme/parts.py", _GENERATOR + "# more\n"),
        ("acme/deep/helper.py", ""),
        ("acme/deep/helper.py", "x = 1"),
        ("acme/words.txt", "a list that it reads"),
    ):
        write(path, text)
        seen.append(identity())
    (tmp_path / "acme/words.txt").rename(tmp_path / "acme/renamed.txt")
    write("other/__init__.py", "")
    seen.append(identity())
    assert len(set(seen)) == len(seen)


def test_the_identity_is_not_of_anything_else(write: Write, tmp_path: Path) -> None:
    before = identity()
    write("acme/__pycache__/parts.cpython-311.pyc", "bytecode")
    write("acme/.hidden/notes", "")
    write("acme/.hidden.py", "")
    write("beside.py", "")
    os.utime(tmp_path / "acme/parts.py", (1, 1))
    assert identity() == before
    assert re.fullmatch("acme.parts:Titles of no distribution, sha256 [0-9a-f]{64}", before)


def test_a_plugin_that_is_defined_in_another_package_is_of_that_one_too(write: Write) -> None:
    write("front.py", "from acme.parts import Titles")
    before = identity("front:Titles")
    write("acme/helper.py", "")
    assert identity("front:Titles") != before


def test_code_that_is_in_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ModuleType("typed")
    exec(_GENERATOR, vars(typed))
    monkeypatch.setitem(sys.modules, "typed", typed)
    with pytest.raises(InputError, match="its code is in no file"):
        identity("typed:Titles")


# ── entry points ─────────────────────────────────────────────────────────────────────────────────


def install(write: Write, version: str, target: str = "acme.parts:Titles") -> None:
    """A distribution as pip leaves it: metadata beside the package."""
    folder = "acme_search-1.dist-info"
    write(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: acme-search\nVersion: {version}\n")
    write(f"{folder}/entry_points.txt", f"[tercet.generators]\ntitles = {target}\n")
    write(f"{folder}/top_level.txt", "acme\n")


def test_an_entry_points_name_is_a_plugin_of_its_group(write: Write) -> None:
    install(write, "1.2")
    assert plugins.is_plugin("generators", "titles")
    assert not plugins.is_plugin("losses", "titles")
    assert plugins.make("generators", "titles", {"words": 4}).words == 4


def test_the_identity_names_the_distribution_with_its_version(write: Write) -> None:
    install(write, "1.2")
    before = identity("titles")
    assert before.startswith("acme.parts:Titles of acme-search 1.2, sha256 ")
    assert identity() == before
    install(write, "1.3")
    assert identity("titles").startswith("acme.parts:Titles of acme-search 1.3, sha256 ")
    install(write, "1.2", target="acme.parts:titles [more]")
    assert identity("titles") == before.replace("Titles", "titles")


def test_a_recipe_takes_an_entry_points_name_and_offers_it_for_one_that_is_near(
    write: Write, tmp_path: Path
) -> None:
    install(write, "1.2")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("corpus: {path: x}\nqueries: {generators: [{kind: titles}]}")
    assert load_recipe(recipe).queries.generators[0].kind == "titles"
    recipe.write_text("corpus: {path: x}\nqueries: {generators: [{kind: title}]}")
    with pytest.raises(InputError, match="did you mean 'titles'"):
        load_recipe(recipe)


# ── recipes ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loss: {options: {delta: 1}}", "r.yaml:1: loss.options are a plug-in's"),
        (
            "loss: {kind: 'a:b', temperature: 1}",
            "loss.temperature has no effect beside plug-in a:b",
        ),
        ("teacher: {name: 'a:b', max_length: 20}", "teacher.max_length has no effect beside"),
        ("index: {backend: 'a:b', factory: Flat}", "index.factory has no effect beside plug-in"),
        ("corpus: {source: 'a:b', path: x}", "corpus.path is not read with source a:b"),
        ("corpus: {source: beir, options: {a: 1}}", "corpus.options is not read with source beir"),
        ("loss: {kind: 'a:b', options: {day: 2026-01-01}}", "loss.options has a value that JSON"),
        ("evaluation: {metrics: ['a:b']}", "evaluation.metrics: unknown metric 'a:b'"),
        ("evaluation: {metrics: [ndgc@10]}", "did you mean 'ndcg@10'"),
        ("training: {metric_for_best_model: 'a:b@10'}", "'a:b@10' is not measured"),
    ],
)
def test_a_recipe_with_what_a_plugin_does_not_get_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    corpus = [] if text.startswith("corpus") else ["--corpus.path", "x"]
    corpus = ["--corpus.path", "x"] if "beir" in text else corpus
    with pytest.raises(InputError, match=re.escape(words)):
        load_recipe(recipe, corpus)


def test_a_plugin_is_refused_before_any_work_with_the_key_that_names_it(
    write: Write, tmp_path: Path
) -> None:
    settings = GeneratorSettings(kind="acme.parts:Titles", options={"word": 1})
    recipe = Recipe(queries=QueriesSection(generators=[settings]))
    with pytest.raises(InputError, match="queries.generators.0.kind: plug-in acme.parts:Titles"):
        Components(recipe).check()


def test_a_recipe_without_plugins_has_the_plans_that_it_had_before() -> None:
    text = json.dumps([key_value(Recipe(), key) for key in ("loss", "queries", "negatives")])
    assert "options" not in text and "options" not in Recipe().index.settings()
