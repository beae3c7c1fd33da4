"""The page may name existing runs and recipes, and nothing that leads out of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tercet.core.schema import InputError
from tercet.studio.places import RECENT, Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    project, outside = tmp_path / "project", tmp_path / "outside"
    for run in ("plain", "other"):
        (project / "runs" / run / "corpus").mkdir(parents=True)
    (outside / "secret" / "corpus").mkdir(parents=True)
    (outside / "recipe.yaml").write_text("name: outside\n")
    (project / "recipes").mkdir()
    (project / "recipes" / "good.yaml").write_text("name: good\n")
    (project / "recipes" / "link.yaml").symlink_to(outside / "recipe.yaml")
    (project / "runs" / "link").symlink_to(outside / "secret")
    (project / "corpora").symlink_to(outside)
    return Places(project)


OUTSIDE = [
    *("../outside", "corpora/../../outside", "/etc/passwd", "~/.ssh", "~root/x", "\\\\host\\share"),
    *("C:\\Users", "corpora/secret", "file:///etc/passwd", "FILE:/etc/passwd", " file://x"),
    *("ftp://host/x", "gopher://x", "http://169.254.169.254/latest", "https://[fe80::1]/"),
    *("http://2852039166/", "http://0xA9FEA9FE/", "http://[::ffff:169.254.169.254]/", "a\0b"),
    "http://metadata.google.internal/",
]


@pytest.mark.fault("the studio from elsewhere")
@pytest.mark.parametrize("value", OUTSIDE)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [{"path": v}], lambda v: {"deep": {v: 1}}])
def test_values_that_lead_out_are_refused(places: Places, value: str, wrap: object) -> None:
    assert callable(wrap)
    with pytest.raises(InputError, match="corpus.path"):
        places.check_value(wrap(value), "corpus.path")


@pytest.mark.parametrize(
    "value",
    [
        *(
            "recipes",
            "corpora2/scifact",
            "sentence-transformers/all-MiniLM-L6-v2",
            "",
            "a: b",
            "3e-5",
        ),
        *("http://127.0.0.1:8080/v1", "https://api.example.org/v1", "{passage}\nQuery:", "...", 7),
        *(None, ["web", 0.5], "what is/was it?", "x" * 5000),
    ],
)
def test_other_values_pass(places: Places, value: object) -> None:
    places.check_value(value, "corpus.path")


@pytest.mark.fault("the studio from elsewhere")
def test_runs_and_recipes_outside_the_project_are_not_found(places: Places) -> None:
    assert sorted(places.recent()) == ["other", "plain"]
    assert places.recipes() == ["recipes/good.yaml"]
    for name in ("link", "../outside", "/etc", "", ".", "..", "missing", "x" * 300, "a\0b", None):
        assert places.find(name) is None
        with pytest.raises(InputError, match="no run"):
            places.run(name)
    assert places.find("plain") == places.runs / "plain"
    for value in (["plain"], 5, {"plain": 1}, True):  # a client may send anything
        assert places.find(value) is None
        with pytest.raises(InputError, match="no recipe"):
            places.recipe(value)  # type: ignore[arg-type]
    paths = ("recipes/link.yaml", "../outside/recipe.yaml", "recipes/../recipes/good.yaml", "/etc")
    for path in (*paths, "recipes/missing.yaml", f"recipes/{'x' * 300}.yaml", "", None):
        with pytest.raises(InputError, match="no recipe"):
            places.recipe(path)


def test_the_runs_that_changed_last_are_listed_and_others_are_found(places: Places) -> None:
    for number in range(RECENT + 5):
        run = places.runs / f"run-{number}"
        run.mkdir()
        (run / "recipe.yaml").write_text("name: x\n")
        os.utime(run, (2e9 + number, 2e9 + number))
    last = [f"run-{number}" for number in reversed(range(5, RECENT + 5))]
    assert places.recent() == last
    assert places.recipes() == ["recipes/good.yaml", *(f"runs/{n}/recipe.yaml" for n in last)]
    assert [folder.name for folder in places.run_folders()[:-2]] == [
        f"run-{number}" for number in reversed(range(RECENT + 5))
    ]
    assert places.run("run-0") == places.runs / "run-0"
    assert places.recipe(places.recipe_of_run("run-0")).exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "", ".hidden", "good", "link", "x" * 200])
def test_a_new_recipe_must_be_a_free_name_and_no_path(places: Places, name: str) -> None:
    with pytest.raises(InputError):
        places.new_recipe(name)
    assert places.new_recipe("mine.yaml") == places.root / "recipes" / "mine.yaml"
