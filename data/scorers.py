"""A bi-encoder as a scorer of pairs, and the sum of several scorers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tercet.core.mapped import Rows, Vectors
from tercet.core.schema import Encoder, InputError, Teacher
from tercet.core.text import excerpt
from tercet.data.passages import Passages


class DenseScorer:
    """A `Teacher` that scores by the dot product of a query's vector and a passage's.

    `vectors`, float32 [passages, dimension], are the encoder's of `passages`: no other passage can
    be scored.
    """

    def __init__(self, encoder: Encoder, passages: Passages, vectors: Vectors) -> None:
        self._encoder, self._vectors = encoder, vectors
        self._rows = Rows(passages.contents)
        self.name = encoder.name

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """int64 [len(pairs)]: 1 each, so that the pairs of a query stay together."""
        return np.ones(len(pairs), dtype=np.int64)

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """float32 [len(pairs)] similarities; each different query is encoded once.

        Raises InputError for a text that is no passage.
        """
        rows = self._rows.of([passage for _, passage in pairs])
        if (rows < 0).any():
            _, passage = pairs[int(np.argmax(rows < 0))]
            raise InputError(f"{self.name} has no vector of {excerpt(passage, 80)!r}: no passage")
        queries = {query: place for place, query in enumerate(dict.fromkeys(q for q, _ in pairs))}
        encoded = self._encoder.encode_queries(list(queries))
        of_pairs = encoded[[queries[query] for query, _ in pairs]]
        return (of_pairs * self._vectors[rows]).sum(axis=1, dtype=np.float32)


class KnownScorer:
    """A `Teacher` that gives another each different pair once."""

    def __init__(self, scorer: Teacher) -> None:
        self._scorer, self._known = scorer, dict[tuple[str, str], float]()
        self.name, self.lengths = scorer.name, scorer.lengths

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """float32 [len(pairs)] scores."""
        if new := [pair for pair in dict.fromkeys(pairs) if pair not in self._known]:
            self._known |= zip(new, self._scorer.score(new).tolist(), strict=True)
        return np.array([self._known[pair] for pair in pairs], np.float32)


class MixedScorer:
    """A `Teacher` that scores by the sum of several scorers' scores, each times its factor."""

    def __init__(self, name: str, scorers: Sequence[tuple[Teacher, float]]) -> None:
        self.name, self._scorers = name, scorers

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """int64 [len(pairs)]: those of the scorer for which pairs are longest."""
        return np.max([scorer.lengths(pairs) for scorer, _ in self._scorers], axis=0)

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """float32 [len(pairs)] sums."""
        parts = [
            factor * scorer.score(pairs).astype(np.float64) for scorer, factor in self._scorers
        ]
        return np.sum(parts, axis=0).astype(np.float32)
