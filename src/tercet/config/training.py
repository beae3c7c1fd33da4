"""The `training` section: TrainingArguments with Tercet's defaults and checks."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from tercet.config.model import ModelSection
from tercet.config.parsing import Node, UnknownKey, check_range, coerce_scalar
from tercet.core.schema import InputError

#: TrainingArguments that change no weight: a finished model is valid for any of their values.
WEIGHTLESS = {
    "dataloader_num_workers",
    "ddp_timeout",
    "disable_tqdm",
    "log_level",
    "logging_steps",
    "push_to_hub",
    "save_total_limit",
}

#: Tercet's defaults of TrainingArguments and their meanings; its other names may be given too.
TRAINING: dict[str, tuple[Any, str]] = {
    "num_train_epochs": (1.0, "epochs (query_adapter: 10)"),
    "learning_rate": (2e-5, "peak learning rate (query_adapter: 1e-3)"),
    "per_device_train_batch_size": (16, "queries per step and process (query_adapter: 64)"),
    "gradient_accumulation_steps": (1, "steps over which gradients are accumulated"),
    "lr_scheduler_type": ("linear", "schedule of the learning rate"),
    "warmup_steps": (0.05, "warmup steps; below 1: fraction of all steps"),
    "weight_decay": (0.0, "weight decay of AdamW"),
    "bf16": (None, "bf16 autocast; unset: if it is measured to be 10% faster here"),
    "logging_steps": (10, "steps between two logged losses"),
    "eval_strategy": ("epoch", "when to evaluate: epoch or steps"),
    "save_strategy": ("epoch", "when to save checkpoints, from which a killed run resumes"),
    "save_total_limit": (2, "checkpoints kept, the best one always included"),
    "metric_for_best_model": ("mrr@10", "metric on held-out queries that selects the model"),
    "dataloader_num_workers": (0, "processes that prepare batches"),
    "ddp_timeout": (7200, "seconds a process waits for another"),
}

#: Defaults for query adapters, which have few weights and fast steps.
_ADAPTER_TRAINING: dict[str, Any] = {
    "num_train_epochs": 10.0,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 64,
}


def training_defaults(model: ModelSection) -> dict[str, Any]:
    """Defaults of TrainingArguments for the trained part of the model."""
    defaults = {name: default for name, (default, _) in TRAINING.items()}
    return defaults | (_ADAPTER_TRAINING if model.adapter else {})


#: TrainingArguments that cannot be given, and the keys or rules that they follow from.
MANAGED = {
    "output_dir": "name and runs_dir",
    "seed": "seed",
    "data_seed": "seed",
    "report_to": "tracking.report_to",
    "project": "tracking.project",
    "run_name": "name",
    "greater_is_better": "training.metric_for_best_model",
    "load_best_model_at_end": "nothing: the best model is always loaded",
    "eval_on_start": "nothing: zero-shot is always measured first",
    "remove_unused_columns": "nothing: batches are nested",
    "label_names": "nothing: the labels are target margins",
    "average_tokens_across_devices": "nothing: the loss is a mean over all processes",
    "resume_from_checkpoint": "nothing: a killed run resumes by itself",
    "hub_token": "HF_TOKEN in the environment: a recipe is copied into reports",
    "dataloader_persistent_workers": "nothing: each epoch draws new negatives",
    "save_only_model": "nothing: a killed run needs the optimizer's state to resume",
    "ignore_data_skip": "nothing: a resumed run ends with the same weights",
    "label_smoothing_factor": "nothing: there are no classes to smooth",
    "eval_delay": "nothing: zero-shot and every epoch are measured",
    "use_cpu": "the hardware: hide GPUs with CUDA_VISIBLE_DEVICES=",
    "ddp_find_unused_parameters": "nothing: every parameter is used",
    "ddp_broadcast_buffers": "nothing: buffers are constant",
}

#: Lower bounds that TrainingArguments does not check itself.
_LOWEST = {
    "num_train_epochs": 0,
    "learning_rate": 0,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "save_total_limit": 1,
    "dataloader_num_workers": 0,
    "ddp_timeout": 1,
}


def build_training(node: Node) -> dict[str, Any]:
    """Values of the `training` section, checked by TrainingArguments' names and types."""
    # transformers takes seconds to import; most recipes are read without it.
    from transformers import TrainingArguments

    if not isinstance(node.value, dict):
        raise InputError(f"{node.where}: training must be a mapping of keys")
    hints = typing.get_type_hints(TrainingArguments)
    names = [f.name for f in dataclasses.fields(TrainingArguments) if f.init]
    values = {}
    for name, child in node.value.items():
        if name not in names:
            raise UnknownKey(child.where, name, "training", names)
        if name in MANAGED:
            raise InputError(f"{child.where}: training.{name} follows from {MANAGED[name]}")
        values[name] = _as_argument(hints[name], child, f"training.{name}")
        check_range(values[name], {"low": _LOWEST.get(name)}, child.where, f"training.{name}")
    return values


def _as_argument(hint: Any, node: Node, path: str) -> Any:
    """A value of TrainingArguments; its own checks handle types other than scalars."""
    kinds = set(typing.get_args(hint)) or {hint}
    if node.value is None:
        # Tercet's unset default of bf16 is not of its type.
        default, _ = TRAINING.get(path.removeprefix("training."), (0, ""))
        if default is None or type(None) in kinds:
            return None
        raise InputError(f"{node.where}: {path} must have a value")
    if isinstance(node.value, dict | list):
        if kinds <= {str, int, float, bool, type(None)}:
            raise InputError(f"{node.where}: {path} must be one value, not {node.plain()!r}")
        return node.plain()
    if type(node.value) in kinds:
        return node.value
    for kind in (float, int, bool):
        if kind in kinds and not (kind is int and float in kinds) and str not in kinds:
            return coerce_scalar(kind, node, path)
    # YAML 1.1 reads the strategy `no` as false.
    return node.text if isinstance(node.value, bool) and str in kinds else node.value
