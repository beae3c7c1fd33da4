"""Tiny models of every kind that is read from a folder, and what each computes of some texts."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from tercet.core.files import read_json, write_json
from tercet.core.schema import Passage
from tercet.modeling import BiEncoder, CausalGenerator, CrossEncoderTeacher, Seq2SeqGenerator
from tercet.modeling.encoders.vector_space import VectorSpace
from tercet.modeling.model_files import SAFETENSORS

TEXTS = ["a bow and its rosin", "an oak for the beetle", "the lamp of a lighthouse at dusk"]
#: What is computed of a folder, as bytes.
Computed = Callable[[Path], bytes]


@dataclass(frozen=True)
class Kind:
    """How a folder is made of tiny models by name, its weights' patterns, and what it computes."""

    make: Callable[[Path, dict[str, Path]], Path]
    computed: Computed
    weights: tuple[str, ...] = SAFETENSORS


def vectors(folder: Path) -> bytes:
    """The vectors of the texts."""
    encoder = BiEncoder.from_pretrained(folder, precision="fp32", device="cpu")
    return encoder.encode_queries(TEXTS).tobytes()


def scores(folder: Path) -> bytes:
    """A teacher's scores of the texts with each other."""
    teacher = CrossEncoderTeacher.from_pretrained(folder, precision="fp32", device="cpu")
    return teacher.score([(one, other) for one in TEXTS for other in TEXTS]).tobytes()


def written(reader: Any, **given: Any) -> Computed:
    """The queries that a generator writes."""

    def computed(folder: Path) -> bytes:
        generator = reader.from_pretrained(folder, device="cpu", precision="fp32", **given)
        passages = [Passage(str(i), "", text) for i, text in enumerate(TEXTS)]
        return json.dumps(generator.generate(passages, 2, seed=1)).encode()

    return computed


def copied(name: str) -> Callable[[Path, dict[str, Path]], Path]:
    """A copy of the tiny model of that name."""
    return lambda folder, models: Path(shutil.copytree(models[name], folder))


def _moved(folder: Path, place: int, path: str) -> None:
    """Put a module into a folder of another name."""
    modules = read_json(folder / "modules.json")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / modules[place]["path"]).rename(folder / path)
    modules[place]["path"] = path
    write_json(folder / "modules.json", modules)


def _pooling_elsewhere(folder: Path, models: dict[str, Path]) -> Path:
    _moved(copied("encoder")(folder, models), 1, "how/pooled")
    return folder


def _pooling_linked(folder: Path, models: dict[str, Path]) -> Path:
    copied("encoder")(folder, models)
    (folder / "1_Pooling").rename(folder / "kept")
    (folder / "1_Pooling").symlink_to("kept", target_is_directory=True)
    return folder


def _network_within(folder: Path, models: dict[str, Path], name: str = "network") -> Path:
    copied("encoder")(folder, models)
    (folder / name).mkdir()
    for file in [f for f in folder.iterdir() if f.is_file() and f.name != "modules.json"]:
        file.rename(folder / name / file.name)
    modules = read_json(folder / "modules.json")
    modules[0]["path"] = name
    write_json(folder / "modules.json", modules)
    return folder


def _sharded(folder: Path, models: dict[str, Path]) -> Path:
    """Weights in two files of a folder of their own, and an index that names them."""
    copied("encoder")(folder, models)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "parts").mkdir()
    names = sorted(weights)
    parts = {"parts/one.safetensors": names[::2], "parts/two.safetensors": names[1::2]}
    for part, of_it in parts.items():
        save_file({n: weights[n] for n in of_it}, folder / part, metadata={"format": "pt"})
    index = {name: part for part, of_it in parts.items() for name in of_it}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    return folder


def _named_by_config(folder: Path, models: dict[str, Path]) -> Path:
    """Weights, and a configuration of one version, under names that config.json gives."""
    copied("encoder")(folder, models)
    (folder / "model.safetensors").rename(folder / "others.safetensors")
    config = read_json(folder / "config.json")
    config["transformers_weights"] = "others.safetensors"
    write_json(folder / "config.4.0.0.json", config)
    write_json(folder / "config.json", config | {"configuration_files": ["config.4.0.0.json"]})
    return folder


