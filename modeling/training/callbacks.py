"""What happens around training: fresh draws, a guard of the gradients, retrieval evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import rewrite_logs


class EpochDataset(Protocol):
    """A dataset whose items differ from epoch to epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Other draws for another epoch, the same for the same."""
        ...


class EpochDraws(TrainerCallback):
    """Tells the dataset which epoch it is, so that it draws other negatives."""

    def __init__(self, dataset: EpochDataset) -> None:
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


class Curves(TrainerCallback):
    """Appends what the Trainer logs to a file at once, for whoever looks on while it trains.

    A resumed run logs steps again that the killed one had logged: the later line counts.
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
        """One line: figures, the step and the last step, and when."""
        if state.is_world_process_zero:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            line = {"step": state.global_step, "max_steps": state.max_steps, "began": self.began}
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"time": time.time()} | dict(logs or {})) + "\n")


#: Told figures by their names, and the training step that they are of.
Log = Callable[[Mapping[str, float], int], None]


class Reporter(TrainerCallback):
    """Tells what the Trainer logs, under the names that its own integrations give: eval/map@10."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """A killed process takes with it what it had not written: all is told again."""
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
        """What training took in all is left out: a resumed run's would be of its last part."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            self.log(rewrite_logs(logs), state.global_step)
