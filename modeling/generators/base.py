"""The base class of query generators: batching, seeding, and clean-up of queries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tercet.core.console import count_batch
from tercet.core.schema import InputError, Passage
from tercet.modeling.batching import cut_count

_QUOTES = "\"'`“”‘’«»„"


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters: docTTTTTquery's top-k and nucleus sampling, as in GPL."""

    top_k: int = 25
    top_p: float = 0.95
    temperature: float = 1.0
    max_new_tokens: int = 64


class Sampler(ABC):
    """Batches, seeds and cleans up; a subclass defines the model's input and output."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str,
        identity: str,
        sampling: Sampling,
        batch_size: int,
        passage_tokens: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.identity = identity
        self.sampling = sampling
        self.batch_size = batch_size
        self.passage_tokens = passage_tokens
        #: Counts of tokens and cut texts, for `tercet.core.resources`.
        self.counts: Counter[str] = Counter()
        self._name = name

    @property
    def name(self) -> str:
        """The name or path of the model."""
        return self._name

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        """Return up to `per_passage` distinct queries for each passage, in the order given.

        Equal arguments give equal queries, and so do the same passages in another order; the
        caller's random state is unchanged. A passage may get fewer: empty and repeated queries
        are dropped. `batch_size` counts queries, not passages.
        """
        if per_passage < 1:
            raise InputError(f"queries per passage must be at least 1, not {per_passage}")
        ids = self._inputs([passage.contents for passage in passages])
        self.counts["tokens"] += sum(map(len, ids))
        # By length for little padding, then by content so that the caller's order does not matter.
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), ids[i]))
        queries: list[list[str]] = [[] for _ in passages]
        rows = max(1, self.batch_size // per_passage)
        batches = [order[start : start + rows] for start in range(0, len(order), rows)]
        found = self._written([[ids[i] for i in batch] for batch in batches], per_passage, seed)
        for batch, texts in zip(batches, found, strict=True):
            new = sum(map(len, self._ids_of(texts)))
            self.counts["written"] += new
            count_batch(len(batch), new)
            for row, i in enumerate(batch):
                written = texts[row * per_passage : (row + 1) * per_passage]
                tidied = dict.fromkeys(tidy(text) for text in written)
                queries[i] = [query for query in tidied if query and self._is_new(query)]
        return queries

    def tokens_read(self, contents: list[str]) -> int:
        """Count the tokens that the model reads for these passages, prompts included."""
        return sum(map(len, self._inputs(contents)))

    @abstractmethod
    def _inputs(self, contents: list[str]) -> list[list[int]]:
        """Return the model's input for each passage, as token ids."""

    def cut_ids(self, contents: list[str]) -> list[list[int]]:
        """Tokenize passages without a prompt, each cut to `passage_tokens`."""
        if not contents:
            return []
        encoded = self.tokenizer(contents, truncation=True, max_length=self.passage_tokens)
        self.counts["cut"] += cut_count(encoded, self.passage_tokens)
        return encoded["input_ids"]

    def _ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts without special tokens."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def _is_new(self, query: str) -> bool:
        return True

    @abstractmethod
    def _written(
        self, batches: list[list[list[int]]], per_passage: int, seed: int
    ) -> Iterable[list[str]]:
        """Generate for each batch of `_inputs`: `per_passage` texts for each row, row by row.

        The seed decides them, and the random state outside is unchanged.
        """


def tidy(text: str) -> str:
    """The first line of a text, without enclosing quotation marks."""
    line = text.partition("\n")[0].strip()
    if len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
        line = line[1:-1].strip()
    return line