def _adapter(folder: Path, models: dict[str, Path]) -> Path:
    """Low-rank updates of the encoder, beside other weights of the whole network."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = AutoModel.from_pretrained(models["encoder"])
        adapted = get_peft_model(network, LoraConfig(r=2, target_modules="all-linear"))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(folder)
    for file in models["encoder"].iterdir():
        copy = shutil.copytree if file.is_dir() else shutil.copy
        copy(file, folder / file.name)
    return folder


def _static(folder: Path, models: dict[str, Path]) -> Path:
    folder.mkdir()
    shutil.copy(models["encoder"] / "tokenizer.json", folder)
    random = torch.Generator().manual_seed(1)
    save_file({"embeddings": torch.randn(600, 8, generator=random)}, folder / "model.safetensors")
    kind = "sentence_transformers.models.StaticEmbedding"
    write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": kind}])
    return folder


def _adapted(folder: Path, models: dict[str, Path]) -> Path:
    """What a run ships of a query side: with a projection, and the space that it belongs to."""
    encoder = BiEncoder.from_pretrained(models["encoder"], precision="fp32", device="cpu")
    random = np.random.default_rng(5)
    encoder.project(random.standard_normal((8, 32)).astype(np.float32), None, "dot")
    rows = random.standard_normal((3, 8)).astype(np.float32)
    encoder.space = VectorSpace.of(["a", "b", "c"], rows, "dot", "here")
    encoder.save_pretrained(folder)
    return folder


class _Logits(nn.Module):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.network = AutoModelForSequenceClassification.from_pretrained(path)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(input_ids, attention_mask).logits
        return found


def _onnx_beside(folder: Path, models: dict[str, Path]) -> Path:
    """A cross-encoder as an ONNX file whose weights lie in another file."""
    folder.mkdir()
    for file in models["teacher"].glob("tokenizer*"):
        shutil.copy(file, folder)
    names = ["input_ids", "attention_mask"]
    tokenizer = AutoTokenizer.from_pretrained(models["teacher"])
    inputs = tokenizer(["oak", "a bow"], ["beetle", "the rosin"], padding=True, return_tensors="pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            _Logits(models["teacher"]),
            tuple(inputs[name] for name in names),
            folder / "whole.onnx",
            input_names=names,
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in names},
            dynamo=False,
        )
    (folder / "weights").mkdir()
    onnx.save_model(
        onnx.load(folder / "whole.onnx"),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights/all.bin",
        size_threshold=0,
    )
    (folder / "whole.onnx").unlink()
    return folder


def _gguf(folder: Path, models: dict[str, Path]) -> Path:
    """A Qwen2 of one layer in one file, with its tokenizer of single bytes."""
    folder.mkdir()
    letters = [chr(i) for i in range(33, 127)] + [chr(i) for i in range(161, 256)]
    tokens = ["<|endoftext|>", *letters, "Ġ", "Ċ", "th", "he"]
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "qwen2")
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 1)])
    writer.add_token_merges(["t h", "h e"])
    for name in ("bos", "eos", "pad", "unk"):
        getattr(writer, f"add_{name}_token_id")(0)
    random = np.random.default_rng(2)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(tokens), 32), "output_norm": (32,)}
    shapes |= {"output": (len(tokens), 32)}
    block = {"attn_norm": (32,), "ffn_norm": (32,), "ffn_gate": (64, 32), "ffn_up": (64, 32)}
    block |= {"ffn_down": (32, 64)} | {f"attn_{part}": (32, 32) for part in ("q", "k", "v")}
    shapes |= {f"blk.0.{name}": shape for name, shape in block.items()}
    shapes |= {"blk.0.attn_output": (32, 32)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32) / 4)
    for part in ("q", "k", "v"):
        writer.add_tensor(f"blk.0.attn_{part}.bias", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


KINDS = {
    "an encoder": Kind(copied("encoder"), vectors),
    "pooling in a folder of another name": Kind(_pooling_elsewhere, vectors),
    "pooling behind a link": Kind(_pooling_linked, vectors),
    "0_Transformer": Kind(lambda f, m: _network_within(f, m, "0_Transformer"), vectors),
    "a network in a folder of another name": Kind(_network_within, vectors),
    "shards in a folder of their own": Kind(_sharded, vectors),
    "names given by config.json": Kind(_named_by_config, vectors),
    "an adapter with a base beside": Kind(_adapter, vectors),
    "a static table": Kind(_static, vectors),
    "an adapted model": Kind(_adapted, vectors),
    "a cross-encoder": Kind(copied("teacher"), scores),
    "ONNX with external data": Kind(_onnx_beside, scores, ("model.onnx", "onnx/model.onnx")),
    "a T5": Kind(copied("seq2seq"), written(Seq2SeqGenerator)),
    "a language model": Kind(copied("causal"), written(CausalGenerator)),
    "a GGUF file": Kind(_gguf, written(CausalGenerator, gguf_file="tiny.gguf"), ("tiny.gguf",)),
}


#: What loaders of one kind or another would open if it were in the folder they are given.
STRAYS = (
    *("README.md", "config.9.9.9.json", "preprocessor_config.json", "processor_config.json"),
    *("quantize_config.json", "model.onnx_data", "training_args.bin", "params.json"),
    *("modeling_own.py", "custom_generate/generate.py", "1_Pooling/config.yaml"),
    *("openvino/openvino_model.xml", "model.fp16.bin", "checkpoint-3/model.safetensors"),
    *("video_preprocessor_config.json", "router_config.json", "audio_tokenizer_config.json"),
)


def add_strays(folder: Path) -> list[Path]:
    """Write files that no model reads, each with something that would break one that did."""
    made = [folder / name for name in STRAYS if not (folder / name).exists()]
    for file in made:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\0{ raise SystemExit")
    return made


@contextmanager
def opened_within(folder: Path, events: list[str]) -> Iterator[set[str]]:
    """The files of `folder` that Python opened in the block, by their paths in it.

    `events` is where an audit hook writes the paths of "open" events.
    """
    found: set[str] = set()
    events.clear()
    yield found
    for path in list(events):
        if Path(path).is_relative_to(folder) and Path(path).is_file():
            found.add(Path(path).relative_to(folder).as_posix())
