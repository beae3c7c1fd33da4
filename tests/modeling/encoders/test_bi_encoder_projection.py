from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tiny_training import trainer
from transformers import AutoModel

from tercet.config.recipe import ModelSection
from tercet.core.schema import InputError
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.training.checkpoints import last_checkpoint
from tercet.modeling.training.lora import merged, with_lora
from tercet.modeling.training.model_selection import interpolated
from tercet.modeling.training.retrieval_evaluation import weights_digest

OUT = 12


def load(path: Path | str, **kwargs) -> BiEncoder:  # noqa: ANN003
    return BiEncoder.from_pretrained(path, precision="fp32", device="cpu", **kwargs)


def projected(path: Path, inner: str, outer: str, *, bias: bool = True) -> BiEncoder:
    random = np.random.default_rng(1)
    encoder = load(path, similarity=inner)
    weight = random.normal(size=(OUT, encoder.dimension)).astype(np.float32)
    encoder.project(weight, random.normal(size=OUT).astype(np.float32) if bias else None, outer)
    return encoder


def linear_of(encoder: BiEncoder) -> torch.nn.Linear:
    return encoder.projection.steps[-1].linear


@pytest.fixture
def encoder(tiny_encoder_path: Path) -> BiEncoder:
    return projected(tiny_encoder_path, "cosine", "dot")


def assert_same(encoder: BiEncoder, folder: Path | str, texts: list[str]) -> None:
    """SentenceTransformer and `from_pretrained` make of a folder what the encoder does."""
    expected = encoder.encode_queries(texts)
    again = load(folder)
    assert again.config == encoder.config and again.dimension == OUT
    assert np.allclose(again.encode_queries(texts), expected, rtol=1e-5, atol=1e-5)
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert theirs.similarity_fn_name == encoder.similarity
    assert theirs.get_embedding_dimension() == OUT
    assert np.allclose(theirs.encode_query(texts), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outer", ["dot", "cosine"])
@pytest.mark.parametrize("inner", ["dot", "cosine"])
def test_projected_vectors_are_saved_and_loaded(
    tiny_encoder_path: Path,
    tiny_texts: list[str],
    tmp_path: Path,
    inner: str,
    outer: str,
    bias: bool,
) -> None:
    encoder = projected(tiny_encoder_path, inner, outer, bias=bias)
    base = load(tiny_encoder_path, similarity=inner)
    assert (encoder.dimension, encoder.similarity) == (OUT, outer)
    layer = linear_of(encoder)
    expected = base.encode_queries(tiny_texts) @ layer.weight.detach().numpy().T
    expected += layer.bias.detach().numpy() if bias else 0
    if outer == "cosine":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(encoder.encode_queries(tiny_texts), expected, atol=1e-5)

    encoder.save_pretrained(tmp_path)
    assert_same(encoder, tmp_path, tiny_texts)
    assert not any("projection" in name for name in load_file(tmp_path / "model.safetensors"))
    _, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["unexpected_keys"] and not report["missing_keys"]


@pytest.mark.parametrize("normalize", [True, False])
def test_what_sentence_transformers_saves_is_read(
    tiny_encoder_path: Path, tiny_texts: list[str], tmp_path: Path, normalize: bool
) -> None:
    transformer = Transformer(str(tiny_encoder_path), max_seq_length=48)
    dense = Dense(32, OUT, activation_function=torch.nn.Identity())
    modules = [transformer, Pooling(32, "mean"), dense]
    if normalize:
        modules = [*modules[:2], Normalize(), dense, Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="dot")
    theirs.save(str(tmp_path))
    expected = theirs.encode_query(tiny_texts)
    encoder = load(tmp_path)
    kinds = [layer.kind for layer in encoder.config.layers]
    assert kinds == ["Normalize", "Dense"][1 - normalize :]
    assert encoder.similarity == ("cosine" if normalize else "dot")
    assert np.allclose(encoder.encode_queries(tiny_texts), expected, rtol=1e-5, atol=1e-5)


def test_truncated_vectors_are_the_first_dimensions(
    encoder: BiEncoder, tiny_texts: list[str], tmp_path: Path
) -> None:
    cut = encoder.truncated(5)
    found = cut.encode_queries(tiny_texts)
    assert cut.dimension == 5 and found.shape[1] == 5
    assert np.allclose(found, encoder.encode_queries(tiny_texts)[:, :5], rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="truncate_dim"):
        encoder.truncated(OUT + 1)
    cut.save_pretrained(tmp_path)
    assert_same(encoder, tmp_path, tiny_texts)


def test_a_projection_keeps_float32_under_autocast(
    encoder: BiEncoder, tiny_texts: list[str]
) -> None:
    inputs = encoder.collate(encoder.tokenize(tiny_texts, "query"))
    states = encoder.backbone(**inputs).last_hidden_state
    expected = encoder.pool(states, inputs["attention_mask"])
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder.pool(states, inputs["attention_mask"])
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_a_projection_is_another_model(encoder: BiEncoder, tmp_path: Path) -> None:
    before = weights_digest(encoder.backbone)
    base = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    encoder.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        linear_of(encoder).weight[0, 0] += 1
    assert weights_digest(encoder.backbone) != before
    half = interpolated(base, encoder.backbone.state_dict(), 0.5)
    moved = half["projection.steps.1.linear.weight"] - base["projection.steps.1.linear.weight"]
    assert float(moved.sum()) == pytest.approx(0.5)
    encoder.save_pretrained(tmp_path / "b")
    assert load(tmp_path / "a").identity != load(tmp_path / "b").identity


def test_a_projection_of_other_vectors_is_refused(encoder: BiEncoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has vectors of 12 dimensions, .* takes 31"):
        encoder.project(np.zeros((4, 31), np.float32), None, "dot")
    encoder.save_pretrained(tmp_path)
    weights = {"linear.weight": torch.zeros(4, 31), "linear.bias": torch.zeros(4)}
    save_file(weights, tmp_path / "3_Dense" / "model.safetensors")
    with pytest.raises(InputError, match="takes 31"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "custom.Tanh"}, "'custom.Tanh' is not"),
        ({"activation_function": "torch.nn.modules.activation.PReLU"}, "PReLU' is not"),
        ({"activation_function": None}, "not supported"),
        ({"module_input_name": "token_embeddings"}, "module_input_name"),
        ({"use_residual": True}, "residual.weight"),
    ],
)
def test_a_dense_module_that_is_no_projection_is_refused(
    encoder: BiEncoder, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    encoder.save_pretrained(tmp_path)
    file = tmp_path / "3_Dense" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"x" * 99)])
