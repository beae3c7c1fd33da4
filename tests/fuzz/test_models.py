"""Mutated files of models: loaded, or refused in one line.

Each is loaded in a child, which native code may end.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fuzz_runner import Target, fuzz

pytest.importorskip("gguf")
pytest.importorskip("onnx")
from model_folders import KINDS

pytestmark = pytest.mark.fault("fuzz")
EXAMPLES = 6  # of a target, here; `make fuzz` tries more

#: Name -> (the kind of folder, its files that are mutated, their shape).
TARGETS: dict[str, tuple[str, list[str], str]] = {
    "modules": ("an encoder", ["modules.json", "1_Pooling/config.json", "config.json"], "json"),
    "tokenizer": ("an encoder", ["tokenizer.json", "tokenizer_config.json"], "json"),
    "safetensors": ("an encoder", ["model.safetensors"], "safetensors"),
    "shards": ("shards in a folder of their own", ["model.safetensors.index.json"], "json"),
    "a static table": ("a static table", ["model.safetensors"], "safetensors"),
    "ONNX": ("ONNX with external data", ["model.onnx"], "bytes"),
    "GGUF": ("a GGUF file", ["tiny.gguf"], "bytes"),
}


@pytest.fixture
def models(request: pytest.FixtureRequest) -> dict[str, Path]:
    """The folders of tiny models that kinds are made of."""
    names = {"encoder": "encoder", "teacher": "cross_encoder", "causal": "causal"}
    return {name: request.getfixturevalue(f"tiny_{path}_path") for name, path in names.items()}


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_of_a_model_are_refused_in_a_line(
    name: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    kind, files, shape = TARGETS[name]
    whole = KINDS[kind].make(tmp_path / "whole", models)

    def read(hint: str, data: bytes) -> None:
        for folder in ("model", "cache"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
        shutil.copytree(whole, tmp_path / "model")
        (tmp_path / "model" / hint).write_bytes(data)
        KINDS[kind].computed(tmp_path / "model")

    seeds = [(each, (whole / each).read_bytes()) for each in files]
    assert fuzz(Target(name, seeds, read, shape), EXAMPLES).faults == {}
