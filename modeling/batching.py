"""Batches of texts of unequal length: little padding, and equal for any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tercet.core.borders import is_out_of_memory

# Their positions start after the padding token's id, so the first embeddings are never used.
_OFFSET_POSITIONS = frozenset(
    ("camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta")
    + ("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")
)
#: The longest input of a model that takes any.
_NO_LIMIT = 1_000_000

_CHARACTERS = 16  # of a token, more than most have


def position_limit(config: Any) -> int:
    """Return the longest input of a transformers config, in tokens with special ones.

    A negative number of positions, as XLNet's, is no limit.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or 0
    if positions <= 0:
        return _NO_LIMIT
    return positions - (text.pad_token_id + 1 if text.model_type in _OFFSET_POSITIONS else 0)


def has_position_table(backbone: nn.Module) -> bool:
    """Whether positions are looked up in a table, so that padding on the left moves a text."""
    names = ("position_embeddings", "embed_positions", "wpe")
    return any(
        isinstance(getattr(module, name, None), nn.Embedding)
        for module in backbone.modules()
        for name in names
    )


def plan_batches(lengths: Sequence[int] | np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Return positions of `lengths` in batches, each within `batch_tokens` when padded.

    A pure function of its arguments, so processes that share a job agree on its batches. The
    longest come first, so that memory runs out at once or never. A text above the limit is a batch
    of its own.
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
    """Cut padded inputs [texts, tokens] into chunks: (rows int64 [texts], inputs of these rows).

    A chunk has texts of similar length, cut to its longest, and is within `chunk_tokens` as in
    `plan_batches`; with texts of unequal length, most of the computation would be padding.
    """
    attended = inputs["attention_mask"]
    lengths, left = attended.sum(dim=1), not bool(attended[:, 0].all())
    chunks = []
    for positions in plan_batches(lengths.cpu().numpy(), chunk_tokens):
        rows = torch.from_numpy(positions).to(lengths.device)
        longest = int(lengths[rows[0]])
        kept = slice(-longest, None) if left and longest else slice(longest)
        chunks.append((rows, {name: value[rows, kept] for name, value in inputs.items()}))
    return chunks


def encode_cut(
    encode: Callable[[Mapping[str, Tensor]], Tensor],
    inputs: Mapping[str, Tensor],
    chunk_tokens: int,
) -> Tensor:
    """Run `encode` on inputs in chunks; [texts, dimension] in the order given, differentiable."""
    if "vectors" in inputs or inputs["attention_mask"].numel() <= chunk_tokens:
        return encode(inputs)
    chunks = cut_batch(inputs, chunk_tokens)
    encoded = torch.cat([encode(chunk) for _, chunk in chunks])
    return encoded[torch.cat([rows for rows, _ in chunks]).argsort()]


def pad(
    rows: Sequence[Sequence[int] | np.ndarray], value: int, side: str = "right"
) -> tuple[np.ndarray, np.ndarray]:
    """Pad `rows` with `value`; return them and their mask, both int64 [rows, longest]."""
    lengths = np.array([len(row) for row in rows])
    present = np.arange(lengths.max())[None, :] < lengths[:, None]
    if side == "left":
        present = present[:, ::-1]
    padded = np.full(present.shape, value, dtype=np.int64)
    padded[present] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return padded, present.astype(np.int64)


def run_halving(run: Callable[[np.ndarray], np.ndarray], batch: np.ndarray) -> np.ndarray:
    """Return `run(batch)`, halving the batch as long as the memory does not suffice."""
    try:
        return run(batch)
    except Exception as error:  # torch's and numpy's share no narrower base
        if len(batch) == 1 or not is_out_of_memory(error):
            raise
    # Outside the handler, which would keep the failed batch's tensors alive.
    torch.cuda.empty_cache()
    half = len(batch) // 2
    return np.concatenate([run_halving(run, batch[:half]), run_halving(run, batch[half:])])


def cut_count(encoded: Any, limit: int) -> int:
    """Count the texts of a tokenizer's result that were truncated to `limit`."""
    if encoded.encodings is None:  # unknown for a tokenizer in Python: count those at the limit
        return sum(len(ids) == limit for ids in encoded["input_ids"])
    return sum(len(each) == limit and bool(each.overflowing) for each in encoded.encodings)


def shortened(tokenizer: Any, texts: Iterable[str], tokens: int) -> dict[str, str]:
    """Long texts, and the beginning of each that holds the first `tokens` tokens and more.

    To tokenise that takes a time that follows from `tokens`, not from the text. Twice as many
    tokens are kept, for those at the cut are not the whole text's.
    """
    cut: dict[str, str] = {}
    first = _CHARACTERS * tokens
    for text in dict.fromkeys(text for text in texts if len(text) > first):
        size, enough = first, False
        while size < len(text) and not enough:
            cut[text] = text[:size]
            found = tokenizer(cut[text], add_special_tokens=False, verbose=False)["input_ids"]
            enough = len(found) > 2 * tokens
            size *= 4
        if not enough:
            del cut[text]
    return cut


def cut_texts(tokenizer: Any, texts: Sequence[str], tokens: int) -> list[str]:
    """Cut each text after its first `tokens` tokens."""
    if not texts:
        return []
    if not tokenizer.is_fast:
        return [_cut_without_offsets(tokenizer, text, tokens) for text in texts]
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=True,
        max_length=tokens,
        return_offsets_mapping=True,
    )
    ends = (offsets[-1][1] if offsets else 0 for offsets in encoded["offset_mapping"])
    return [text[:end] for text, end in zip(texts, ends, strict=True)]


def _cut_without_offsets(tokenizer: Any, text: str, tokens: int) -> str:
    """The longest beginning of at most `tokens` tokens: a tokenizer in Python gives no offsets."""

    def fits(end: int) -> bool:
        read = tokenizer(
            text[:end], add_special_tokens=False, truncation=True, max_length=tokens + 1
        )
        return len(read["input_ids"]) <= tokens

    if fits(len(text)):
        return text
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return text[:low]
