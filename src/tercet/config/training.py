"""The `training` section: TrainingArguments with Tercet's defaults and checks."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from tercet.config.model import ModelSection
from tercet.config.parsing import EXPONENT, Node, UnknownKey, check_range, coerce_scalar
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


_SEARCH = "nothing: an evaluation searches the corpus"
_WHOLE = "nothing: every process holds the whole model"

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
    "enable_jit_checkpoint": "training.save_strategy: a killed run resumes from the last one",
    "label_smoothing_factor": "nothing: there are no classes to smooth",
    "eval_delay": "nothing: zero-shot and every epoch are measured",
    "use_cpu": "the hardware: hide GPUs with CUDA_VISIBLE_DEVICES=",
    "local_rank": "the launcher: `accelerate launch` numbers the processes",
    "ddp_find_unused_parameters": "nothing: every parameter is used",
    "ddp_broadcast_buffers": "nothing: buffers are constant",
    "do_train": "nothing: a run trains; --until targets stops before it",
    "do_eval": "training.eval_strategy",
    "do_predict": "nothing: the test queries are always measured",
    "per_device_eval_batch_size": "the hardware: a batch has as many tokens as suit it",
    "bf16_full_eval": "model.precision",
    "fp16_full_eval": "model.precision",
    "prediction_loss_only": _SEARCH,
    "eval_accumulation_steps": _SEARCH,
    "eval_do_concat_batches": _SEARCH,
    "eval_use_gather_object": _SEARCH,
    "include_for_metrics": "evaluation.metrics",
    "batch_eval_metrics": _SEARCH,
    "include_num_input_tokens_seen": "nothing: tokens are always counted, without padding",
    "length_column_name": "nothing: lists of passages have no column of lengths",
    "use_cache": "nothing: training generates no text",
    "fsdp": _WHOLE,
    "fsdp_config": _WHOLE,
    "deepspeed": _WHOLE,
    "parallelism_config": _WHOLE,
}

#: The other TrainingArguments, which do here what transformers' documentation says.
HONOURED = frozenset(
    {
        *("max_steps", "lr_scheduler_kwargs", "optim", "optim_args", "optim_target_modules"),
        *("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "neftune_noise_alpha"),
        *("fp16", "tf32", "activation_checkpointing", "activation_checkpointing_kwargs"),
        *("gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_empty_cache_steps"),
        *("torch_compile", "torch_compile_backend", "torch_compile_mode", "auto_find_batch_size"),
        *("use_liger_kernel", "liger_kernel_config", "full_determinism", "accelerator_config"),
        *("logging_strategy", "logging_first_step", "logging_nan_inf_filter", "log_level"),
        *("log_level_replica", "log_on_each_node", "disable_tqdm", "skip_memory_metrics", "debug"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("eval_steps", "save_steps", "save_on_each_node"),
        *("restore_callback_states_from_checkpoint", "train_sampling_strategy"),
        *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_strategy", "hub_always_push"),
        *("hub_revision", "dataloader_drop_last", "dataloader_pin_memory"),
        *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
        *("dataloader_in_order", "ddp_bucket_cap_mb", "ddp_static_graph", "ddp_backend"),
    }
)

#: Arguments without effect unless another one has a value that is not one of these.
_BESIDE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "eval_steps": ("eval_strategy", ("epoch", "no")),
    "save_steps": ("save_strategy", ("epoch", "best", "no")),
    "activation_checkpointing_kwargs": ("activation_checkpointing", (None, False)),
    "gradient_checkpointing_kwargs": ("gradient_checkpointing", (None, False)),
    "liger_kernel_config": ("use_liger_kernel", (None, False)),
    "lr_scheduler_kwargs": ("lr_scheduler_type", ("constant", "constant_with_warmup")),
}

#: A number that YAML 1.1 reads as text: without a point or without the exponent's sign.

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
    values = {}
    for name, child in node.value.items():
        _check_name(name, child, [f.name for f in dataclasses.fields(TrainingArguments) if f.init])
        values[name] = _as_argument(hints[name], child, f"training.{name}")
        check_range(values[name], {"low": _LOWEST.get(name)}, child.where, f"training.{name}")
    _check_beside(node.value, values)
    return values


def _check_name(name: str, node: Node, theirs: Sequence[str]) -> None:
    """Raise InputError for a name that cannot be given; `theirs` are all of TrainingArguments."""
    if name in MANAGED:
        raise InputError(f"{node.where}: training.{name} follows from {MANAGED[name]}")
    ours = [each for each in theirs if each in TRAINING or each in HONOURED]
    if name not in theirs:
        raise UnknownKey(node.where, name, "training", ours)
    if name not in ours:
        raise InputError(
            f"{node.where}: training.{name} is newer than this version of Tercet, which does not "
            "know whether it would change anything: leave it out"
        )


def _check_beside(nodes: Mapping[str, Node], values: Mapping[str, Any]) -> None:
    """Raise InputError for an argument that would do nothing, as another one has no use for it."""
    for name, (other, idle) in _BESIDE.items():
        default, _ = TRAINING.get(other, (None, ""))
        value = values.get(other, default)
        if values.get(name) not in (None, {}) and value in idle:
            shown = "unset" if value is None else value
            raise InputError(
                f"{nodes[name].where}: training.{name} does nothing with training.{other} {shown}: "
                "change that too, or leave it out"
            )


def _as_argument(hint: Any, node: Node, path: str) -> Any:
    """A value of TrainingArguments; its own checks handle types other than scalars."""
    kinds = set(typing.get_args(hint)) or {hint}
    if node.value is None:
        # Tercet's unset default of bf16 is not of its type.
        default, _ = TRAINING.get(path.removeprefix("training."), (0, ""))
        if default is None or type(None) in kinds:
            return None
        raise InputError(f"{node.where}: {path} must have a value")
    if path == "training.optim_args" and isinstance(node.value, dict):
        return ",".join(f"{name}={value}" for name, value in _numbers(node, path).items())
    if isinstance(node.value, dict | list):
        if kinds <= {str, int, float, bool, type(None)}:
            raise InputError(f"{node.where}: {path} must be one value, not {node.plain()!r}")
        return _numbers(node, path)
    if float in kinds:
        return coerce_scalar(float, node, path)
    if type(node.value) in kinds:
        return node.value
    for kind in (int, bool):
        if kind in kinds and str not in kinds:
            return coerce_scalar(kind, node, path)
    # YAML 1.1 reads the strategy `no` as false.
    return node.text if isinstance(node.value, bool) and str in kinds else node.value


def _numbers(node: Node, path: str) -> Any:
    """The node's plain value; quoted texts within that are numbers, as "1e-6", become them.

    Raises InputError for a number that is not finite.
    """
    if isinstance(node.value, dict):
        return {name: _numbers(child, f"{path}.{name}") for name, child in node.value.items()}
    if isinstance(node.value, list):
        return [_numbers(child, f"{path}.{i}") for i, child in enumerate(node.value)]
    written = isinstance(node.value, str) and EXPONENT.fullmatch(node.value)
    if written or isinstance(node.value, float):
        return coerce_scalar(float, node, path)
    return node.value
