"""Triplets -> a batch with each distinct passage once; texts are tokenised before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tercet.core.mapped import Vectors
from tercet.modeling.encoders.bi_encoder import BiEncoder, Kind

#: The label that the Trainer does not count among a batch's labels.
IGNORED = -100.0


#: A target margin beyond this overflows float32 in a squared error.
_LARGEST = 1e18


class BatchSide(Protocol):
    """The queries or the passages of a data set, by row."""

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch of these rows as inputs of `Student.embed`."""
        ...


class TokenizedTexts:
    """A side that the student encodes: token ids, made once before training."""

    def __init__(self, encoder: BiEncoder, texts: Sequence[str], kind: Kind) -> None:
        self._encoder, self._kind = encoder, kind
        self.ids = [np.array(ids, np.int32) for ids in encoder.tokenize(texts, kind)]

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return padded inputs, as `BiEncoder.collate`."""
        return self._encoder.collate([self.ids[row] for row in rows], self._kind)


class Known:
    """A side whose vectors exist, float32 [rows, dimension], in memory or memory-mapped."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return `vectors`, float32 [rows, dimension]."""
        return {"vectors": torch.from_numpy(self._vectors[np.asarray(rows, np.int64)])}


class TripletCollator:
    """Collates lists into a batch of queries and distinct passages.

    Queries share passages, so encoding each once saves work. A batch has:

    - `query` and `passage`: as their sides return them;
    - `positive` int64 [queries], `negative` int64 [queries, negatives]: rows of `passage`;
    - `labels` float32 [queries, negatives]: the target margins, IGNORED beyond a query's own;
    - `passage_number` int64 [passages]: equal for equal passages in all batches and processes;
    - `row` int64 [queries]: the queries' rows in the data set;
    - `near` int64 [queries, most]: numbers of passages that are not negatives of the query,
      -1 beyond its own.
    """

    def __init__(self, queries: BatchSide, passages: BatchSide, number: Mapping[str, int]) -> None:
        """`number` maps passage ids to rows of `passages`; equal passages have one number."""
        self._queries, self._passages, self._number = queries, passages, number

    @classmethod
    def of_texts(
        cls, encoder: BiEncoder, queries: Sequence[str], passages: Mapping[str, str]
    ) -> TripletCollator:
        """Encode both sides; `passages` are texts by id, equal if their tokens are."""
        side = TokenizedTexts(encoder, list(passages.values()), "passage")
        rows: dict[bytes, int] = {}
        number = {
            name: rows.setdefault(ids.tobytes(), row)
            for row, (name, ids) in enumerate(zip(passages, side.ids, strict=True))
        }
        return cls(TokenizedTexts(encoder, queries, "query"), side, number)

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate items with `query` (a row), `passages` (ids), `margins` and `near` (ids)."""
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
            "row": torch.tensor([item["query"] for item in items]),
        }

    def _numbers(self, lists: Sequence[Sequence[str]]) -> Tensor:
        """Return passage numbers, int64 [lists, longest], padded with -1."""
        rows = [torch.tensor([self._number[p] for p in ids], dtype=torch.int64) for ids in lists]
        return pad_sequence(rows, batch_first=True, padding_value=-1)


def at_fault(queries: Tensor, passages: Tensor, batch: Mapping[str, Any]) -> list[int]:
    """Rows of the queries in a batch whose vector, passages or targets are no usable numbers."""
    usable = torch.isfinite(passages).all(dim=1)
    of_lists = usable[batch["positive"]] & usable[batch["negative"]].all(dim=1)
    labels = batch["labels"].abs().le(_LARGEST).all(dim=1)  # false for NaN too
    right = torch.isfinite(queries).all(dim=1) & of_lists & labels
    return [int(row) for row in batch["row"][~right]]


def margins(queries: Tensor, passages: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return each query's score of its positive less each negative's, [queries, negatives]."""
    scores = queries @ passages.T
    return scores.gather(1, positive.unsqueeze(1)) - scores.gather(1, negative)
