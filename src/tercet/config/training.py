"""TrainingArguments in a recipe: the defaults, the keys that Tercet sets, the checks."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from tercet.config.model import ModelSection
from tercet.config.parsing import Node, check_range, coerce_scalar, nearest
from tercet.core.schema import InputError

#: Names of TrainingArguments that change no weight: a finished model is of any of their values.
WEIGHTLESS = {
    "dataloader_num_workers",
    "ddp_timeout",
    "disable_tqdm",
    "log_level",
    "logging_steps",
    "push_to_hub",
    "save_total_limit",
}


#: What Tercet sets of TrainingArguments; any other of its names may be given as it is.
TRAINING: dict[str, tuple[Any, str]] = {
    "num_train_epochs": (1.0, "epochs; an adapter's 10"),
    "learning_rate": (2e-5, "peak learning rate; an adapter's 1e-3"),
    "per_device_train_batch_size": (16, "queries a step and process; an adapter's 64"),
    "gradient_accumulation_steps": (1, "steps whose gradients are added up"),
    "lr_scheduler_type": ("linear", "how the learning rate falls"),
    "warmup_steps": (0.05, "steps of rising learning rate, a part of all if below 1"),
    "weight_decay": (0.0, "AdamW's weight decay"),
    "bf16": (None, "bf16 autocast; unset: where the hardware is fast at it"),
    "logging_steps": (10, "steps between two logged losses"),
    "eval_strategy": ("epoch", "when to evaluate: epoch or steps"),
    "save_strategy": ("epoch", "when to save a checkpoint that a killed run resumes from"),
    "save_total_limit": (2, "checkpoints kept, the best always among them"),
    "metric_for_best_model": ("mrr@10", "the held-out queries' figure that chooses what ships"),
    "dataloader_num_workers": (0, "processes that prepare batches"),
    "ddp_timeout": (7200, "seconds a process waits for another"),
}


#: What an adapter's training has in their place: it has few weights, and its steps take no time.
ADAPTER_TRAINING: dict[str, Any] = {
    "num_train_epochs": 10.0,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 64,
}


def training_defaults(model: ModelSection) -> dict[str, Any]:
    """TrainingArguments that a recipe does not give, for what its model trains."""
    defaults = {name: default for name, (default, _) in TRAINING.items()}
    return defaults | (ADAPTER_TRAINING if model.adapter else {})


#: TrainingArguments that follow from other keys of the recipe.
MANAGED = {
    "output_dir": "name and runs_dir",
    "seed": "seed",
    "data_seed": "seed",
    "report_to": "tracking.report_to",
    "project": "tracking.project",
    "run_name": "name",
    "greater_is_better": "training.metric_for_best_model",
    "load_best_model_at_end": "nothing: the best model is always kept",
    "eval_on_start": "nothing: zero-shot is always measured first",
    "remove_unused_columns": "nothing: batches are nested",
    "label_names": "nothing: labels are the target margins",
    "average_tokens_across_devices": "nothing: the loss is a mean over all processes",
    "resume_from_checkpoint": "nothing: a killed run resumes by itself",
    "hub_token": "HF_TOKEN in the environment: a recipe is copied into reports",
    "dataloader_persistent_workers": "nothing: each epoch draws other negatives",
    "save_only_model": "nothing: a killed run resumes from its optimizer's state too",
    "ignore_data_skip": "nothing: a resumed run ends with the same weights",
    "label_smoothing_factor": "nothing: there are no classes to smooth",
    "eval_delay": "nothing: zero-shot and every epoch are measured",
    "use_cpu": "the hardware: hide GPUs with CUDA_VISIBLE_DEVICES=",
    "ddp_find_unused_parameters": "nothing: every parameter is used",
    "ddp_broadcast_buffers": "nothing: buffers are constants",
}


#: The least value of TrainingArguments that do not check it themselves.
LOWEST = {
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


def _training(node: Node) -> dict[str, Any]:
    """The `training` section, checked by the names and types of TrainingArguments."""
    # transformers takes seconds to import, which `import tercet` should not.
    from transformers import TrainingArguments

    if not isinstance(node.value, dict):
        raise InputError(f"{node.where}: training must be a mapping of keys")
    hints = typing.get_type_hints(TrainingArguments)
    names = [f.name for f in dataclasses.fields(TrainingArguments) if f.init]
    values = {}
    for name, child in node.value.items():
        if name not in names:
            hint = nearest(name, names)
            raise InputError(f"{child.where}: unknown key {name!r} in training{hint}")
        if name in MANAGED:
            raise InputError(f"{child.where}: training.{name} follows from {MANAGED[name]}")
        values[name] = _as_argument(hints[name], child, f"training.{name}")
        check_range(values[name], {"low": LOWEST.get(name)}, child.where, f"training.{name}")
    return values


def _as_argument(hint: Any, node: Node, path: str) -> Any:
    """A value of TrainingArguments: plain types are checked, richer ones left to its own checks."""
    kinds = set(typing.get_args(hint)) or {hint}
    if node.value is None:
        # What Tercet leaves unset by default may be unset whatever its type: bf16.
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
