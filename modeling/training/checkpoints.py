"""Checkpoints that survive a kill: each is whole or is not there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from rich.markup import escape
from torch import nn
from transformers import Trainer, TrainerControl
from transformers.trainer_utils import HubStrategy, SaveStrategy, rotate_checkpoints
from transformers.utils.hub import PushInProgress

from tercet.core.console import console
from tercet.core.files import file_sha256, read_json, write_json
from tercet.modeling.encoders.protocols import Student
from tercet.modeling.hub import files_of, push_files
from tercet.modeling.training.lora import unwrapped

CHECKPOINT_MANIFEST = "checkpoint.json"
#: What is being pushed to the Hub, beside the checkpoints.
PUSHED = "_pushed"


class ResumableTrainer(Trainer):
    """The Hugging Face Trainer of a student's weights, whose checkpoints are whole models."""

    student: Student

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        self.student.write_files(output_dir or self.args.output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The Trainer's, then a manifest: a checkpoint that has none was cut short.

        Only then are older ones removed, so that one is whole at any time.
        """
        kept, self.args.save_total_limit = self.args.save_total_limit, None
        super()._save_checkpoint(model, trial)
        self.args.save_total_limit = kept
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            output = Path(self.args.output_dir)
            folder = output / f"checkpoint-{self.state.global_step}"
            files = [file for file in folder.rglob("*") if file.is_file()]
            hashes = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
            write_json(folder / CHECKPOINT_MANIFEST, hashes)
            rotate_checkpoints(str(output), kept, self.state.best_model_checkpoint)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """What `hub_strategy` asks for, as one commit whose model anyone can load.

        The Trainer's own would be of the trained module alone: a map without the model beneath it,
        low-rank updates of a base that others do not have.
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
        # It is read in the background, while the next checkpoint may be written.
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
        """The Trainer's, which says nothing of a push that failed."""
        super()._finish_current_push()
        push = getattr(self, "push_in_progress", None)
        for job in push.jobs if push else []:
            if job.exception():
                console.print(f"[yellow]warning: {escape(str(job.exception()))}[/]")
        self.push_in_progress = None

    def _evaluated(self, figures: Mapping[str, float], prefix: str) -> dict[str, float]:
        """Figures as the Trainer's own evaluation would have logged, announced and named them."""
        metrics = {f"{prefix}_{name}": value for name, value in figures.items()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def load_best(self) -> None:
        """Load the best checkpoint where `train` could not, its folder having been moved."""
        if self.state.best_model_checkpoint is None and self.state.best_global_step:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(folder)
            self._load_best_model()


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole; those cut short are removed, and said so."""
    numbered = sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1]))
    for checkpoint in numbered:
        if _is_whole(checkpoint):
            return str(checkpoint)
        console.print(f"[red]{checkpoint} was cut short[/]: removed, the one before it is used")
        shutil.rmtree(checkpoint)
    return None


def _is_whole(checkpoint: Path) -> bool:
    manifest = checkpoint / CHECKPOINT_MANIFEST
    return manifest.exists() and all(
        (checkpoint / name).is_file() and file_sha256(checkpoint / name) == sha256
        for name, sha256 in read_json(manifest).items()
    )
