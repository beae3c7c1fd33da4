"""Triplets -> a batch: texts tokenised once before training, each passage encoded once a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tercet.modeling.encoder import BiEncoder

#: What the Trainer leaves out when it counts the labels of a batch.
IGNORED = -100.0


class TripletCollator:
    """Pads the queries and the different passages of a batch, and says which belong together.

    A batch has `query` and `passage` (the encoder's inputs), `positive` int64 [queries] and
    `negative` int64 [queries, negatives] (rows of `passage`), `labels` float32 [queries,
    negatives], the target margins, IGNORED where a query has fewer, `passage_number` int64
    [passages], the same for the same tokens in every batch of every process, and `near` int64
    [queries, most], such numbers of what is no negative of a query, -1 where it has fewer.
    """

    def __init__(
        self, encoder: BiEncoder, queries: Sequence[str], passages: Mapping[str, str]
    ) -> None:
        self.encoder = encoder
        self._queries = [_compact(ids) for ids in encoder.tokenize(queries, "query")]
        tokens = map(_compact, encoder.tokenize(list(passages.values()), "passage"))
        first: dict[bytes, int] = {}
        self._passages: list[np.ndarray] = []
        self._number: dict[str, int] = {}
        for name, ids in zip(passages, tokens, strict=True):
            self._number[name] = first.setdefault(ids.tobytes(), len(first))
            if len(first) > len(self._passages):
                self._passages.append(ids)

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One batch of items with `query` (a row), `passages` (ids), `margins` and `near` (ids)."""
        rows: dict[int, int] = {}
        places = [
            [rows.setdefault(self._number[passage], len(rows)) for passage in item["passages"]]
            for item in items
        ]
        widest = max(len(item["margins"]) for item in items)
        labels = torch.full((len(items), widest), IGNORED)
        negative = torch.zeros((len(items), widest), dtype=torch.int64)
        for i, item in enumerate(items):
            count = len(item["margins"])
            labels[i, :count] = torch.from_numpy(item["margins"])
            negative[i, :count] = torch.tensor(places[i][1:])
        return {
            "query": self.encoder.collate([self._queries[item["query"]] for item in items]),
            "passage": self.encoder.collate([self._passages[number] for number in rows]),
            "passage_number": torch.tensor(list(rows)),
            "positive": torch.tensor([first for first, *_ in places]),
            "negative": negative,
            "near": self._numbers([item.get("near", ()) for item in items]),
            "labels": labels,
        }

    def _numbers(self, lists: Sequence[Sequence[str]]) -> Tensor:
        """Int64 [lists, longest]: numbers of passages, -1 where there are no more."""
        rows = [torch.tensor([self._number[p] for p in ids], dtype=torch.int64) for ids in lists]
        return pad_sequence(rows, batch_first=True, padding_value=-1)


def _compact(ids: Sequence[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int32)


def margins(queries: Tensor, passages: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """float32 [queries, negatives]: each query's score of its positive above each negative's."""
    scores = queries @ passages.T
    return scores.gather(1, positive.unsqueeze(1)) - scores.gather(1, negative)
