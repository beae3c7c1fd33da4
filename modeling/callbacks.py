"""What happens around training: fresh draws, a guard, and retrieval evaluation."""

from __future__ import annotations

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


class RetrievalEvaluation(TrainerCallback):
    """Encodes the evaluation corpus, fills a fresh index, searches, and measures.

    Encoding is shared between the processes, the search is the first one's. As a callback it
    keeps the best model's index and discards the others.
    """

    def __init__(
        self,
        encoder: BiEncoder,
        ids: Sequence[str],
        contents: Sequence[str],
        queries: Sequence[Query],
        qrels: Qrels,
        *,
        make_index: Callable[[], Index],
        search: Measure,
        measures: Sequence[str],
        zero_shot_vectors: np.ndarray | None = None,
    ) -> None:
        self.encoder, self.ids, self.contents = encoder, ids, contents
        self.queries, self.qrels, self.measures = queries, qrels, measures
        self.make_index, self.search = make_index, search
        #: Vectors of the model as it came, so that epoch 0 need not encode the corpus again.
        self.zero_shot_vectors = zero_shot_vectors
        self.searches = 0
        self.best: float | None = None
        self.best_index: Index | None = None
        self._index: Index | None = None

    def measure(self, epoch: float) -> dict[str, float]:
        """Mean figures of the current weights, in every process.

        Raises InputError or RuntimeError in every process, with its message, if it fails in one.
        """
        error, part = _attempt(lambda: self._encode(epoch))
        parts = _share((error, part))
        _raise_first([error for error, _ in parts])
        figures: dict[str, float] | None = None
        if is_main_process():
            error, figures = _attempt(lambda: self._search([part for _, part in parts]))
        results = _share((error, figures))
        _raise_first([error for error, _ in results])
        return results[0][1]

    def _encode(self, epoch: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions and vectors of this process's share of the passages."""
        if epoch == 0 and self.zero_shot_vectors is not None:
            mine = slice(None) if is_main_process() else slice(0)
            return np.arange(len(self.ids))[mine], self.zero_shot_vectors[mine]
        return self.encoder.encode(
            self.contents,
            "passage",
            shard=_place(),
            show_progress="embedding passages" if is_main_process() else None,
        )

    def _search(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        vectors = np.empty((len(self.ids), self.encoder.dimension), dtype=np.float32)
        for positions, part in parts:
            vectors[positions] = part
        index = self.make_index()
        try:
            index.build(self.ids, vectors)
            self.searches += 1
            figures = self.search(self.encoder, index, self.queries, self.qrels, self.measures)
        except BaseException:
            index.discard()
            raise
        self._index = index
        return {name: float(np.mean(list(values.values()))) for name, values in figures.items()}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """A resumed run has a best figure already, whose index is gone."""
        self.best = state.best_metric

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the index if the model is the best so far, discard it otherwise."""
        if self._index is None:
            return
        value = (metrics or {})[f"eval_{args.metric_for_best_model}"]
        if self.best is None or value > self.best:
            if self.best_index:
                self.best_index.discard()
            self.best, self.best_index = value, self._index
        else:
            self._index.discard()
        self._index = None


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
            raise kind(f"evaluation failed in process {rank}: {error[1]}")
