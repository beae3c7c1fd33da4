"""Triplets -> a batch: texts tokenised once before training, each passage once in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tercet.core.mapped import Vectors
from tercet.modeling.encoders.bi_encoder import BiEncoder, Kind

#: What the Trainer leaves out when it counts the labels of a batch.
IGNORED = -100.0


class BatchSide(Protocol):
    """The queries or the passages of a data set, by row."""

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """A batch of them, as the student takes it."""
        ...


class TokenizedTexts:
    """A side that the student reads: token ids, made once before training."""

    def __init__(self, encoder: BiEncoder, texts: Sequence[str], kind: Kind) -> None:
        self._encoder = encoder
        self.ids = [np.array(ids, np.int32) for ids in encoder.tokenize(texts, kind)]

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """As `BiEncoder.collate`."""
        return self._encoder.collate([self.ids[row] for row in rows])


class Known:
    """A side whose vectors are known, float32 [rows, dimension], in memory or mapped."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`vectors`, float32 [rows, dimension]."""
        return {"vectors": torch.from_numpy(self._vectors[np.asarray(rows, np.int64)])}


class TripletCollator:
    """Puts together the queries and the different passages of a batch, and what belongs together.

    A batch has `query` and `passage` (as their sides give them), `positive` int64 [queries] and
    `negative` int64 [queries, negatives] (rows of `passage`), `labels` float32 [queries,
    negatives], the target margins, IGNORED where a query has fewer, `passage_number` int64
    [passages], the same for equal passages in every batch of every process, and `near` int64
    [queries, most], such numbers of what is no negative of a query, -1 where it has fewer.
    """

    def __init__(self, queries: BatchSide, passages: BatchSide, number: Mapping[str, int]) -> None:
        """`number` has the row of each passage's id in `passages`, one for equal passages."""
        self._queries, self._passages, self._number = queries, passages, number

    @classmethod
    def of_texts(
        cls, encoder: BiEncoder, queries: Sequence[str], passages: Mapping[str, str]
    ) -> TripletCollator:
        """Both sides read; `passages` are texts by id, and equal where their tokens are."""
        side = TokenizedTexts(encoder, list(passages.values()), "passage")
        rows: dict[bytes, int] = {}
        number = {
            name: rows.setdefault(ids.tobytes(), row)
            for row, (name, ids) in enumerate(zip(passages, side.ids, strict=True))
        }
        return cls(TokenizedTexts(encoder, queries, "query"), side, number)

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
            "query": self._queries([item["query"] for item in items]),
            "passage": self._passages(list(rows)),
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


def margins(queries: Tensor, passages: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """float32 [queries, negatives]: each query's score of its positive above each negative's."""
    scores = queries @ passages.T
    return scores.gather(1, positive.unsqueeze(1)) - scores.gather(1, negative)
