"""Checkpoints that survive a kill: each is whole or does not count.

A killed run resumes to the same bytes as one that was never killed. For that:

- A checkpoint holds all that the next step depends on: weights, optimizer, scheduler, step, and the
  random states of every process (the Trainer's part), and draws are a function of seed and epoch.
- Its manifest, with the SHA-256 of each file, is written last. Without one, or with a file that
  differs, the kill came while it was written: it is removed and the one before it is used.
- Older checkpoints are removed only after the new manifest exists, so one is whole at any time.
- The base model's evaluation before the first step is not repeated on resuming (`fit.adapt`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from torch import nn
from transformers import Trainer, TrainerControl
from transformers.trainer_utils import HubStrategy, SaveStrategy, rotate_checkpoints
from transformers.utils.hub import PushInProgress

from tercet.core.console import console
from tercet.core.files import file_sha256, read_json, share, write_json
from tercet.modeling.encoders.protocols import Student
from tercet.modeling.hub import files_of, push_files
from tercet.modeling.training.lora import unwrapped

_MANIFEST = "checkpoint.json"
#: Folder, beside the checkpoints, of the model that is being pushed to the Hub.
PUSHED = "_pushed"


class ResumableTrainer(Trainer):
    """The Hugging Face Trainer of a student, whose checkpoints are loadable models."""

    student: Student

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        self.student.write_files(output_dir or self.args.output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save as the Trainer does, then write the manifest, then remove older checkpoints."""
        kept, self.args.save_total_limit = self.args.save_total_limit, None
        super()._save_checkpoint(model, trial)
        self.args.save_total_limit = kept
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            output = Path(self.args.output_dir)
            folder = output / f"checkpoint-{self.state.global_step}"
            share(folder)
            files = [file for file in folder.rglob("*") if file.is_file()]
            hashes = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
            write_json(folder / _MANIFEST, hashes)
            rotate_checkpoints(str(output), kept, self.state.best_model_checkpoint)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push as `hub_strategy` says, in one commit whose model can be loaded.

        The Trainer would push the trained module only: an adapter without its encoder, or low-rank
        updates without the weights that they update.
        """
        args = self.args
        if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        if args.hub_always_push:
            self._finish_current_push()
        under_way = getattr(self, "push_in_progress", None)
        if under_way and not under_way.is_done():
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        # A copy: it is uploaded in the background while the next checkpoint may be written.
        folder = Path(args.output_dir) / PUSHED
        shutil.rmtree(folder, ignore_errors=True)
        unwrapped(self.student).save_pretrained(folder)
        files, checkpoint = files_of(folder), Path(checkpoint_folder)
        kept = {
            HubStrategy.CHECKPOINT: "last-checkpoint",
            HubStrategy.ALL_CHECKPOINTS: checkpoint.name,
        }
        if args.hub_strategy in kept:
            place = kept[args.hub_strategy]
            files |= {f"{place}/{name}": file for name, file in files_of(checkpoint).items()}
        steps = args.save_strategy == SaveStrategy.STEPS
        reached = f"step {self.state.global_step}" if steps else f"epoch {int(self.state.epoch)}"
        push = partial(
            push_files,
            files,
            self.hub_model_id,
            private=args.hub_private_repo,
            revision=args.hub_revision,
            message=f"Training in progress, {reached}",
        )
        self.push_in_progress = PushInProgress([HfApi().run_as_future(push)])

    def _finish_current_push(self) -> None:
        """Wait as the Trainer does, and print a warning for a push that failed."""
        super()._finish_current_push()
        push = getattr(self, "push_in_progress", None)
        for job in push.jobs if push else []:
            if job.exception():
                console.warn(str(job.exception()))
        self.push_in_progress = None

    def _evaluated(self, means: Mapping[str, float], prefix: str) -> dict[str, float]:
        """Name, log and announce metrics as the Trainer's own evaluation does."""
        metrics = {f"{prefix}_{name}": value for name, value in means.items()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def load_best(self) -> None:
        """Load the best checkpoint if `train` could not, because the run's folder was moved."""
        if self.state.best_model_checkpoint is None and self.state.best_global_step:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(folder)
            self._load_best_model()


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint, or None; remove unfinished ones with a message."""
    numbered = sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1]))
    for checkpoint in numbered:
        if _is_whole(checkpoint):
            return str(checkpoint)
        console.print(f"{checkpoint} is not whole: removed, using the one before it", style="red")
        shutil.rmtree(checkpoint)
    return None


def _is_whole(checkpoint: Path) -> bool:
    manifest = checkpoint / _MANIFEST
    return manifest.exists() and all(
        (checkpoint / name).is_file() and file_sha256(checkpoint / name) == sha256
        for name, sha256 in read_json(manifest).items()
    )
