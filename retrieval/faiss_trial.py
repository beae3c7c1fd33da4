"""Builds an index of a factory string on random vectors: `python faiss_trial.py FACTORY DIMENSION`.

A program of its own, because some strings end the process. It imports nothing of Tercet, to start
at once. It prints `refused: ` and the reason if no vectors could make the string work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

_COUNT, _LISTS, _QUERIES = 600, 15, 64
#: Least part of what exact search gains over any vector; coarse codes have three times that.
_SHARE = 0.1


def main(factory: str, dimension: int) -> None:
    """Make it, train it, fill it and search it."""
    faiss.omp_set_num_threads(1)
    vectors = np.random.default_rng(0).standard_normal((_COUNT, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    try:
        string = factory.replace("{lists}", f"{_LISTS}")
        index = faiss.index_factory(dimension, string, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        if "could not parse" in str(error):
            print("refused: faiss could not parse it")
        return
    if other := other_metric(index):
        print(f"refused: faiss compares by {other} in it, whatever it is asked for")
        return
    if "OPQ" in factory:
        return  # its rotation takes seconds to learn
    try:
        index.train(vectors)
        index.add(vectors)
    except RuntimeError:
        return  # too few vectors, or not of this dimension
    try:
        _, found = index.search(vectors[:_QUERIES], 1)
    except RuntimeError as error:
        print(f"refused: {str(error).rpartition('.cpp:')[2].partition(': ')[2] or error}")
        return
    scores = vectors[:_QUERIES] @ vectors.T
    best, mean = scores.max(1).mean(), scores.mean()
    if (scores[np.arange(_QUERIES), found[:, 0]].mean() - mean) / (best - mean) < _SHARE:
        print("refused: it does not find vectors by their own")


def other_metric(index: Any) -> str:
    """The metric of a part that ranks by another than the inner product; "" if none does."""
    for part in ranking_parts(index):
        if part.metric_type != faiss.METRIC_INNER_PRODUCT:
            return "L2" if part.metric_type == faiss.METRIC_L2 else f"metric {part.metric_type}"
    return ""


def ranking_parts(index: Any) -> Iterator[Any]:
    """The index and those inside that score passages: a graph's storage, no quantizer of lists."""
    index = faiss.downcast_index(index)
    yield index
    for name in ("index", "base_index", "refine_index", "storage"):
        inner = getattr(index, name, None)
        if inner is not None:
            yield from ranking_parts(inner)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
