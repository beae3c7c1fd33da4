"""Passages a second, beside sentence-transformers on the same texts and model.

    python benchmarks/encode.py

The contenders take turns, so that a machine that slows down slows all of them; the matrix product
timed beside them says how fast the machine was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.table import Table
from sentence_transformers import SentenceTransformer

from tercet.console import console
from tercet.data.sources.bookmarks import Bookmarks
from tercet.modeling import BiEncoder

MODEL = "models/all-MiniLM-L6-v2"
TEXTS, ROUNDS = 1500, 3


def main() -> None:
    """Time each contender a few times over, and print the ratios of the best."""
    passages = [
        passage.contents for _, passage in Bookmarks("corpora/cherche-2.2.1.tar.gz").passages()
    ]
    chosen = np.random.default_rng(13).permutation(len(passages))[:TEXTS]
    texts = [passages[i] for i in chosen if passages[i]]
    reference = SentenceTransformer(MODEL, device="cpu")
    half = SentenceTransformer(MODEL, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    contenders: dict[str, Callable[[Sequence[str]], np.ndarray]] = {
        "sentence-transformers, default": lambda x: reference.encode(list(x)),
        "sentence-transformers, bf16": lambda x: half.encode(list(x)),
        "tercet, fp32": BiEncoder.from_pretrained(MODEL, precision="fp32").encode_passages,
        "tercet, auto": BiEncoder.from_pretrained(MODEL).encode_passages,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    vectors: dict[str, np.ndarray] = {}
    gemm = []
    for _ in range(ROUNDS):
        gemm.append(gigaflops())
        for name, encode in contenders.items():
            start = time.perf_counter()
            vectors[name] = encode(texts)
            seconds[name].append(time.perf_counter() - start)
    show(texts, seconds, vectors, gemm)


def gigaflops() -> float:
    """Speed of a float32 matrix product of 2,048 x 2,048, in GFLOP/s."""
    a = torch.randn(2048, 2048)
    start = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * 2048**3 / (time.perf_counter() - start) / 1e9


def show(
    texts: Sequence[str],
    seconds: dict[str, list[float]],
    vectors: dict[str, np.ndarray],
    gemm: Sequence[float],
) -> None:
    """The table: rates, ratios to the first contender, and what precision costs."""
    title = f"{len(texts):,} bookmarks, {torch.get_num_threads()} threads"
    table = Table("", "passages/s", "ratio", "top-10 overlap", title=title)
    first = next(iter(seconds))
    exact = top10(vectors[first])
    for name, taken in seconds.items():
        shared = [len(a & b) / 10 for a, b in zip(exact, top10(vectors[name]), strict=True)]
        table.add_row(
            name,
            f"{len(texts) / min(taken):,.0f}",
            f"{min(seconds[first]) / min(taken):.2f}",
            f"{np.mean(shared):.3f}",
        )
    console.print(table)
    console.print(f"float32 matrix product: {min(gemm):,.0f} to {max(gemm):,.0f} GFLOP/s")


def top10(vectors: np.ndarray) -> list[set[int]]:
    """Each text's ten nearest."""
    unit = vectors.astype(np.float32) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [set(row) for row in np.argsort(-(unit @ unit.T), axis=1)[:, :10]]


if __name__ == "__main__":
    main()
