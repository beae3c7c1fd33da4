"""What is wrong with a model's files is one line that names the model, whoever reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tercet.config.recipe import ModelSection
from tercet.core.borders import border
from tercet.core.schema import InputError
from tercet.modeling import BiEncoder, CausalGenerator, CrossEncoderTeacher, Seq2SeqGenerator
from tercet.modeling.checks import check_layers
from tercet.modeling.generators.chat_model import LocalChat
from tercet.modeling.generators.ct2 import CT2Generator, runs_on_ct2
from tercet.modeling.generators.prefix import check_reading
from tercet.modeling.training.lora import with_lora

pytestmark = pytest.mark.fault("a library's own errors")

WEIGHTS = "model.safetensors"
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
Damage = Callable[[Path], object]


def pointer(name: str) -> Damage:
    return lambda folder: (folder / name).write_text(POINTER)


def cut(name: str, part: float = 0.5) -> Damage:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * part)])

    return spoil


def garbage(name: str) -> Damage:
    bytes_ = np.random.default_rng(3).bytes(2_000)
    return lambda folder: (folder / name).write_bytes(bytes_)


def json_of(name: str, content: Any) -> Damage:
    return lambda folder: (folder / name).write_text(json.dumps(content))


def other_shapes(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    wide = {name: torch.cat([value, value]) for name, value in weights.items()}
    save_file(wide, folder / WEIGHTS, metadata={"format": "pt"})


def not_a_number(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    key = max(weights, key=lambda name: weights[name].numel())
    weights[key].view(-1)[3] = torch.nan
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def endless_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    keys = [key for key in config if "layer" in key and isinstance(config[key], int)]
    config |= dict.fromkeys(keys, 2**63 - 1)
    (folder / "config.json").write_text(json.dumps(config))


def more_tokens(folder: Path) -> None:
    """A token beyond the 600 rows of embeddings, as a training that added some leaves it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"[NEW{number}]" for number in range(601 - len(tokenizer))])
    tokenizer.save_pretrained(folder)


#: Name -> (what is done to the folder, what the line says).
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a pointer in place of weights": (pointer(WEIGHTS), "is a git-lfs pointer"),
    "a pointer in place of a tokenizer": (pointer("tokenizer.json"), "is a git-lfs pointer"),
    "cut weights": (cut(WEIGHTS), "does not load"),
    "weights cut in their header": (cut(WEIGHTS, 0.001), "does not load"),
    "no weights at all": (garbage(WEIGHTS), "does not load"),
    "a cut tokenizer": (cut("tokenizer.json"), "does not load"),
    "a tokenizer of another kind": (json_of("tokenizer.json", {"model": 3}), "does not load"),
    "other shapes": (other_shapes, "does not load"),
    "a weight that is no number": (not_a_number, "is not finite"),
    "more tokens than rows": (more_tokens, "of id 600, and the model has rows for 600 tokens"),
    "a config of another kind": (json_of("config.json", {"model_type": ["bert"]}), ""),
    "a config of endless layers": (endless_layers, "cannot be 9223372036854775807"),
    "a config that is a list": (json_of("config.json", [1]), ""),
}


@pytest.fixture
def folders(
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_seq2seq_path: Path,
    tiny_causal_path: Path,
) -> dict[str, Path]:
    return {
        "encoder": tiny_encoder_path,
        "teacher": tiny_cross_encoder_path,
        "seq2seq": tiny_seq2seq_path,
        "ct2": tiny_seq2seq_path,
        "causal": tiny_causal_path,
        "chat": tiny_causal_path,
    }


LOADERS: dict[str, Callable[[Path], object]] = {
    "encoder": BiEncoder.from_pretrained,
    "teacher": CrossEncoderTeacher.from_pretrained,
    "seq2seq": Seq2SeqGenerator.from_pretrained,
    "ct2": CT2Generator.from_pretrained,
    "causal": CausalGenerator.from_pretrained,
    "chat": LocalChat.from_pretrained,
}


