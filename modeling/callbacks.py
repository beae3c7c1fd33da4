"""What happens around training: fresh draws, a guard of the gradients, retrieval evaluation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tercet.artifacts import is_main_process
from tercet.modeling.encoder import BiEncoder
from tercet.schema import Encoder, Index, InputError, Qrels, Query


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


class Drawing(Protocol):
    """A dataset whose items differ from epoch to epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Other draws for another epoch, the same for the same."""
        ...


class EpochDraws(TrainerCallback):
    """Tells the dataset which epoch it is, so that it draws other negatives."""

    def __init__(self, dataset: Drawing) -> None:
        self.dataset = dataset

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Resuming within an epoch finds its draws again."""
        self.dataset.set_epoch(int(state.epoch or 0))


class FiniteGradients(TrainerCallback):
    """Stops a run before gradients that are not finite reach the weights."""

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Raises RuntimeError naming the step."""
        assert model is not None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all():
            raise RuntimeError(
                f"a gradient is not finite at step {state.global_step}: stopped before it reaches "
                "the weights; the last checkpoint is good"
            )


#: Split -> measure -> query id -> figure.
Found = Mapping[str, Mapping[str, Mapping[str, float]]]


class RetrievalEvaluation:
    """Encodes the evaluation corpus, fills a fresh index, searches it with each split's queries.

    Encoding is shared between the processes, the search is the first one's.
    """

    def __init__(
        self,
        encoder: BiEncoder,
        ids: Sequence[str],
        contents: Sequence[str],
        splits: Mapping[str, tuple[Sequence[Query], Qrels]],
        *,
        make_index: Callable[[], Index],
        search: Measure,
        measures: Sequence[str],
        zero_shot_vectors: np.ndarray | None = None,
    ) -> None:
        self.encoder, self.ids, self.contents = encoder, ids, contents
        self.splits, self.measures = splits, measures
        self.make_index, self.search = make_index, search
        #: Vectors of the model as it came, which need not encode the corpus again.
        self.zero_shot_vectors = zero_shot_vectors
        #: What was encoded last, and the weights that it was encoded with.
        self._encoded: tuple[str, tuple[np.ndarray, np.ndarray]] | None = None
        self.searches = 0
        #: The index that was searched last, if it was to be kept; the first process has it.
        self.index: Index | None = None

    def measure(self, *, zero_shot: bool = False, keep: bool = False) -> Found:
        """Every query's figures by the current weights, in every process.

        `zero_shot` says that they are those of the model as it came; `keep` leaves the index in
        `self.index` for the caller, who discards it.
        Raises InputError or RuntimeError in every process, with its message, if it fails in one.
        """
        error, part = _attempt(lambda: self._encode(zero_shot))
        parts = _share((error, part))
        _raise_first([error for error, _ in parts])
        found: Found | None = None
        if is_main_process():
            error, found = _attempt(lambda: self._search([part for _, part in parts], keep))
        results = _share((error, found))
        _raise_first([error for error, _ in results])
        return results[0][1]

    def _encode(self, zero_shot: bool) -> tuple[np.ndarray, np.ndarray]:
        """Positions and vectors of this process's share of the passages."""
        if zero_shot and self.zero_shot_vectors is not None:
            mine = slice(None) if is_main_process() else slice(0)
            return np.arange(len(self.ids))[mine], self.zero_shot_vectors[mine]
        weights = weights_digest(self.encoder.backbone)
        if self._encoded is None or self._encoded[0] != weights:
            self._encoded = (
                weights,
                self.encoder.encode(
                    self.contents,
                    "passage",
                    shard=_place(),
                    show_progress="embedding passages" if is_main_process() else None,
                ),
            )
        return self._encoded[1]

    def _search(self, parts: Sequence[tuple[np.ndarray, np.ndarray]], keep: bool) -> Found:
        vectors = np.empty((len(self.ids), self.encoder.dimension), dtype=np.float32)
        for positions, part in parts:
            vectors[positions] = part
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


def from_first_process(work: Callable[[], Any]) -> Any:
    """What `work` returns in the first process, in all of them: a live source answers each anew.

    Raises InputError or RuntimeError in every process, with its message, if it fails.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return work()
    error, value = _attempt(work) if is_main_process() else (None, None)
    results = _share((error, value))
    _raise_first([error for error, _ in results])
    return results[0][1]


def _place() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    from accelerate import PartialState

    state = PartialState()
    return state.process_index, state.num_processes


def _share(value: Any) -> list[Any]:
    """Every process's value, in all of them, in order of rank."""
    return list(gather_object([value]))


def _attempt(work: Callable[[], Any]) -> tuple[tuple[bool, str] | None, Any]:
    """((whether the user's input is at fault, message), None) if the work fails, or its result."""
    try:
        return None, work()
    except Exception as error:
        if _place()[1] == 1:
            raise
        return (isinstance(error, InputError), f"{type(error).__name__}: {error}"), None


def _raise_first(errors: Sequence[tuple[bool, str] | None]) -> None:
    for rank, error in enumerate(errors):
        if error:
            kind = InputError if error[0] else RuntimeError
            raise kind(f"process {rank} failed: {error[1]}")
