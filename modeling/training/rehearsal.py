"""One training step before any work, with the recipe's settings, so that none of them fails late.

What the step raises is told as the setting that is at fault: the one without which it passes.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tercet.config.recipe import Recipe
from tercet.config.training import training_defaults
from tercet.core.borders import is_out_of_memory, reason
from tercet.core.processes import process
from tercet.core.resources import trim_memory
from tercet.core.schema import Diverged, InputError
from tercet.modeling.encoders.adapted_encoder import AdaptedEncoder
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.protocols import Student
from tercet.modeling.hub import quiet
from tercet.modeling.training.collator import Known, TokenizedTexts, TripletCollator
from tercet.modeling.training.dry_run import passing_arguments, train_silently
from tercet.modeling.training.lora import with_lora
from tercet.modeling.training.trainer import MarginMSETrainer, training_arguments

_STEPS = 1_000  # that a schedule is made for, unless the recipe says
_WIDTH = 64  # dimensions, unless the recipe's loss needs more
#: Arguments that are given together: only without all of them does a step pass.
_TOGETHER = (
    ("optim", "optim_args", "optim_target_modules"),
    ("lr_scheduler_type", "lr_scheduler_kwargs"),
)
_QUERIES = ("a", "a query of several words, which is longer than the one before")
_PASSAGES = ("a", "a passage", "a passage that is as long as three of these, " * 3)


class _TwoLists:
    """Two lists of unlike length for each process, as the Trainer reads them."""

    def __init__(self) -> None:
        self._count = 2 * process()[1]

    def set_epoch(self, epoch: int) -> None:
        """The lists are the same in each epoch."""

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict[str, Any]:
        margins = np.array([0.1, -0.1][: 1 + row % 2], np.float32)
        listed = ["p0", "p1", "p2"][: 1 + len(margins)]
        return {"query": row % 2, "passages": listed, "margins": margins, "near": []}


class _OneStep(TrainerCallback):
    """Stops after the first step, when the weights and the schedule have moved."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_training_stop = True


def rehearse(make: Callable[[], Student], recipe: Recipe) -> None:
    """Train a student of `make` for one step on two made-up lists, and leave nothing behind.

    Raises InputError for a setting that fails or does nothing, by its key.
    """
    _check_effects(training_arguments(recipe))
    failure = _failure(make, recipe)
    if isinstance(failure, InputError) and not isinstance(failure, Diverged):
        raise failure
    if failure is None:
        return
    for keys, other in _without(recipe):
        if _failure(make, other) is None:
            raise InputError(f"{keys}: {_told(failure)}") from failure
    raise InputError(f"training: {_told(failure)}") from failure


def adapter_of_width(recipe: Recipe) -> AdaptedEncoder:
    """An adapter as the recipe's, over a service that is not asked for anything."""
    section, similarity = recipe.model, recipe.model.similarity or "cosine"
    width = max([_WIDTH, *(width + 1 for width in recipe.loss.matryoshka)])
    service: Any = SimpleNamespace(
        name=section.name,
        dimension=width,
        similarity=similarity,
        normalize=similarity == "cosine",
    )
    return AdaptedEncoder.fresh(service, section.adapter_rank, seed=recipe.seed, api=section.api)


def _told(failure: Exception) -> str:
    return f"a training step on two lists fails: {reason(failure, known=False)}"


