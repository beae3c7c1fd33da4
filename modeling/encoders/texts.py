"""Texts -> token ids, with prompts and lengths -> the padded inputs of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tercet.core.text import as_texts
from tercet.modeling.batching import cut_count, pad
from tercet.modeling.encoders.st_format import EncoderConfig

Kind = Literal["query", "passage"]

_TOKENIZE_AT_ONCE = 4_096  # texts; bounds the memory of the tokenizer's intermediate objects
#: The input that tells which tokens are pooled, where that is not all.
COUNTED = "counted"


class TextReader:
    """A tokenizer with an encoder's prompts, lengths and padding."""

    def __init__(self, tokenizer: Any, config: EncoderConfig) -> None:
        self._tokenizer, self._config = tokenizer, config
        #: Counts of tokens and cut texts, for `tercet.core.resources`.
        self.counts: Counter[str] = Counter()
        #: Token types other than 0 of a single text, by the special token that has one.
        self.segments = _segments(tokenizer)
        #: How many of a text's first tokens pooling leaves out.
        self.skipped = {kind: self._prompt_tokens(kind) for kind in get_args(Kind)}

    def tokenize(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        """Token ids of each text with its prompt and special tokens, truncated; not padded."""
        texts, query = as_texts(texts), kind == "query"
        prompt = self._config.query_prompt if query else self._config.passage_prompt
        limit = self._config.query_max_length if query else self._config.max_length
        ids: list[list[int]] = []
        for start in range(0, len(texts), _TOKENIZE_AT_ONCE):
            chunk = [prompt + text for text in texts[start : start + _TOKENIZE_AT_ONCE]]
            if self._config.lower_case:
                chunk = [text.lower() for text in chunk]
            encoded = self._tokenizer(
                chunk,
                truncation=True,
                max_length=limit,
                add_special_tokens=not self._config.static,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            self.counts["cut"] += cut_count(encoded, limit or 0)
            self.counts["tokens"] += sum(map(len, encoded["input_ids"]))
            ids += encoded["input_ids"]
        return ids

    def arrays(self, texts: Sequence[str], kind: Kind) -> list[np.ndarray]:
        """As `tokenize`, in int32 arrays."""
        # int32 arrays take a tenth of the memory of lists: ten million passages must fit.
        arrays: list[np.ndarray] = []
        for start in range(0, len(texts), _TOKENIZE_AT_ONCE):
            chunk = self.tokenize(texts[start : start + _TOKENIZE_AT_ONCE], kind)
            arrays += [np.array(ids, dtype=np.int32) for ids in chunk]
        return arrays

    def collate(
        self, ids: Sequence[Sequence[int] | np.ndarray], kind: Kind | None = None
    ) -> dict[str, Tensor]:
        """Return padded input_ids and attention_mask, int64 [len(ids), longest].

        Padding is on the tokenizer's side. Token types are there for models that give a single
        text several, and what is counted in pooling where it leaves the prompt of `kind` out.
        """
        padded, present = pad(ids, self._tokenizer.pad_token_id, self._tokenizer.padding_side)
        inputs = {"input_ids": padded, "attention_mask": present}
        if self.segments:
            types = np.zeros_like(padded)
            for token, segment in self.segments.items():
                types[(padded == token) & (present > 0)] = segment
            inputs["token_type_ids"] = types
        if kind is not None and self.skipped[kind]:
            place = present.cumsum(axis=1)
            inputs[COUNTED] = present * (place > self.skipped[kind])
        return {name: torch.from_numpy(value) for name, value in inputs.items()}

    def _prompt_tokens(self, kind: Kind) -> int:
        """How many of a text's first tokens pooling leaves out: those of its prompt.

        The prompt is tokenized alone; a special token at its end is the text's.
        """
        config = self._config
        prompt = config.query_prompt if kind == "query" else config.passage_prompt
        if config.include_prompt or not prompt:
            return 0
        ids = self._tokenizer(prompt.lower() if config.lower_case else prompt)["input_ids"]
        return len(ids) - (ids[-1] in self._tokenizer.all_special_ids)


def _segments(tokenizer: Any) -> dict[int, int]:
    """Token types other than 0 of a single text, by the special token that has one."""
    encoded = tokenizer("a")
    types = encoded.get("token_type_ids") or []
    return {i: kind for i, kind in zip(encoded["input_ids"], types, strict=False) if kind}
