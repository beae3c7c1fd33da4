"""Pairs scored a second by a cross-encoder of PyTorch, beside sentence-transformers.

    python benchmarks/teacher.py [PAIRS]

The cross-encoder has the shape of ms-marco-MiniLM-L12-v2 and random weights. A pair is a bookmark's
title with another bookmark; each contender gets all pairs in one call.

Then queries are labelled: the margin of each one's positive over 25 candidates. GPL's loop scores
both passages of every triplet, 32 triplets a call in the order of training, the positive again for
each; Tercet scores each different pair once, all of them sorted by length.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from beside import Contender, bookmarks, show, take_turns
from sentence_transformers import CrossEncoder
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from tercet.core.schema import Passage
from tercet.modeling import CrossEncoderTeacher

TOKENIZER = "models/ms-marco-MiniLM-L12-v2-int8"
PAIRS, ROUNDS, LENGTH = 10_000, 2, 256
#: Of the second table: queries for every thousand pairs of the first, and what GPL's loop does.
QUERIES_A_THOUSAND, CANDIDATES, TRIPLETS_A_CALL = 6, 25, 32


def main() -> None:
    """Pairs, then labels."""
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
            "tercet, bf16": load(folder, precision="bf16", max_length=LENGTH),
            "tercet, auto": load(folder, max_length=LENGTH),
        }
        peer = CrossEncoder(folder, device="cpu", max_length=LENGTH)
    compare_pairs(peer, teachers, pairs)
    queries = max(4, QUERIES_A_THOUSAND * count // 1_000)
    compare_labels(
        peer, teachers, passages, random.integers(len(passages), size=(queries, 1 + CANDIDATES))
    )


def compare_pairs(
    peer: CrossEncoder,
    teachers: Mapping[str, CrossEncoderTeacher],
    pairs: Sequence[tuple[str, str]],
) -> None:
    """The same pairs, each contender all of them in one call."""
    count, name = len(pairs), "sentence-transformers"
    contenders: dict[str, Contender] = {name: lambda: partial(predict, peer, pairs)}
    contenders |= {who: partial(partial, each.score, pairs) for who, each in teachers.items()}
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


def compare_labels(
    peer: CrossEncoder,
    teachers: Mapping[str, CrossEncoderTeacher],
    passages: Sequence[Passage],
    drawn: np.ndarray,
) -> None:
    """The margins of each row's first passage over the others; its title is the query."""
    titles = [passages[row[0]].title or passages[row[0]].contents for row in drawn]
    triplets = [
        (title, passages[row[0]].contents, passages[candidate].contents)
        for title, row in zip(titles, drawn, strict=True)
        for candidate in row[1:]
    ]
    shuffled = [triplets[i] for i in np.random.default_rng(13).permutation(len(triplets))]
    different = list(dict.fromkeys((q, p) for q, *both in triplets for p in both))
    loop = "GPL's loop, sentence-transformers"
    contenders: dict[str, Contender] = {loop: lambda: partial(gpl_loop, peer, shuffled)}
    contenders |= {who: partial(partial, each.score, different) for who, each in teachers.items()}
    scored = {name: len(different) for name in contenders} | {loop: 2 * len(triplets)}
    show(
        take_turns(contenders, ROUNDS),
        f"{len(drawn)} queries with {CANDIDATES} candidates each",
        "margins",
        len(triplets),
        peers=[loop],
        extra={"pairs scored": {name: f"{pairs:,}" for name, pairs in scored.items()}},
    )


def predict(peer: CrossEncoder, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Logits by sentence-transformers."""
    logits: np.ndarray = peer.predict(list(pairs), activation_fn=nn.Identity())
    return logits


def gpl_loop(peer: CrossEncoder, triplets: Sequence[tuple[str, str, str]]) -> list[float]:
    """A margin for each (query, positive, negative), some triplets a call."""
    margins: list[float] = []
    for start in range(0, len(triplets), TRIPLETS_A_CALL):
        part = triplets[start : start + TRIPLETS_A_CALL]
        logits = predict(peer, [(q, p) for q, *both in part for p in both])
        margins += (logits[0::2] - logits[1::2]).tolist()
    return margins


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
