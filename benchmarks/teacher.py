"""Pairs scored a second by a cross-encoder of PyTorch, beside sentence-transformers.

    python benchmarks/teacher.py [PAIRS]

The cross-encoder has the shape of ms-marco-MiniLM-L12-v2 and random weights. A pair is a bookmark's
title with another bookmark; each contender gets all pairs in one call.
"""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import torch
from beside import bookmarks, show, take_turns
from sentence_transformers import CrossEncoder
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from tercet.modeling import CrossEncoderTeacher

TOKENIZER = "models/ms-marco-MiniLM-L12-v2-int8"
PAIRS, ROUNDS, LENGTH = 10_000, 2, 256


def main() -> None:
    """Score the same pairs in turns, and print ratios and how far the scores are apart."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    passages = bookmarks()
    random = np.random.default_rng(13)
    drawn = random.integers(len(passages), size=(count, 2))
    pairs = [(passages[i].title or passages[i].contents, passages[j].contents) for i, j in drawn]
    with tempfile.TemporaryDirectory() as folder:
        save_random(folder)
        load = CrossEncoderTeacher.from_pretrained
        teachers = {
            "tercet, fp32": load(folder, precision="fp32", max_length=LENGTH),
            "tercet, auto": load(folder, max_length=LENGTH),
        }
        peer = CrossEncoder(folder, device="cpu", max_length=LENGTH)
    name = "sentence-transformers"
    contenders = {
        name: lambda: lambda: peer.predict(pairs, activation_fn=nn.Identity()),
        "tercet, fp32": lambda: lambda: teachers["tercet, fp32"].score(pairs),
        "tercet, auto": lambda: lambda: teachers["tercet, auto"].score(pairs),
    }
    turns = take_turns(contenders, ROUNDS)
    apart = {who: np.abs(found - turns.results[name]).max() for who, found in turns.results.items()}
    spread = turns.results[name].std()
    show(
        turns,
        f"{count:,} pairs, scores with a standard deviation of {spread:.2f}",
        "pairs",
        count,
        peers=[name],
        extra={"largest difference": {who: f"{value:.1e}" for who, value in apart.items()}},
    )


def save_random(folder: str) -> None:
    """A cross-encoder of 12 layers and 384 dimensions that was never trained."""
    torch.manual_seed(13)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=1,
        initializer_range=0.08,  # at the usual 0.02 all pairs would score nearly the same
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
