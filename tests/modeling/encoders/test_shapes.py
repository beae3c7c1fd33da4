"""A few of the shapes of `benchmarks/shapes.py`, which reads them all."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tercet.config.recipe import ModelSection
from tercet.core.schema import InputError
from tercet.modeling.batching import cut_batch, position_limit
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.hub import resolve
from tercet.modeling.training.lora import merged, with_lora

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def shapes() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("shapes")
    finally:
        sys.path.remove(str(BENCHMARKS))


READ = [
    "LaBSE: BERT, cls, Dense Tanh, Normalize",
    "GTR, sentence-t5: T5 encoder, Dense, Normalize",
    "INSTRUCTOR: T5 encoder, prompt left out, Dense, Normalize",
    "Qwen3-Embedding: Qwen3, last token, left, Normalize, prompt",
    "EmbeddingGemma: Gemma 3 both ways, mean, two Dense, Normalize",
    "e5-mistral: Mistral, last token, Normalize",
    "XLNet, mean, left, token types",
    "all six poolings",
    "mean before cls: an order of its own",
    "residual Dense to fewer dimensions",
    "LayerNorm, Dense ReLU, Dense GELU, Normalize",
    "weighted mean after the prompt, left",
    "BERT that pads on the left, cls",
    "truncated to 12 dimensions",
    "queries of 6 tokens, passages of 10",
    "sentence_distilbert_config.json",
    "0_Transformer",
    "LoRA adapter over Qwen3",
    "StaticEmbedding, Dense, Normalize, prompt",
    "model2vec: rows shared and weighed",
]


@pytest.mark.parametrize("name", READ)
def test_a_shape_is_read_as_sentence_transformers_reads_it_before_and_after_training(
    shapes: ModuleType, name: str
) -> None:
    found = shapes.read(shapes.EMBEDDINGS[name])
    assert found.equal, found


def test_whatever_is_not_honoured_is_refused_by_its_name(shapes: ModuleType) -> None:
    for name, (make, named) in shapes.REFUSED.items():
        line = shapes.refused(make)
        assert line is not None and named in line and "\n" not in line, (name, line)


def test_the_tokenizer_is_saved_as_it_was_used(shapes: ModuleType, tmp_path: Path) -> None:
    for name, side in {
        "BERT that pads on the left, cls": "right",
        "e5-mistral: Mistral, last token, Normalize": "left",
    }.items():
        shapes.EMBEDDINGS[name](tmp_path / side)
        encoder = BiEncoder.from_pretrained(tmp_path / side, device="cpu")
        encoder.save_pretrained(tmp_path / f"{side}-saved")
        assert AutoTokenizer.from_pretrained(tmp_path / f"{side}-saved").padding_side == side


def test_padding_on_the_left_is_cut_there(shapes: ModuleType, tmp_path: Path) -> None:
    shapes.EMBEDDINGS["e5-mistral: Mistral, last token, Normalize"](tmp_path / "model")
    encoder = BiEncoder.from_pretrained(tmp_path / "model", precision="fp32", device="cpu")
    inputs = encoder.collate(encoder.tokenize(shapes.TEXTS, "query"))
    assert not inputs["attention_mask"][:, 0].all() and inputs["attention_mask"][:, -1].all()
    whole = encoder.embed(encoder.backbone, inputs)
    for rows, part in cut_batch(inputs, 16):
        assert torch.allclose(encoder.embed(encoder.backbone, part), whole[rows], atol=1e-5)


def test_a_base_of_an_adapter_is_part_of_its_identity(shapes: ModuleType, tmp_path: Path) -> None:
    shapes.EMBEDDINGS["LoRA adapter over BERT"](tmp_path / "model")
    before = resolve(str(tmp_path / "model")).identity
    base = tmp_path / "model-base"
    weights = load_file(base / "model.safetensors")
    first = next(iter(weights))
    sys.modules["shape_models"].save_file(
        weights | {first: weights[first] + 1}, base / "model.safetensors"
    )
    assert resolve(str(tmp_path / "model")).identity != before
    (base / "config.json").rename(base / "elsewhere.json")
    base.rename(tmp_path / "gone")
    with pytest.raises(InputError, match="model-base"):
        BiEncoder.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    "name",
    [
        "Qwen3-Embedding: Qwen3, last token, left, Normalize, prompt",
        "EmbeddingGemma: Gemma 3 both ways, mean, two Dense, Normalize",
        "e5-mistral: Mistral, last token, Normalize",
        "LoRA adapter over Qwen3",
    ],
)
def test_a_decoder_trains_with_lora_and_gradient_checkpointing(
    shapes: ModuleType, tmp_path: Path, name: str
) -> None:
    shapes.EMBEDDINGS[name](tmp_path / "model")
    encoder = BiEncoder.from_pretrained(tmp_path / "model", precision="fp32", device="cpu")
    base = encoder.encode_queries(shapes.TEXTS)
    encoder.backbone = with_lora(encoder.backbone, ModelSection(lora_rank=2), seed=1)
    encoder.backbone.gradient_checkpointing_enable()
    for _ in range(3):  # the first step moves one of the two factors alone
        shapes.train_a_step(encoder, rate=1.0)
    moved = encoder.encode_queries(shapes.TEXTS)
    assert np.abs(moved - base).max() > 1e-3
    encoder.backbone = merged(encoder.backbone)
    encoder.save_pretrained(tmp_path / "saved")
    again = BiEncoder.from_pretrained(tmp_path / "saved", precision="fp32", device="cpu")
    assert np.abs(again.encode_queries(shapes.TEXTS) - moved).max() < 1e-4


def test_no_limit_and_a_negative_one_are_none(shapes: ModuleType, tmp_path: Path) -> None:
    shapes.EMBEDDINGS["XLNet, mean, left, token types"](tmp_path / "model")
    encoder = BiEncoder.from_pretrained(tmp_path / "model", device="cpu")
    assert encoder.backbone.config.max_position_embeddings == -1
    assert position_limit(encoder.backbone.config) == 1_000_000
    assert encoder.config.max_length == 64  # the tokenizer's
