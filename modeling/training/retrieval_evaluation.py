"""Retrieval evaluation during training: encode the passages, index them, search, compute metrics.

A loss on held-out triplets would not say whether the right passage is found among all others, so
every evaluation searches the corpus as `eval.py` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tercet.core.console import WORTH_A_BAR, progress
from tercet.core.mapped import Vectors, map_scratch, new_scratch
from tercet.core.processes import is_main_process, process
from tercet.core.resources import trim_memory
from tercet.core.schema import Encoder, Index, Qrels, Query
from tercet.data.embeddings import id_blocks
from tercet.data.passages import Passages
from tercet.modeling.distributed import attempt, from_first_process, raise_first, share
from tercet.modeling.encoders.protocols import Student
from tercet.retrieval.search import search_and_measure

#: Split -> metric -> query id -> value.
SplitMetrics = Mapping[str, Mapping[str, Mapping[str, float]]]


class RetrievalEvaluation:
    """Encodes the passages, fills a new index and searches it with the queries of each split.

    With `frozen` passages only the queries are encoded.

    The processes share the encoding, block by block, and write into one file in `scratch`, which
    is unlinked at once. Only the first process searches.
    """

    def __init__(
        self,
        encoder: Student,
        passages: Passages,
        splits: Mapping[str, tuple[Sequence[Query], Qrels]],
        *,
        make_index: Callable[[], Index],
        metrics: Sequence[str],
        scratch: Path,
        rows: np.ndarray | None = None,
        zero_shot_vectors: Vectors | None = None,
        frozen: bool = False,
    ) -> None:
        """`rows`, int64, limits the search to these passages; None searches all.

        `zero_shot_vectors`, float32 [passages, dimension], are those of the base model. With
        `frozen` they stay the passages' vectors whatever the student learns.
        """
        ids: Sequence[str] = passages.ids
        contents: Sequence[str] = passages.contents
        if rows is not None and len(rows) < len(passages):
            chosen = rows.tolist()
            ids, contents = [ids[i] for i in chosen], [contents[i] for i in chosen]
            zero_shot_vectors = None if zero_shot_vectors is None else zero_shot_vectors[rows]
        self.encoder, self.ids, self.contents = encoder, ids, contents
        self.splits, self.metrics = splits, metrics
        self.make_index, self.scratch = make_index, scratch
        self.zero_shot_vectors = zero_shot_vectors
        self.frozen = frozen
        #: The digest of the weights that encoded the passages last, and the vectors.
        self._encoded: tuple[str, Vectors] | None = None
        self.searches = 0
        #: The index of the last search if `measure` was called with `keep`; first process only.
        self.index: Index | None = None

    def measure(
        self, name: str = "", *, zero_shot: bool = False, keep: bool = False
    ) -> SplitMetrics:
        """Return every query's metrics with the current weights, in every process.

        `name` says in the bar what is evaluated, such as "epoch 2".
        `zero_shot` says that these are the base model's weights, whose passage vectors exist.
        `keep` leaves the index in `self.index`; the caller then discards it.
        Raises InputError or RuntimeError in every process, with its message, if one process fails.
        """
        stored = self.zero_shot_vectors if zero_shot or self.frozen else None
        vectors = self._vectors(name) if stored is None else stored
        return from_first_process(lambda: self._search(vectors, keep))

    def _vectors(self, name: str) -> Vectors:
        """The passages' vectors with the current weights; encoded only if the weights changed."""
        weights = weights_digest(self.encoder.trained)
        if self._encoded is None or self._encoded[0] != weights:
            self._encoded = None  # frees its file before the next one is made
            shape = len(self.ids), self.encoder.dimension
            path = Path(from_first_process(lambda: str(new_scratch(self.scratch, *shape))))
            vectors = map_scratch(path, *shape)
            arguments = self.encoder, self.ids, self.contents, vectors, process()
            errors = share(attempt(lambda: encode_blocks(*arguments, name=name))[0])
            if is_main_process():
                path.unlink()
            raise_first(errors)
            self._encoded = weights, vectors
        return self._encoded[1]

    def _search(self, vectors: Vectors, keep: bool) -> SplitMetrics:
        index = self.make_index()
        try:
            index.build(self.ids, vectors)
            self.searches += 1
            metrics = {
                name: search_and_measure(self.encoder, index, queries, qrels, self.metrics)
                for name, (queries, qrels) in self.splits.items()
            }
        except BaseException:
            index.discard()
            raise
        if keep:
            self.index = index
        else:
            index.discard()
        return metrics


def encode_blocks(
    encoder: Encoder,
    ids: Sequence[str],
    contents: Sequence[str],
    vectors: np.memmap,
    place: tuple[int, int] = (0, 1),
    *,
    name: str = "",
) -> None:
    """Fill in the `vectors` of passages, float32 [passages, dimension].

    Passages are encoded in the blocks of `id_blocks`, as the embeddings stage encodes them, so
    that equal weights give equal bytes. `place` is this process's rank and the number of
    processes; each takes every so-manieth block. `name` says in the bar what is evaluated.
    """
    rank, world = place
    mine = id_blocks(ids)[rank::world]
    shown = is_main_process() and len(contents) >= WORTH_A_BAR
    total = sum(map(len, mine))
    what = f"{name}: embedding passages".removeprefix(": ")
    with progress(what, total, "passages", shown=shown, by_model=True) as advance:
        for rows in mine:
            vectors[rows] = encoder.encode_passages([contents[row] for row in rows.tolist()])
            trim_memory()
            advance(len(rows))
    vectors.flush()


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers.

    The best epoch is often the last one, whose passages are encoded already.
    """
    whole = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        whole.update(name.encode())
        whole.update(value.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy())
    return whole.hexdigest()
