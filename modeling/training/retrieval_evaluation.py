"""Retrieval evaluation during training: encode, index, search, measure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from tercet.core.console import WORTH_A_BAR, progress
from tercet.core.mapped import Vectors, map_scratch, new_scratch
from tercet.core.processes import is_main_process, process
from tercet.core.resources import trim_memory
from tercet.core.schema import Encoder, Index, Qrels, Query
from tercet.modeling.distributed import _attempt, _raise_first, _share, from_first_process
from tercet.modeling.encoders.protocols import Student


class Measure(Protocol):
    """Searches an index with an encoder's queries: measure -> query id -> figure."""

    def __call__(
        self,
        encoder: Encoder,
        index: Index,
        queries: Sequence[Query],
        qrels: Qrels,
        measures: Sequence[str],
    ) -> Mapping[str, Mapping[str, float]]:
        """Figures of every query of the qrels."""
        ...


#: Split -> measure -> query id -> figure.
Found = Mapping[str, Mapping[str, Mapping[str, float]]]


class RetrievalEvaluation:
    """Encodes the evaluation corpus, fills a fresh index, searches it with each split's queries.

    With frozen passages it encodes queries alone.

    Encoding is shared between the processes, block by block into a file in `scratch` that loses its
    name at once; the search is the first one's.
    """

    def __init__(
        self,
        encoder: Student,
        ids: Sequence[str],
        contents: Sequence[str],
        splits: Mapping[str, tuple[Sequence[Query], Qrels]],
        *,
        make_index: Callable[[], Index],
        search: Measure,
        measures: Sequence[str],
        blocks: Sequence[np.ndarray],
        scratch: Path,
        zero_shot_vectors: Vectors | None = None,
        frozen: bool = False,
    ) -> None:
        """`blocks` share out the rows of the passages, int64 [rows] each, as encoded together.

        `frozen` says that the passages' vectors are `zero_shot_vectors` whatever is learnt.
        """
        self.encoder, self.ids, self.contents = encoder, ids, contents
        self.splits, self.measures = splits, measures
        self.make_index, self.search = make_index, search
        self.blocks, self.scratch = blocks, scratch
        #: Vectors of the model as it came, which need not encode the corpus again.
        self.zero_shot_vectors = zero_shot_vectors
        self.frozen = frozen
        #: What was encoded last, and the weights that it was encoded with.
        self._encoded: tuple[str, Vectors] | None = None
        self.searches = 0
        #: The index that was searched last, if it was to be kept; the first process has it.
        self.index: Index | None = None

    def measure(self, *, zero_shot: bool = False, keep: bool = False) -> Found:
        """Every query's figures by the current weights, in every process.

        `zero_shot` says that they are those of the model as it came; `keep` leaves the index in
        `self.index` for the caller, who discards it.
        Raises InputError or RuntimeError in every process, with its message, if it fails in one.
        """
        given = self.zero_shot_vectors if zero_shot or self.frozen else None
        vectors = self._vectors() if given is None else given
        return from_first_process(lambda: self._search(vectors, keep))

    def _vectors(self) -> Vectors:
        """The passages' by the current weights: those of the last time, if they are the same."""
        weights = weights_digest(self.encoder.trained)
        if self._encoded is None or self._encoded[0] != weights:
            self._encoded = None  # its file goes before the next one comes
            shape = len(self.ids), self.encoder.dimension
            path = Path(from_first_process(lambda: str(new_scratch(self.scratch, *shape))))
            vectors = map_scratch(path, *shape)
            given = self.encoder, self.contents, self.blocks, vectors, process()
            errors = _share(_attempt(lambda: encode_blocks(*given))[0])
            if is_main_process():
                path.unlink()
            _raise_first(errors)
            self._encoded = weights, vectors
        return self._encoded[1]

    def _search(self, vectors: Vectors, keep: bool) -> Found:
        index = self.make_index()
        try:
            index.build(self.ids, vectors)
            self.searches += 1
            found = {
                name: self.search(self.encoder, index, queries, qrels, self.measures)
                for name, (queries, qrels) in self.splits.items()
            }
        except BaseException:
            index.discard()
            raise
        if keep:
            self.index = index
        else:
            index.discard()
        return found


def encode_blocks(
    encoder: Encoder,
    contents: Sequence[str],
    blocks: Sequence[np.ndarray],
    vectors: np.memmap,
    place: tuple[int, int] = (0, 1),
) -> None:
    """Fill in the `vectors` of passages, float32 [passages, dimension].

    `blocks` are rows, int64 [rows] each, that are encoded together; `place` is the rank of this
    process and how many there are, to which the blocks are dealt in turn.
    """
    rank, world = place
    mine = blocks[rank::world]
    shown = is_main_process() and len(contents) >= WORTH_A_BAR
    total = sum(map(len, mine))
    with progress("embedding passages", total, "passages", shown=shown) as advance:
        for rows in mine:
            vectors[rows] = encoder.encode_passages([contents[row] for row in rows.tolist()])
            trim_memory()
            advance(len(rows))
    vectors.flush()


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters: the best epoch is often the last, and is encoded by then."""
    whole = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        whole.update(name.encode())
        whole.update(value.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def means(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Measure -> mean over queries."""
    return {name: float(np.mean(list(values.values()))) for name, values in figures.items()}