def test_a_dense_module_without_its_weights_is_refused(
    encoder: BiEncoder, tmp_path: Path, damage: object
) -> None:
    encoder.save_pretrained(tmp_path)
    damage(tmp_path / "3_Dense" / "model.safetensors")
    with pytest.raises(InputError, match="save it again"):
        load(tmp_path)


def test_modules_in_another_order_are_refused(encoder: BiEncoder, tmp_path: Path) -> None:
    encoder.save_pretrained(tmp_path)
    file = tmp_path / "modules.json"
    modules = json.loads(file.read_text())
    file.write_text(json.dumps([*modules, modules[1]]))
    with pytest.raises(InputError, match=r"Dense \+ Pooling are not supported in this order"):
        load(tmp_path)
    file.write_text(json.dumps([*modules, modules[-1]]))
    with pytest.raises(InputError, match="takes 32"):
        load(tmp_path)


def test_a_second_projection_follows_the_first(
    encoder: BiEncoder, tiny_texts: list[str], tmp_path: Path
) -> None:
    first, weight = encoder.encode_queries(tiny_texts), np.ones((5, OUT), np.float32)
    encoder.project(weight, None, "dot")
    assert np.allclose(encoder.encode_queries(tiny_texts), first @ weight.T, atol=1e-4)
    encoder.save_pretrained(tmp_path)
    assert load(tmp_path).config == encoder.config


@pytest.mark.parametrize("rank", [None, 2], ids=["whole", "lora"])
def test_training_moves_the_projection_and_checkpoints_have_it(
    encoder: BiEncoder, tiny_texts: list[str], tmp_path: Path, rank: int | None
) -> None:
    texts = {f"p{i}": text for i, text in enumerate(tiny_texts[:40])}
    before = linear_of(encoder).weight.detach().clone()
    names = set(encoder.backbone.state_dict())
    if rank:
        encoder.backbone = with_lora(encoder.backbone, ModelSection(lora_rank=rank), seed=1)
    options = ["--training.learning_rate=1e-2", "--training.per_device_train_batch_size=4"]
    run = trainer(encoder, texts, tmp_path, *options)
    run.train()
    checkpoint = last_checkpoint(tmp_path / "run" / "training")
    if rank:
        saved = load_file(Path(checkpoint) / "adapter_model.safetensors")
        key = next(name for name in saved if name.endswith("linear.weight"))
        assert torch.equal(saved[key], linear_of(encoder).weight)
        expected = encoder.encode_queries(tiny_texts)
        encoder.backbone = merged(encoder.backbone)
        assert np.allclose(encoder.encode_queries(tiny_texts), expected, atol=1e-4)
        assert set(encoder.backbone.state_dict()) == names
        checkpoint = tmp_path / "merged"
        encoder.save_pretrained(checkpoint)
    assert (linear_of(encoder).weight - before).abs().max() > 1e-3
    assert_same(encoder, checkpoint, tiny_texts)
