"""Texts of unlike length in batches: cut, padded little, the same however many processes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# They count positions from after the padding token's id, so that many embeddings are never used.
_OFFSET_POSITIONS = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})


def position_limit(config: Any) -> int:
    """The longest input in tokens, special ones included, of a transformers model's config."""
    positions = getattr(config, "max_position_embeddings", None) or 1_000_000
    return positions - (config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0)


def plan_batches(lengths: Sequence[int] | np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Positions of `lengths` in batches, longest first, each within `batch_tokens` when padded.

    A pure function of its arguments, so processes that share a job agree on its batches. Longest
    first: memory runs out at once or never. A text above the limit is a batch of its own.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def cut_batch(
    inputs: Mapping[str, Tensor], chunk_tokens: int
) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Chunks of padded inputs [texts, tokens]: their rows, int64 [texts], and what stands in them.

    A chunk has texts of like length, cut to its longest, and is within `chunk_tokens` as
    `plan_batches` has it: of texts of unlike length, most of what is computed is padding.
    """
    lengths = inputs["attention_mask"].sum(dim=1)
    chunks = []
    for positions in plan_batches(lengths.cpu().numpy(), chunk_tokens):
        rows = torch.from_numpy(positions).to(lengths.device)
        longest = int(lengths[rows[0]])
        chunks.append((rows, {name: value[rows, :longest] for name, value in inputs.items()}))
    return chunks


def encode_cut(
    encode: Callable[[Mapping[str, Tensor]], Tensor],
    inputs: Mapping[str, Tensor],
    chunk_tokens: int,
) -> Tensor:
    """`encode(inputs)` [texts, dimension] by chunks, in the order given; differentiable."""
    if "vectors" in inputs or inputs["attention_mask"].numel() <= chunk_tokens:
        return encode(inputs)
    chunks = cut_batch(inputs, chunk_tokens)
    encoded = torch.cat([encode(chunk) for _, chunk in chunks])
    return encoded[torch.cat([rows for rows, _ in chunks]).argsort()]


def pad(rows: Sequence[Sequence[int] | np.ndarray], value: int) -> tuple[np.ndarray, np.ndarray]:
    """`rows` filled up with `value`, and a mask of what they were: int64 [rows, longest]."""
    lengths = np.array([len(row) for row in rows])
    present = np.arange(lengths.max())[None, :] < lengths[:, None]
    padded = np.full(present.shape, value, dtype=np.int64)
    padded[present] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return padded, present.astype(np.int64)


def run_halving(run: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> np.ndarray:
    """`run(batch)`, in halves as often as the GPU's memory asks for; rows in the batch's order."""
    try:
        return run(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside the handler, which would keep the failed batch's tensors alive.
    torch.cuda.empty_cache()
    half = len(batch) // 2
    return np.concatenate([run_halving(run, batch[:half]), run_halving(run, batch[half:])])


def cut_count(encoded: Any, limit: int) -> int:
    """How many of a tokenizer's results, truncated to `limit`, were longer."""
    if encoded.encodings is None:  # a tokenizer in Python does not tell: those at the limit
        return sum(len(ids) == limit for ids in encoded["input_ids"])
    return sum(len(each) == limit and bool(each.overflowing) for each in encoded.encodings)


def cut_texts(tokenizer: Any, texts: Sequence[str], tokens: int) -> list[str]:
    """Each text's beginning, as far as its first `tokens` tokens reach."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=True,
        max_length=tokens,
        return_offsets_mapping=True,
    )
    ends = (offsets[-1][1] if offsets else 0 for offsets in encoded["offset_mapping"])
    return [text[:end] for text, end in zip(texts, ends, strict=True)]
