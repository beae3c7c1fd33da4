"""Callbacks of the Trainer: new draws each epoch, a check of the gradients, and logging."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import rewrite_logs

from tercet.core.console import Advance, console, progress
from tercet.core.processes import process
from tercet.core.schema import Diverged
from tercet.core.signals import Interrupted, asked, defer, stop_if_asked
from tercet.data.triplets import Triplets
from tercet.modeling.distributed import from_first_process, share

#: Steps after which several processes ask whether a checkpoint is due.
_STEPS_BETWEEN = 10


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

    def __init__(self, refuse: Callable[[str], Diverged]) -> None:
        """`refuse` makes the error of what has happened."""
        self._refuse = refuse

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Raises Diverged."""
        assert model is not None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all():
            raise self._refuse("a gradient is not finite")


class TimedCheckpoints(TrainerCallback):
    """Saves a checkpoint every so many minutes, and one when a signal ends the program.

    The first process decides for all. At the end it says what these took.
    """

    def __init__(self, minutes: float) -> None:
        self._every, self._saved = 60 * minutes, time.monotonic()
        self._began, self._asked = self._saved, 0.0
        self._count, self._took, self._stops = 0, 0.0, False

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """A signal waits for the end of the step."""
        defer()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Ask for a checkpoint if the last one is old, or a signal has come.

        Where an evaluation follows, there is none before it: a run that resumed from there would
        not evaluate. A signal stops at once there.
        """
        world, epoch_ends = process()[1], float(state.epoch or 0).is_integer()
        if control.should_save or control.should_evaluate or epoch_ends:
            stop_if_asked()
            return
        # Processes that agree at every step would wait for one another too often.
        if world > 1 and state.global_step % _STEPS_BETWEEN:
            return
        self._stops = any(share(asked())) if world > 1 else asked()
        due = time.monotonic() - self._saved >= self._every
        if self._stops or from_first_process(lambda: due):
            control.should_save, self._asked = True, time.monotonic()

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Count from here, and what it took if the time asked for it; stop if a signal did."""
        self._saved = time.monotonic()
        if self._stops:
            if state.is_world_process_zero:
                console.print(f"      stopped: checkpoint of step {state.global_step:,} is saved")
            stop_if_asked()
            raise Interrupted(signal.SIGTERM)  # another process was asked
        if self._asked:
            self._count, self._took = self._count + 1, self._took + self._saved - self._asked
            self._asked = 0.0

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Say how many there were, and their part of the time."""
        stop_if_asked()
        if self._count and state.is_world_process_zero:
            part = self._took / max(time.monotonic() - self._began, 1e-9)
            console.print(f"      {self._count} checkpoints by time took {part:.1%} of training")


class EvaluationTable:
    """A table that grows by one row an evaluation, with the metrics that matter in training."""

    def __init__(self, metric: str, measured: Sequence[str]) -> None:
        wanted = (metric, "ndcg@10", "map@10", "mrr@10", "recall@100")
        self.metrics = [name for name in dict.fromkeys(wanted) if name in measured]
        self._best: float | None = None

    def add(self, name: str, metrics: Mapping[str, float], loss: float | None = None) -> None:
        """Print the row of one evaluation; it is marked if the first metric is the best so far."""
        if self._best is None:
            heads = "".join(f"{metric:>12}" for metric in self.metrics)
            console.print(f"      {'evaluation':<22}{'loss':>10}{heads}", style="bold")
        value = metrics[self.metrics[0]]
        best = self._best is None or value > self._best
        self._best = value if best else self._best
        learned = "" if loss is None else f"{loss:.3g}"
        values = "".join(f"{metrics[metric]:>12.4f}" for metric in self.metrics)
        console.print(f"      {name:<22}{learned:>10}{values}{'  best' if best else ''}")


class Shown(TrainerCallback):
    """Shows training by steps, and each evaluation as a row, in place of the Trainer's own logs."""

    def __init__(self, table: EvaluationTable, reached: Callable[[], str]) -> None:
        """`reached` names the evaluation that has just been made."""
        self.table, self._reached = table, reached
        self._bar = ExitStack()
        self._advance: Advance | None = None
        self._losses: list[float] = []

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar, which an evaluation has closed."""
        if self._advance is None and state.is_world_process_zero:
            bar = progress(
                "training",
                state.max_steps,
                "steps",
                shown=not args.disable_tqdm,
                done=state.global_step,
            )
            self._advance = self._bar.enter_context(bar)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar; close it before an evaluation, which has one of its own."""
        if self._advance is not None:
            self._advance(1)
        if control.should_evaluate:
            self._close()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar before an evaluation."""
        self._close()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self._close()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the losses since the last evaluation."""
        if logs and "loss" in logs:
            self._losses.append(float(logs["loss"]))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the evaluation's row, with the mean loss since the one before."""
        if state.is_world_process_zero and metrics:
            loss = sum(self._losses) / len(self._losses) if self._losses else None
            plain = {name.removeprefix("eval_"): value for name, value in metrics.items()}
            self.table.add(self._reached(), plain, loss)
        self._losses = []

    def _close(self) -> None:
        self._bar.close()
        self._advance = None


class Curves(TrainerCallback):
    """Appends each of the Trainer's logs to a file at once, to be watched during training.

    A resumed run repeats the steps after its checkpoint: of two lines for a step the later counts.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.began, self._failed = file, time.time(), False

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
            about = {"step": state.global_step, "max_steps": state.max_steps, "began": self.began}
            line = json.dumps(about | {"time": time.time()} | dict(logs or {}))
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            except OSError as error:  # a curve is not worth the training
                if not self._failed:
                    console.warn(f"{self.file}: {error.strerror}: the curves are incomplete")
                self._failed = True


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
