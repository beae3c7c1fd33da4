"""Generators whose cache a prefix cannot be kept in, and prompts that a model has no room for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tercet.config.recipe import GeneratorSettings, Recipe
from tercet.core.schema import InputError
from tercet.data import Passages
from tercet.modeling import Seq2SeqGenerator
from tercet.modeling.generators.prefix import check_reading
from tercet.modeling.generators.prompts import DEFAULT_STYLE
from tercet.pipeline.components import Components

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def writers() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("shape_writers")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("Llama", "a prefix read once"),
        ("GPT-2, 512 positions", "a prefix read once"),
        ("Gemma 3, a window of 512 tokens", "a prefix read once"),
        ("Gemma 3, a window of 16 tokens", "whole prompts"),
        ("Qwen 3.5: linear attention", "whole prompts"),
        ("LFM 2: convolutions", "whole prompts"),
        ("Granite 4: Mamba 2 and attention", "whole prompts"),
        ("Mamba", "whole prompts"),
        ("BART", "as it is"),
    ],
)
def test_a_writer_writes_what_transformers_own_loop_does(
    writers: ModuleType, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert writers.read_writer(*writers.WRITERS[name]) == how


@pytest.mark.parametrize("name", ["GPT-2, 128 positions", "BART, 64 positions"])
def test_a_prompt_without_room_is_refused_with_and_without_the_weights(
    writers: ModuleType, tmp_path: Path, name: str
) -> None:
    make, kind, named = writers.WRITERS_REFUSED[name]
    make(tmp_path)
    with pytest.raises(InputError, match=named):
        writers.load(tmp_path, kind)
    (tmp_path / "model.safetensors").write_bytes(b"unread")
    with pytest.raises(InputError, match=named) as caught:
        check_reading(
            kind,
            str(tmp_path),
            prompt=DEFAULT_STYLE.prompt,
            examples=DEFAULT_STYLE.examples,
            passage_tokens=None,
            max_new_tokens=32,
        )
    assert "\n" not in str(caught.value)


def test_what_ctranslate2_does_not_convert_runs_on_torch_with_one_line(
    writers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ctranslate2")
    writers.WRITERS["BART"][0](tmp_path / "writer")
    settings = GeneratorSettings(
        kind="seq2seq", model=str(tmp_path / "writer"), engine="ctranslate2", precision="fp32"
    )
    capsys.readouterr()
    generator = Components(Recipe()).generator(settings, Passages.of([]))
    assert isinstance(generator, Seq2SeqGenerator)
    said = capsys.readouterr()
    assert "torch runs it" in "".join((said.out, said.err)).replace("\n", " ")
