"""Checkpoints that survive a kill: each is whole or is not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from tercet.console import console
from tercet.files import file_sha256, read_json, write_json
from tercet.modeling.student import Student

CHECKPOINT_MANIFEST = "checkpoint.json"


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
        """The Trainer's, once the push before it has read the files that this one replaces."""
        if self.args.hub_always_push:
            self._finish_current_push()
        pushing = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if self.is_world_process_zero() and not pushing:
            # It copies the model's own weights, and a projection is in a file beside them.
            self.student.write_files(self.args.output_dir)
        super()._push_from_checkpoint(checkpoint_folder)

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
