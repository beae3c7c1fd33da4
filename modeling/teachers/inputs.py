"""A pair of texts -> the tokens that a reranker reads.

Whatever the form, a pair is cut to `max_length` tokens by cutting the passage; a query is cut only
if it is longer than half of that, to half. What a form adds around the pair is never cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tercet.core.schema import InputError
from tercet.modeling.batching import cut_count, cut_texts, shortened

Pairs = Sequence[tuple[str, str]]
#: Inputs of a network by name, each int32 [tokens] of every pair.
Rows = dict[str, list[np.ndarray]]

_TOKENIZE_AT_ONCE = 4_096  # pairs
_ANY = 1_000_000  # tokens: more than any form has


class PairInputs(Protocol):
    """Makes the tokens of pairs."""

    tokenizer: Any
    #: The most tokens of a pair.
    longest: int
    #: Counts of cut texts, for `tercet.core.resources`.
    counts: Counter[str]

    def lengths(self, pairs: Pairs) -> np.ndarray:
        """int64 [len(pairs)]: tokens of each pair after truncation, special ones included."""
        ...

    def tokenize(self, pairs: Pairs) -> Rows:
        """The tokens of each pair, by the names of the network's inputs, without padding."""
        ...


class TwoTexts:
    """The tokenizer's own form of two texts, as classifiers of pairs read it."""

    def __init__(
        self, tokenizer: Any, names: Sequence[str], max_length: int, prompt: str = ""
    ) -> None:
        """`names` are the network's inputs; `prompt` stands before each query."""
        self.tokenizer, self.longest, self.prompt = tokenizer, max_length, prompt
        self.counts: Counter[str] = Counter()
        self._names = [name for name in names if name != "attention_mask"]

    def lengths(self, pairs: Pairs) -> np.ndarray:
        """As `PairInputs.lengths`; each text is read once."""
        # A pair's tokens are those of its two texts and the special tokens.
        query = self._alone(dict.fromkeys(query for query, _ in pairs), self.prompt)
        passage = self._alone(dict.fromkeys(passage for _, passage in pairs))
        special = self.tokenizer.num_special_tokens_to_add(pair=True)
        whole = [min(query[q], self.longest // 2) + passage[p] + special for q, p in pairs]
        return np.minimum(np.array(whole, dtype=np.int64), self.longest)

    def _alone(self, different: Iterable[str], prompt: str = "") -> dict[str, int]:
        texts = list(different)
        counted = count_tokens(self.tokenizer, [prompt + text for text in texts], self.longest)
        return dict(zip(texts, counted, strict=True))

    def tokenize(self, pairs: Pairs) -> Rows:
        """As `PairInputs.tokenize`."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        # With the query at most half, cutting the passage suffices.
        prompted = [self.prompt + query for query in queries]
        shorter = cut_texts(self.tokenizer, prompted, self.longest // 2)
        cut = dict(zip(queries, shorter, strict=True))
        rows: Rows = {name: [] for name in self._names}
        for start in range(0, len(pairs), _TOKENIZE_AT_ONCE):
            chunk = pairs[start : start + _TOKENIZE_AT_ONCE]
            short = shortened(self.tokenizer, (passage for _, passage in chunk), self.longest)
            encoded = self.tokenizer(
                [cut[query] for query, _ in chunk],
                [short.get(passage, passage) for _, passage in chunk],
                truncation="only_second",
                max_length=self.longest,
                return_token_type_ids="token_type_ids" in self._names,
            )
            self.counts["cut"] += cut_count(encoded, self.longest)
            for name in self._names:
                rows[name] += [np.array(row, dtype=np.int32) for row in encoded[name]]
        return rows


@dataclass(frozen=True)
class Form:
    """A text with a query and a passage in it, of parts that are tokenised apart.

    `parts` gives as many texts as it is asked for; `around` the tokens before, between and after
    them, one more than there are parts.
    """

    parts: Callable[[str, str], Sequence[str]]
    around: Sequence[Sequence[int]]


class OneText:
    """A form with a query and a passage in it, as language models read it."""

    def __init__(self, tokenizer: Any, form: Form, max_length: int, *, name: str) -> None:
        """`max_length` is of query and passage; `longest` has the rest of the form too."""
        self.tokenizer, self.form, self._name = tokenizer, form, name
        self.counts: Counter[str] = Counter()
        self.longest = _ANY
        self.frame = len(self._tokens([("", "")])[0])
        self._room = max_length
        self.longest = max_length + self.frame

    def lengths(self, pairs: Pairs) -> np.ndarray:
        """As `PairInputs.lengths`; tokens that join texts are not known, a few at most."""
        query = self._alone(dict.fromkeys(query for query, _ in pairs))
        passage = self._alone(dict.fromkeys(passage for _, passage in pairs))
        whole = [min(query[q], self._room // 2) + passage[p] for q, p in pairs]
        return np.minimum(np.array(whole, dtype=np.int64), self._room) + self.frame

    def _alone(self, different: Iterable[str]) -> dict[str, int]:
        texts = list(different)
        return dict(zip(texts, count_tokens(self.tokenizer, texts, self._room), strict=True))

    def tokenize(self, pairs: Pairs) -> Rows:
        """As `PairInputs.tokenize`."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        shorter = dict(
            zip(queries, cut_texts(self.tokenizer, queries, self._room // 2), strict=True)
        )
        rows: list[np.ndarray] = []
        for start in range(0, len(pairs), _TOKENIZE_AT_ONCE):
            chunk = [(shorter[q], p) for q, p in pairs[start : start + _TOKENIZE_AT_ONCE]]
            short = shortened(self.tokenizer, (p for _, p in chunk), self.longest)
            found = self._tokens([(q, short.get(p, p)) for q, p in chunk])
            long = [i for i, row in enumerate(found) if len(row) > self.longest]
            self.counts["cut"] += len(long)
            for i in long:
                found[i] = self._cut(*chunk[i], len(found[i]))
            rows += [np.array(row, dtype=np.int32) for row in found]
        return {"input_ids": rows}

    def _cut(self, query: str, passage: str, length: int) -> list[int]:
        """The tokens of a pair that has `length`, its passage cut until they fit."""
        room = self.longest - len(self._tokens([(query, "")])[0])
        row = [0] * length
        # Joined texts may have other tokens than each alone: a few rounds.
        while len(row) > self.longest and room > 0:
            (shorter,) = cut_texts(self.tokenizer, [passage], room)
            (row,) = self._tokens([(query, shorter)])
            room -= max(1, len(row) - self.longest)
        if len(row) > self.longest:
            raise InputError(
                f"model {self._name!r}: {self.longest} tokens do not suffice for query "
                f"{query[:60]!r}: raise teacher.max_length"
            )
        return row

    def _tokens(self, pairs: Pairs) -> list[list[int]]:
        """The tokens of the whole form of each pair; not all where they are too many."""
        parts = [self.form.parts(query, passage) for query, passage in pairs]
        first, *between = self.form.around
        rows = [list(first) for _ in parts]
        for place, after in enumerate(between if parts else ()):
            encoded = self.tokenizer(
                [part[place] for part in parts],
                add_special_tokens=False,
                truncation=True,  # a longer one is cut in any case
                max_length=self.longest + 1,
            )
            for row, ids in zip(rows, encoded["input_ids"], strict=True):
                row += [*ids, *after]
        return rows


def count_tokens(tokenizer: Any, texts: Sequence[str], most: int) -> list[int]:
    """Count the tokens of each text, without special ones; those beyond `most` do not count."""
    counts: list[int] = []
    for start in range(0, len(texts), _TOKENIZE_AT_ONCE):
        chunk = texts[start : start + _TOKENIZE_AT_ONCE]
        short = shortened(tokenizer, chunk, most)
        encoded = tokenizer(
            [short.get(text, text) for text in chunk],
            add_special_tokens=False,
            truncation=True,
            max_length=most,
        )
        counts += map(len, encoded["input_ids"])
    return counts