def _without(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Yield the recipe without each setting that is not Tercet's own, and the setting's key."""
    defaults, given = training_defaults(recipe.model), recipe.training
    changed = [name for name, value in given.items() if value != defaults.get(name)]
    changed.sort(key=lambda name: not name.endswith("args"))  # the other one may only read them
    together = [tuple(name for name in names if name in changed) for names in _TOGETHER]
    for names in [*((name,) for name in changed), *(names for names in together if names[1:])]:
        kept = {name: value for name, value in given.items() if name not in names}
        training = defaults | kept
        keys = ", ".join(f"training.{name}" for name in names)
        yield keys, replace(recipe, training=training)
    if recipe.model.lora_rank:
        model = replace(recipe.model, lora_rank=None, lora_alpha=None)
        yield "model.lora_rank", replace(recipe, model=model)


def _failure(make: Callable[[], Student], recipe: Recipe) -> Exception | None:
    """What a step raises; None if it passes."""
    try:
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(), quiet():
            _step(make(), recipe, folder)
    except Exception as error:  # libraries' errors share no narrower base
        if is_out_of_memory(error):
            raise
        return error
    finally:
        trim_memory()
        torch.cuda.empty_cache()
    return None


def _step(student: Student, recipe: Recipe, folder: str) -> None:
    args = passing_arguments(recipe, folder)
    args.per_device_train_batch_size = 2
    args.max_steps = args.max_steps if args.max_steps > 0 else _STEPS
    args.full_determinism = False  # it would change how all later steps compute
    if isinstance(student, BiEncoder):
        student.set_dropout(recipe.model.dropout)
        if recipe.model.lora_rank:
            student.backbone = with_lora(student.backbone, recipe.model, seed=recipe.seed)
    trainer = MarginMSETrainer(
        student,
        args,
        _TwoLists(),  # type: ignore[arg-type]
        _collator(student, recipe),
        None,
        loss=recipe.loss,
        penalty=recipe.model.adapter_penalty if recipe.model.adapter else 0.0,
    )
    train_silently(trainer, _OneStep())


def _collator(student: Student, recipe: Recipe) -> TripletCollator:
    """What makes batches of the two lists: of texts, or of vectors where those are frozen."""
    names = {f"p{row}": row for row in range(len(_PASSAGES))}
    if isinstance(student, BiEncoder) and not recipe.model.frozen:
        return TripletCollator.of_texts(student, _QUERIES, dict(zip(names, _PASSAGES, strict=True)))
    random = np.random.default_rng(0)
    passages = Known(random.normal(size=(len(_PASSAGES), student.dimension)).astype(np.float32))
    if isinstance(student, BiEncoder):
        return TripletCollator(TokenizedTexts(student, _QUERIES, "query"), passages, names)
    queries = Known(random.normal(size=(len(_QUERIES), student.dimension)).astype(np.float32))
    return TripletCollator(queries, passages, names)


def _check_effects(args: TrainingArguments) -> None:
    """Raise InputError for an argument that the optimizer does not read."""
    given = dict(pair.split("=", 1) for pair in (args.optim_args or "").split(",") if "=" in pair)
    settings = _settings_of_optimizer(args)
    if settings is None:  # it cannot be made: the step says why
        return
    for name in given:
        kept = ",".join(f"{other}={value}" for other, value in given.items() if other != name)
        if _settings_of_optimizer(_with(args, "optim_args", kept)) == settings:
            raise InputError(
                f"training.optim_args: training.optim {args.optim.value} does not read "
                f"{name.strip()}: leave it out"
            )
    defaults = TrainingArguments.__dataclass_fields__
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        value = getattr(args, name)
        if value == defaults[name].default:
            continue
        if _settings_of_optimizer(_with(args, name, value / 2)) == settings:
            raise InputError(
                f"training.{name}: training.optim {args.optim.value} does not read it: leave it out"
            )


def _with(args: TrainingArguments, name: str, value: Any) -> TrainingArguments:
    other = copy.copy(args)
    setattr(other, name, value)
    return other


def _settings_of_optimizer(args: TrainingArguments) -> Mapping[str, Any] | None:
    """What an optimizer is made with; None for one that is not made of settings alone."""
    try:
        _, settings = Trainer.get_optimizer_cls_and_kwargs(args, nn.Module())
    except Exception:  # a package that is missing, a value that is no number
        return None
    return None if {"params", "model", "optimizer_dict"} & set(settings) else settings
