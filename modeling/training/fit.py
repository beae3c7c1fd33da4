"""Triplets and a base model -> the adapted model, in one training run that survives a kill."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PrinterCallback, TrainerState
from transformers.integrations import TensorBoardCallback
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_utils import SaveStrategy

from tercet.config.recipe import Recipe
from tercet.core.artifacts import differences, existing
from tercet.core.console import console
from tercet.core.disk import check_room, free_space
from tercet.core.files import digest, kept, write_json
from tercet.core.processes import is_main_process
from tercet.core.schema import InputError
from tercet.core.text import bytes_text
from tercet.data.triplets import Triplets
from tercet.modeling.distributed import from_first_process
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.protocols import Student
from tercet.modeling.hub import quiet
from tercet.modeling.training.callbacks import (
    EvaluationTable,
    Log,
    Reporter,
    Shown,
    TimedCheckpoints,
)
from tercet.modeling.training.checkpoints import ASIDE, PUSHED, checkpoints_in, last_checkpoint
from tercet.modeling.training.collator import TripletCollator
from tercet.modeling.training.lora import merged, with_lora
from tercet.modeling.training.model_selection import Choice, MeasuredMixtures, choose
from tercet.modeling.training.retrieval_evaluation import RetrievalEvaluation, weights_digest
from tercet.modeling.training.trainer import MarginMSETrainer, training_arguments

_PLAN = "_plan.json"
#: TensorBoard's files, beside the checkpoints: other settings remove both.
_TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class Outcome:
    """The mean metrics of each evaluation, the weights that ship, and facts for the manifest."""

    history: list[dict[str, Any]]
    choice: Choice
    facts: dict[str, Any]


def adapt(
    student: Student,
    train: Triplets,
    collator: TripletCollator,
    evaluation: RetrievalEvaluation,
    recipe: Recipe,
    *,
    plan: Mapping[str, Any],
    restart: bool,
    log: Log | None = None,
) -> Outcome:
    """Train `student` in place, from the last whole checkpoint of this plan if there is one.

    The student ends with the weights that `model_selection` chooses between the base model and the
    best checkpoint. `log` receives the curves as they grow, in the first process. Raises
    InputError if there are checkpoints of another plan; `restart` removes them instead.
    """
    args = training_arguments(recipe, student)
    # Trackio continues a run of the same name: other settings need another.
    args.run_name = f"{recipe.name}-{digest(plan)[:8]}"
    folder = Path(args.output_dir)
    base = {name: value.clone() for name, value in student.trained.state_dict().items()}
    with PartialState().main_process_first():
        if is_main_process():
            _claim(folder, dict(plan) | {"processes": args.world_size}, restart)
        checkpoint = last_checkpoint(folder)
    args.eval_on_start = checkpoint is None
    if recipe.model.lora_rank and isinstance(student, BiEncoder):
        student.backbone = with_lora(student.backbone, recipe.model, seed=recipe.seed)
    trainer = MarginMSETrainer(
        student,
        args,
        train,
        collator,
        evaluation,
        loss=recipe.loss,
        penalty=recipe.model.adapter_penalty if recipe.model.adapter else 0.0,
        patience=recipe.evaluation.early_stopping_patience,
    )
    trainer.add_callback(TimedCheckpoints(recipe.checkpoints.minutes))
    if log:
        trainer.add_callback(Reporter(log))
    table = EvaluationTable(args.metric_for_best_model or "", evaluation.metrics)
    for own in (PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
        trainer.remove_callback(own)
    trainer.add_callback(Shown(table, lambda: trainer.reached))
    _keep_tensorboard(trainer, folder / _TENSORBOARD)
    if is_main_process():
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
        resumed = f", resumed from {Path(checkpoint).name}" if checkpoint else ""
        console.print(
            f"      training on {len(train):,} queries, {args.world_size} processes, "
            f"{precision} on {student.device}{resumed}"
        )
    if args.save_strategy != SaveStrategy.NO:
        from_first_process(lambda: _check_room(folder, trainer))
    with quiet(bars_alone=True):
        trainer.train(resume_from_checkpoint=checkpoint)
    if is_main_process():
        for left in (PUSHED, ASIDE):
            shutil.rmtree(folder / left, ignore_errors=True)
    trainer.load_best()
    if recipe.model.lora_rank and isinstance(student, BiEncoder):
        student.backbone = merged(student.backbone)
    metric = args.metric_for_best_model or ""
    report = table.add if is_main_process() else None
    choice = choose(
        student.trained,
        base,
        evaluation,
        steps=recipe.evaluation.interpolation_steps,
        metric=metric,
        gate=recipe.evaluation.primary_metric if "gate" in evaluation.splits else None,
        measured=_measured(folder, student, evaluation, recipe.evaluation.interpolation_steps),
        report=report,
    )
    trainer.check_weights()  # what ships
    searches = sum(gather_object([evaluation.searches]))
    if is_main_process():
        console.print(f"      evaluated with {searches} searches in all")
    return _outcome(trainer.state, choice, metric)


def _check_room(folder: Path, trainer: MarginMSETrainer) -> None:
    """Raise OSError where no checkpoint fits; warn where one fits, and not as many as are kept."""
    each, most = trainer.checkpoint_bytes(), (trainer.args.save_total_limit or 1) + 1
    check_room(folder, each, "a checkpoint")
    room = free_space(folder) + each * len(checkpoints_in(folder))
    if room < each * most:
        console.warn(
            f"{folder}: {most} checkpoints take {bytes_text(each * most)}, and the disk has room "
            f"for {bytes_text(room)}: training may stop until there is more"
        )


def _measured(
    folder: Path, student: Student, evaluation: RetrievalEvaluation, steps: int
) -> MeasuredMixtures:
    """The mixtures that a killed run of this plan has measured on these queries."""
    splits = {
        name: [[(query.id, query.text) for query in queries], qrels]
        for name, (queries, qrels) in evaluation.splits.items()
    }
    of = [weights_digest(student.trained), splits, [*evaluation.metrics], steps]
    return MeasuredMixtures(folder / "mixtures.json", digest(of))


def _outcome(state: TrainerState, choice: Choice, metric: str) -> Outcome:
    # Without losses, which a resumed run logs over other steps.
    history = [
        {"epoch": entry["epoch"], "step": entry["step"]}
        | {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
        for entry in state.log_history
        if "eval_recall@100" in entry
    ]
    facts = {
        "steps": state.global_step,
        "tokens": state.num_input_tokens_seen,
        "best_step": state.best_global_step or 0,
        f"best_{metric}": state.best_metric,
        "best_weight": choice.best,
        "weight": choice.weight,
        "guard_gain": choice.gain,
        "base_kept": not choice.weight,
    }
    return Outcome(history, choice, facts)


def _keep_tensorboard(trainer: MarginMSETrainer, folder: Path) -> None:
    """Log all starts of a run into one folder, unless the environment names one."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder)


def _claim(folder: Path, plan: dict[str, Any], restart: bool) -> None:
    """Prepare the folder for this plan; raise InputError for unfinished training of another."""
    if (folder / _PLAN).exists():
        before = kept(folder / _PLAN, dict[str, Any]) or {}
        changes = differences(before, plan)
        model = existing(folder.with_name("model"))
        done = model is not None and model.manifest["plan"].items() <= before.items()
        if changes and not restart and not done and any(folder.glob("checkpoint-*")):
            of = f"other settings ({', '.join(changes)})" if before else "unknown settings"
            raise InputError(
                f"{folder} holds checkpoints of {of}: give --restart to discard them, or --name "
                "for another run"
            )
        if changes:
            shutil.rmtree(folder)
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _PLAN, plan)