def refusal(load: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        load()
    line = str(caught.value)
    assert "\n" not in line and len(line) < 700, line
    return line


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", LOADERS)
def test_a_damaged_model_is_one_line_that_names_it(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: Any, kind: str, damage: str
) -> None:
    if kind == "ct2":
        pytest.importorskip("ctranslate2")
        monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    shutil.copytree(folders[kind], folder)
    spoil, said = DAMAGES[damage]
    spoil(folder)
    line = refusal(lambda: LOADERS[kind](folder))
    assert str(folder) in line, line
    assert said in line or (kind, damage) == ("ct2", "more tokens than rows"), line


def test_endless_layers_are_found_in_a_part_of_the_settings() -> None:
    check_layers("m", {"id2label": {0: "no"}, "num_layers": 80, "layer_types": ["full"] * 80})
    with pytest.raises(InputError, match="model 'm' does not load: its num_layers cannot be"):
        check_layers("m", {"id2label": {0: "no"}, "text_config": {"num_layers": 2**40}})


@pytest.mark.parametrize("damage", ["a config of another kind", "a cut tokenizer"])
def test_what_is_read_without_weights_is_refused_alike(
    tiny_causal_path: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_causal_path, folder)
    DAMAGES[damage][0](folder)
    given = {"prompt": "{passage}", "examples": (), "passage_tokens": 8, "max_new_tokens": 4}
    assert str(folder) in refusal(lambda: check_reading("causal", str(folder), **given))
    if "config" in damage:
        assert not runs_on_ct2(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (pointer("model.onnx"), "is a git-lfs pointer"),
        (cut("model.onnx"), "is not a whole ONNX file"),
        (garbage("model.onnx"), "is not a whole ONNX file"),
        (lambda folder: (folder / "model.onnx").write_bytes(b""), "is not a whole ONNX file"),
    ],
)
def test_a_damaged_onnx_file_is_one_line(
    tiny_cross_encoder_path: Path, tmp_path: Path, damage: Damage, said: str
) -> None:
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "model"
    shutil.copytree(tiny_cross_encoder_path, folder)
    (folder / WEIGHTS).unlink()
    ids = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["a", "b"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["a", "b"])
    cast = onnx.helper.make_node("Cast", ["input_ids"], ["logits"], to=onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph([cast], "g", [ids], [logits])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "model.onnx"
    )
    assert "labels to a pair" in refusal(lambda: CrossEncoderTeacher.from_pretrained(folder))
    damage(folder)
    line = refusal(lambda: CrossEncoderTeacher.from_pretrained(folder))
    assert str(folder) in line and said in line, line


@pytest.fixture
def gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GGUF file of a Llama without layers' weights."""
    gguf = pytest.importorskip("gguf")
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model" / "tiny.gguf"
    file.parent.mkdir()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: None,  # it has no tokenizer
        cut("tiny.gguf"),
        cut("tiny.gguf", 0.05),
        garbage("tiny.gguf"),
        lambda folder: (folder / "tiny.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64),
        pointer("tiny.gguf"),
    ],
)
def test_a_malformed_gguf_file_is_one_line(gguf_file: Path, damage: Damage) -> None:
    damage(gguf_file.parent)
    line = refusal(
        lambda: CausalGenerator.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    )
    assert str(gguf_file.parent) in line, line
    assert not list(gguf_file.parents[1].glob("cache/gguf/*/config.json"))


@pytest.fixture
def adapter(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    """A LoRA adapter's folder."""
    encoder = BiEncoder.from_pretrained(tiny_encoder_path)
    with_lora(encoder.backbone, ModelSection(lora_rank=2), seed=1).save_pretrained(tmp_path / "it")
    config = tmp_path / "it" / "adapter_config.json"
    held = json.loads(config.read_text()) | {"base_model_name_or_path": str(tiny_encoder_path)}
    config.write_text(json.dumps(held))
    encoder.tokenizer.save_pretrained(tmp_path / "it")
    return tmp_path / "it"


@pytest.mark.parametrize("damage", ["cut", "pointer", "other shapes", "not finite", "config"])
def test_a_damaged_adapter_is_one_line(adapter: Path, damage: str) -> None:
    BiEncoder.from_pretrained(adapter, pooling="mean")
    name = "adapter_model.safetensors"
    weights = load_file(adapter / name)
    match damage:
        case "cut":
            cut(name)(adapter)
        case "pointer":
            pointer(name)(adapter)
        case "other shapes":
            wide = {key: torch.cat([value, value]) for key, value in weights.items()}
            save_file(wide, adapter / name, metadata={"format": "pt"})
        case "not finite":
            next(iter(weights.values())).view(-1)[0] = torch.inf
            save_file(weights, adapter / name, metadata={"format": "pt"})
        case "config":
            config = json.loads((adapter / "adapter_config.json").read_text())
            json_of("adapter_config.json", config | {"r": "two", "peft_type": 7})(adapter)
    assert str(adapter) in refusal(lambda: BiEncoder.from_pretrained(adapter, pooling="mean"))


def test_a_border_names_what_it_guards_and_lets_failures_outside_pass() -> None:
    class Panicked(BaseException):
        """As libraries in Rust raise it, which is no Exception."""

    Panicked.__name__ = "PanicException"
    for error, said in {
        RuntimeError("\n  first\nsecond"): "it: first",
        KeyError("vocab"): "it: KeyError: 'vocab'",
        ValueError(): "it: ValueError",
        Panicked("index out of bounds"): "it: index out of bounds",
        FileNotFoundError(2, "No such file", "a.json"): "it: [Errno 2] No such file: 'a.json'",
    }.items():
        with pytest.raises(InputError) as caught, border("it"):
            raise error
        assert str(caught.value) == said
    for outside in (MemoryError(), OSError(28, "full"), OSError(5, "I/O"), KeyboardInterrupt()):
        with pytest.raises(type(outside)) as passed, border("it"):
            raise outside
        assert passed.value is outside
