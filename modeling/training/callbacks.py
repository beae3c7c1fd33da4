"""Callbacks of the Trainer: new draws each epoch, a check of the gradients, and logging."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import rewrite_logs

from tercet.data.triplets import Triplets


class EpochDraws(TrainerCallback):
    """Sets the data set's epoch, so that it draws other negatives in each."""

    def __init__(self, dataset: Triplets) -> None:
        self.dataset = dataset

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Take the epoch from the Trainer's state, so that a resumed epoch repeats its draws."""
        self.dataset.set_epoch(int(state.epoch or 0))


class FiniteGradients(TrainerCallback):
    """Stops training before gradients that are not finite reach the weights."""

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


class Curves(TrainerCallback):
    """Appends each of the Trainer's logs to a file at once, to be watched during training.

    A resumed run repeats the steps after its checkpoint: of two lines for a step the later counts.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.began = file, time.time()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one JSON line: the logged values, the step, the last step and the time."""
        if state.is_world_process_zero:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            line = {"step": state.global_step, "max_steps": state.max_steps, "began": self.began}
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"time": time.time()} | dict(logs or {})) + "\n")


#: Receives logged values by name, and their training step.
Log = Callable[[Mapping[str, float], int], None]


class Reporter(TrainerCallback):
    """Passes the Trainer's logs on, under the names its own integrations use, as in eval/map@10."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Log the history again: a killed process may not have sent all of it."""
        for entry in state.log_history:
            logs = {name: value for name, value in entry.items() if name != "step"}
            if state.is_world_process_zero:
                self.log(rewrite_logs(logs), int(entry["step"]))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log all but the totals at the end, which cover only the part since a resume."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            self.log(rewrite_logs(logs), state.global_step)
