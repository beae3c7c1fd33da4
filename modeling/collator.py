"""Triplets -> a batch: texts tokenised once before training, each passage encoded once a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tercet.modeling.encoder import BiEncoder

#: What the Trainer leaves out when it counts the labels of a batch.
IGNORED = -100.0


class TripletCollator:
    """Pads the queries and the different passages of a batch, and says which belong together.

    A batch has `query` and `passage` (the encoder's inputs), `positive` int64 [queries] and
    `negative` int64 [queries, negatives] (rows of `passage`), and `labels` float32 [queries,
    negatives], the target margins, IGNORED where a query has fewer.
    """

    def __init__(
        self, encoder: BiEncoder, queries: Sequence[str], passages: Mapping[str, str]
    ) -> None:
        self.encoder = encoder
        self._queries = [_compact(ids) for ids in encoder.tokenize(queries, "query")]
        tokens = encoder.tokenize(list(passages.values()), "passage")
        self._passages = {name: _compact(ids) for name, ids in zip(passages, tokens, strict=True)}

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One batch of items with `query` (a row), `passages` (ids) and `margins`."""
        rows: dict[str, int] = {}
        for item in items:
            for passage in item["passages"]:
                rows.setdefault(passage, len(rows))
        widest = max(len(item["margins"]) for item in items)
        labels = torch.full((len(items), widest), IGNORED)
        negative = torch.zeros((len(items), widest), dtype=torch.int64)
        for i, item in enumerate(items):
            count = len(item["margins"])
            labels[i, :count] = torch.from_numpy(item["margins"])
            negative[i, :count] = torch.tensor([rows[passage] for passage in item["passages"][1:]])
        positive = torch.tensor([rows[item["passages"][0]] for item in items])
        return {
            "query": self.encoder.collate([self._queries[item["query"]] for item in items]),
            "passage": self.encoder.collate([self._passages[passage] for passage in rows]),
            "positive": positive,
            "negative": negative,
            "labels": labels,
        }


def _compact(ids: Sequence[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int32)


def margins(queries: Tensor, passages: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """float32 [queries, negatives]: each query's score of its positive above each negative's."""
    scores = queries @ passages.T
    return scores.gather(1, positive.unsqueeze(1)) - scores.gather(1, negative)
