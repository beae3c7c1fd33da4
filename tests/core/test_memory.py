"""A corpus several times as large takes hardly more memory: its pages are the system's.

python test_memory.py PASSAGES FOLDER prints the most memory, in bytes, that the work took.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from tercet.core.artifacts import Stage, produce
from tercet.core.resources import measured
from tercet.data import (
    Passages,
    embed_passages,
    mine_candidates,
    read_vectors,
    score_candidates,
    write_corpus,
)
from tercet.data.sources import BeirFolder
from tercet.retrieval import BM25Retriever, DenseRetriever, ExactIndex

pytestmark = pytest.mark.long

SMALL, LARGE = 20_000, 100_000
DIMENSION = 384


class Random:
    """Encodes and scores at random, fast and alike for equal texts."""

    name, dimension = "random", DIMENSION

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        seed = sum(map(len, texts))
        drawn = np.random.default_rng(seed).standard_normal((len(texts), DIMENSION))
        return drawn.astype(np.float32)

    encode_queries = encode_passages

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([len(query) + len(passage) for query, passage in pairs])

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return self.lengths(pairs).astype(np.float32)


def work(passages: int, folder: Path) -> int:
    """Every stage up to the scores; the most memory that was taken, in bytes."""
    words = [f"word{i}" for i in range(5_000)]
    random = np.random.default_rng(0)
    with (folder / "corpus.jsonl").open("w") as file:
        for i in range(passages):
            text = " ".join(words[j] for j in random.integers(0, len(words), 60))
            file.write(json.dumps({"_id": f"passage {i}", "text": text}) + "\n")
    with measured() as taken:
        stages = {name: Stage(folder / name, {}, {}) for name in "abcd"}
        source = BeirFolder(str(folder))
        corpus = Passages.read(produce(stages["a"], lambda w: write_corpus(w, source)))
        embedded = produce(stages["b"], lambda w: embed_passages(w, Random(), corpus))
        index = ExactIndex()
        index.build(corpus.ids, read_vectors(embedded, corpus))
        queries = Dataset.from_dict(
            {
                "id": [f"q{i}" for i in range(300)],
                "query": [" ".join(corpus[7 * i].text.split()[:3]) for i in range(300)],
                "passage_id": [corpus.ids[7 * i] for i in range(300)],
            }
        )
        retrievers = [
            (DenseRetriever(Random(), index), 1),
            (BM25Retriever(corpus, ids=corpus.ids), 1),
        ]
        mined = produce(
            stages["c"],
            lambda w: mine_candidates(
                w, queries, corpus.duplicates, retrievers, candidates=20, shard_queries=100
            ),
        )
        candidates = mined.dataset("candidates")
        scored = produce(
            stages["d"],
            lambda w: score_candidates(w, candidates, corpus, Random(), shard_pairs=1000),
        )
    assert scored.facts["scores"] == 300 * 21
    return taken.peak or 0


def test_a_corpus_five_times_as_large_takes_hardly_more_memory(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("what is a process's own can be told on Linux alone")
    peaks = []
    for passages in (SMALL, LARGE):
        folder = tmp_path / str(passages)
        folder.mkdir()
        command = [sys.executable, __file__, str(passages), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        peaks.append(int(done.stdout.splitlines()[-1]))
    # The vectors alone are 123 MB more, and the texts 30.
    assert peaks[1] - peaks[0] < 60e6, [round(peak / 1e6) for peak in peaks]


if __name__ == "__main__":
    print(work(int(sys.argv[1]), Path(sys.argv[2])))
