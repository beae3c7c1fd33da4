"""Checkpoints that survive a kill: each is whole or does not count.

A killed run resumes to the same bytes as one that was never killed. For that:

- A checkpoint holds all that the next step depends on: weights, optimizer, scheduler, step, and the
  random states of every process (the Trainer's part), and draws are a function of seed and epoch.
- Its manifest, with the SHA-256 of each file, is written last. Without one, or with a file that
  differs, the kill came while it was written: it is put aside and the one before it is used.
- Its room is estimated first, and a write that fails removes what there is of it.
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
from torch import Tensor, nn
from transformers import Trainer, TrainerControl
from transformers.trainer_utils import HubStrategy, SaveStrategy, rotate_checkpoints
from transformers.training_args import OptimizerNames
from transformers.utils.hub import PushInProgress

from tercet.core.console import console
from tercet.core.disk import check_room, writing
from tercet.core.files import file_sha256, kept, share, write_json
from tercet.modeling.encoders.protocols import Student
from tercet.modeling.hub import files_of, push_files, pushing
from tercet.modeling.training.lora import unwrapped

_MANIFEST = "checkpoint.json"
#: Folder, beside the checkpoints, of the model that is being pushed to the Hub.
PUSHED = "_pushed"
#: Folder, beside the checkpoints, of the last one that was not whole; training's end removes it.
ASIDE = "_aside"


class ResumableTrainer(Trainer):
    """The Hugging Face Trainer of a student, whose checkpoints are loadable models."""

    student: Student

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        self.student.write_files(output_dir or self.args.output_dir)

    def check_weights(self) -> None:
        """Raise Diverged unless all weights are finite."""
        raise NotImplementedError

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As the Trainer's. Raises InputError if the Hub refuses."""
        with pushing(self.args.hub_model_id):
            super().init_hf_repo(token, private)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save as the Trainer does, then write the manifest, then remove older checkpoints.

        Raises Diverged for weights that are not finite.
        """
        self.check_weights()
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        kept, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with writing(folder):
                if self.args.should_save:
                    check_room(folder, self.checkpoint_bytes(), "a checkpoint")
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    _write_manifest(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.args.save_total_limit = kept
        if self.args.should_save:
            rotate_checkpoints(str(folder.parent), kept, self.state.best_model_checkpoint)

    def checkpoint_bytes(self) -> int:
        """Bytes of the weights in a checkpoint and of its optimizer's state.

        Before the first step that state is AdamW's, where the optimizer is, else not counted.
        """
        weights = sum(value.nbytes for value in self.student.trained.state_dict().values())
        return weights + (_bytes_of(self.optimizer) or self._expected_state())

    def _expected_state(self) -> int:
        trained = sum(p.nbytes for p in self.student.trained.parameters() if p.requires_grad)
        return 2 * trained if OptimizerNames(self.args.optim).value.startswith("adamw_torch") else 0

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
    """Return the newest whole checkpoint, or None; put the last unfinished one aside, with a line.

    What was put aside before is removed.
    """
    for checkpoint in sorted(checkpoints_in(folder), key=lambda p: -int(p.name.split("-")[1])):
        if _is_whole(checkpoint):
            return str(checkpoint)
        console.print(
            f"{checkpoint} is not whole: put aside as {ASIDE}, using the one before it", style="red"
        )
        shutil.rmtree(folder / ASIDE, ignore_errors=True)
        checkpoint.rename(folder / ASIDE)
    return None


def newest_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None; unfinished ones stay."""
    whole = filter(_is_whole, checkpoints_in(folder))
    return max(whole, key=lambda path: int(path.name[11:]), default=None)


def checkpoints_in(folder: Path) -> list[Path]:
    """The folders of checkpoints, whole or not."""
    return [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]


def _write_manifest(folder: Path) -> None:
    share(folder)
    files = [file for file in folder.rglob("*") if file.is_file()]
    hashes = {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
    write_json(folder / _MANIFEST, hashes)


def _is_whole(checkpoint: Path) -> bool:
    hashes = kept(checkpoint / _MANIFEST, dict[str, str]) or {}
    return bool(hashes) and all(
        (checkpoint / name).is_file() and file_sha256(checkpoint / name) == sha256
        for name, sha256 in hashes.items()
    )


def _bytes_of(optimizer: Any) -> int:
    """Bytes of an optimizer's state; 0 before its first step."""
    state = getattr(optimizer, "state", {})
    values = [value for of in state.values() if isinstance(of, dict) for value in of.values()]
    return sum(value.nbytes for value in values if isinstance(value, Tensor))
