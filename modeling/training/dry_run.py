"""A few training steps as a run takes them, timed for the forecast; nothing is saved."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from tercet.config.recipe import Recipe
from tercet.data.triplets import Triplets
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.protocols import Student
from tercet.modeling.training.collator import TripletCollator
from tercet.modeling.training.lora import with_lora
from tercet.modeling.training.trainer import MarginMSETrainer, training_arguments

_FEWEST = 2  # timed steps, at least; one before them warms up


@dataclass(frozen=True)
class DryRun:
    """The time of training: `seconds_per_token`, forward and backward, and `update`, a step.

    A step's tokens are those of its queries and its distinct passages, without padding. `update`
    is the optimizer's part, in seconds.
    """

    seconds_per_token: float
    update: float
    trained_parameters: int


@dataclass
class _Watch(TrainerCallback):
    """Times each step and the optimizer's part of it, and stops training after the budget."""

    budget: float
    steps: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._start = self._last = self._update = time.perf_counter()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._update = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        now = time.perf_counter()
        self.steps.append(now - self._last)
        self.updates.append(now - self._update)
        self._last = now
        if len(self.steps) > _FEWEST and now - self._start > self.budget:
            control.should_training_stop = True


class _Counting:
    """A collator that counts the tokens of each batch."""

    def __init__(self, collator: TripletCollator) -> None:
        self.collator = collator
        self.tokens: list[int] = []

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self.collator(items)
        self.tokens.append(
            sum(int(batch[side]["attention_mask"].sum()) for side in ("query", "passage"))
        )
        return batch


def dry_run(
    encoder: BiEncoder, train: Triplets, texts: Mapping[str, str], recipe: Recipe, *, budget: float
) -> DryRun:
    """Train `encoder` in place for about `budget` seconds and return the time of a step.

    `texts` has the passages of `train` by id. The batch size is the recipe's if the queries
    suffice for three batches.
    """
    encoder.set_dropout(recipe.model.dropout)
    encoder.dtype_of("train")  # measured, if it has to be, on the plain model
    if recipe.model.lora_rank:
        encoder.backbone = with_lora(encoder.backbone, recipe.model, seed=recipe.seed)
    collator = _Counting(TripletCollator.of_texts(encoder, train.queries, texts))
    watch = _Watch(budget)
    with tempfile.TemporaryDirectory() as folder:
        args = passing_arguments(recipe, folder, encoder)
        args.max_steps, args.num_train_epochs = -1, 3.0
        batch = args.per_device_train_batch_size
        args.per_device_train_batch_size = max(1, min(batch, len(train) // (_FEWEST + 1)))
        trainer = MarginMSETrainer(
            encoder,
            args,
            train,
            collator,  # type: ignore[arg-type]
            None,
            loss=recipe.loss,
        )
        train_silently(trainer, watch)
    each = args.gradient_accumulation_steps
    tokens = [sum(collator.tokens[i : i + each]) for i in range(0, len(collator.tokens), each)]
    timed = slice(1, len(watch.steps)) if len(watch.steps) > 1 else slice(0, 1)
    update = sum(watch.updates[timed]) / len(watch.updates[timed])
    forward = sum(watch.steps[timed]) - sum(watch.updates[timed])
    trained = sum(p.numel() for p in encoder.backbone.parameters() if p.requires_grad)
    return DryRun(forward / sum(tokens[timed]), update, trained)


def train_silently(trainer: MarginMSETrainer, watch: TrainerCallback) -> None:
    """Train without the Trainer's own bars and prints; `watch` says when to stop."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(watch)
    trainer.train()


def passing_arguments(
    recipe: Recipe, folder: str, student: Student | None = None
) -> TrainingArguments:
    """The recipe's arguments without evaluation, saving, logging and pushing."""
    args = training_arguments(recipe, student)
    args.output_dir = folder
    args.eval_on_start = args.load_best_model_at_end = args.push_to_hub = False
    args.eval_strategy = args.logging_strategy = IntervalStrategy.NO
    args.save_strategy = SaveStrategy.NO
    args.report_to = []
    return args
