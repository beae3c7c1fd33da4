"""Layers' weights in sentence-transformers' folders, and the files beside a model's weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tercet.core.borders import border
from tercet.modeling.checks import check_finite
from tercet.modeling.encoders.layers import Layer, Layers, activation_path
from tercet.modeling.encoders.pooling import MODES, modes_of
from tercet.modeling.encoders.st_format import (
    LEGACY_PACKAGE,
    POOLING_FLAGS,
    EncoderConfig,
    read_modules,
)

#: The flags that releases before 2.3 know too; others are written where they are set alone.
_OLDEST_FLAGS = 4


def read_layers(folder: Path, config: EncoderConfig) -> Layers | None:
    """Read the weights of `config.layers` in `folder`, float32; None if there are no layers.

    Raises InputError for a layer without its weights.
    """
    kinds = {layer.kind for layer in config.layers}
    modules = [module for module in read_modules(folder) if module.kind in kinds]
    pairs = zip(modules, config.layers, strict=False)
    found = [_weights(module.path, layer) for module, layer in pairs]
    return Layers.of(config.layers, found) if config.layers else None


def _weights(folder: Path, layer: Layer) -> dict[str, Tensor]:
    kind = layer.kind
    needed = {"Dense": ("linear.weight",), "LayerNorm": ("norm.weight", "norm.bias")}
    if kind not in needed:
        return {}
    file = folder / "model.safetensors"
    older = folder / "pytorch_model.bin"
    file = older if older.exists() and not file.exists() else file
    with border(
        f"{file} is not the weights of a {kind} module",
        ": load the model with sentence-transformers and save it again",
    ):
        if file == older:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        else:
            weights = load_file(file)
        named: dict[str, Tensor] = {name: value.float() for name, value in weights.items()}
        _ = [named[name] for name in needed[kind]]
        if layer.residual and len(set(named["linear.weight"].shape)) > 1:
            _ = named["residual.weight"]
    check_finite(str(folder), named)
    return named


def write_config(
    folder: Path, config: EncoderConfig, dimension: int, layers: Layers | None = None
) -> None:
    """Write `config` so that sentence-transformers, old and new, encodes to the same vectors.

    `dimension` is the transformer's; `layers` are written with their weights. Lengths of queries
    and passages that differ need a release from 6 on.
    """
    first = ["StaticEmbedding"] if config.static else ["Transformer", "Pooling"]
    unit = [Layer("Normalize")] if config.similarity == "cosine" and not config.truncate_dim else []
    specs = [*config.layers, *unit]
    kinds = [*first, *(layer.kind for layer in specs)]
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], 1))]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": LEGACY_PACKAGE + kind}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    _clear(folder)
    for path in paths[1:]:
        (folder / path).mkdir(parents=True, exist_ok=True)
    write_json(folder / "modules.json", modules)
    if not config.static:
        write_json(folder / "1_Pooling" / "config.json", _pooling(config, dimension))
        write_json(folder / "sentence_bert_config.json", _lengths(config))
    if layers is not None:
        _write_layers([folder / path for path in paths[len(first) :]], config.layers, layers)
    settings: dict[str, Any] = {
        "prompts": {"query": config.query_prompt, "document": config.passage_prompt},
        "default_prompt_name": None,
        "similarity_fn_name": config.similarity,
    }
    if config.truncate_dim:
        settings["truncate_dim"] = config.truncate_dim
    write_json(folder / "config_sentence_transformers.json", settings)


def _clear(folder: Path) -> None:
    """Remove the modules of a model that was in the folder before."""
    (folder / "tercet.json").unlink(missing_ok=True)
    for kind in ("Pooling", "Dense", "LayerNorm", "Normalize"):
        for old in folder.glob(f"[0-9]*_{kind}"):
            shutil.rmtree(old)


def _pooling(config: EncoderConfig, dimension: int) -> dict[str, Any]:
    modes = modes_of(config.pooling)
    written: dict[str, Any] = {"word_embedding_dimension": dimension}
    if [mode for mode in MODES if mode in modes] == modes:
        flags = {flag: mode in modes for flag, mode in POOLING_FLAGS.items()}
        oldest = list(flags)[:_OLDEST_FLAGS]
        written |= {flag: on for flag, on in flags.items() if on or flag in oldest}
    else:
        written["pooling_mode"] = modes
    if not config.include_prompt:
        written["include_prompt"] = False
    return written


def _lengths(config: EncoderConfig) -> dict[str, Any]:
    lengths: dict[str, Any] = {
        "max_seq_length": config.max_length,
        "do_lower_case": config.lower_case,
    }
    if config.query_max_length not in (None, config.max_length):
        lengths["query_length"] = config.query_max_length
    return lengths


def _write_layers(folders: Sequence[Path], specs: Sequence[Layer], layers: Layers) -> None:
    for folder, spec, weights, widths in zip(
        folders, specs, layers.weights(), layers.widths(), strict=False
    ):
        if spec.kind == "Normalize" or widths is None:
            continue
        settings: dict[str, Any] = {"dimension": widths[0]}
        if spec.kind == "Dense":
            settings = {
                "in_features": widths[0],
                "out_features": widths[1],
                "bias": "linear.bias" in weights,
                "activation_function": activation_path(spec.activation),
            } | ({"use_residual": True} if spec.residual else {})
        write_json(folder / "config.json", settings)
        save_file(weights, folder / "model.safetensors")


def write_json(path: Path, content: Any) -> None:
    """Write JSON as sentence-transformers does."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
