"""What runs a query-writing T5, and that what it wrote is not taken for another engine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet import modeling
from tercet.config.recipe import GeneratorSettings, QueriesSection, Recipe
from tercet.core.schema import InputError
from tercet.modeling.generators import ct2
from tercet.pipeline.components import Components

pytest.importorskip("ctranslate2")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))


def parts(model: Path, engine: str) -> Components:
    settings = GeneratorSettings(kind="seq2seq", model=str(model), engine=engine)
    return Components(Recipe(queries=QueriesSection(generators=[settings])))


@pytest.mark.parametrize(
    ("engine", "kind"),
    [("torch", modeling.Seq2SeqGenerator), ("ctranslate2", modeling.CT2Generator)],
)
def test_the_engine_runs_what_the_recipe_says(
    tiny_seq2seq_path: Path, engine: str, kind: type
) -> None:
    made = parts(tiny_seq2seq_path, engine)
    (settings,) = made.recipe.queries.generators
    assert isinstance(made.generator(settings, []), kind)


def test_the_engine_and_its_version_are_part_of_what_was_written_with(
    tiny_seq2seq_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(engine: str) -> str:
        return parts(tiny_seq2seq_path, engine).identity(str(tiny_seq2seq_path))

    plain, fast = identity("torch"), identity("ctranslate2")
    assert fast == f"{plain} {modeling.describe_engine()}"
    monkeypatch.setattr(ct2.ctranslate2, "__version__", "9.9")
    assert identity("ctranslate2") not in (plain, fast)
    monkeypatch.setattr(ct2, "ctranslate2", None)
    assert identity("auto") == plain


def test_a_language_without_a_doc2query_is_refused_with_those_that_have_one() -> None:
    model = "doc2query/msmarco-klingon-mt5-base-v1"
    generator = GeneratorSettings(kind="seq2seq", model=model)
    recipe = Recipe(queries=QueriesSection(generators=[generator]))
    with pytest.raises(InputError, match=f"there is no {model}: .* indonesian, italian, japanese"):
        Components(recipe).check()
