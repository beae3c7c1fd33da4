"""Passages a second, beside sentence-transformers on the same texts and model.

    python benchmarks/encode.py [TEXTS]

With ONEDNN_MAX_CPU_ISA=AVX512_CORE the kernels for bf16 are hidden, and `auto` has to notice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from beside import bookmarks, show, take_turns
from sentence_transformers import SentenceTransformer

from tercet.modeling import BiEncoder

MODEL = "models/all-MiniLM-L6-v2"
TEXTS, ROUNDS = 1500, 3


def main() -> None:
    """Time each contender a few times over, and print the ratios of the best."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TEXTS
    passages = bookmarks()
    chosen = np.random.default_rng(13).permutation(len(passages))[:count]
    texts = [passages[i].contents for i in chosen]
    reference = SentenceTransformer(MODEL, device="cpu")
    half = SentenceTransformer(MODEL, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    encoders: dict[str, Callable[[Sequence[str]], np.ndarray]] = {
        "sentence-transformers": reference.encode,
        "sentence-transformers, bf16": half.encode,
        "tercet, fp32": BiEncoder.from_pretrained(MODEL, precision="fp32").encode_passages,
        "tercet, bf16": BiEncoder.from_pretrained(MODEL, precision="bf16").encode_passages,
        "tercet, auto": BiEncoder.from_pretrained(MODEL).encode_passages,
    }
    contenders = {name: partial(partial, encode, texts) for name, encode in encoders.items()}
    turns = take_turns(contenders, ROUNDS)
    exact = top10(turns.results["sentence-transformers"])
    shared = {
        name: np.mean([len(a & b) / 10 for a, b in zip(exact, top10(vectors), strict=True)])
        for name, vectors in turns.results.items()
    }
    show(
        turns,
        f"{len(texts):,} bookmarks",
        "passages",
        len(texts),
        peers=["sentence-transformers", "sentence-transformers, bf16"],
        extra={"top-10 overlap": {name: f"{part:.3f}" for name, part in shared.items()}},
    )


def top10(vectors: np.ndarray) -> list[set[int]]:
    """Each text's ten nearest."""
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [set(row) for row in np.argsort(-(unit @ unit.T), axis=1)[:, :10]]


if __name__ == "__main__":
    main()
