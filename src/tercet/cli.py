"""The command line that every program here shares: a recipe, overrides, help, exit codes."""

from __future__ import annotations

import dataclasses
import errno
import re
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.table import Table
from rich.text import Text

from tercet.config.parsing import (
    Node,
    build,
    check_range,
    coerce_scalar,
    nearest,
    override,
    read_yaml,
)
from tercet.config.recipe import TRAINING, Recipe, training_defaults
from tercet.config.validation import check_across
from tercet.core.console import console
from tercet.core.files import write_file
from tercet.core.schema import InputError

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


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, together: bool = True
) -> Recipe:
    """The recipe in a YAML file, with command-line overrides such as `--seed 7` put over it.

    Raises InputError for an unknown key, a wrong type or an impossible value, before any work;
    and, unless its values are looked at each by itself, for those that do not go `together`.
    """
    root = read_yaml(Path(path))
    override(root, overrides)
    training = root.value.pop("training", None)
    recipe = build(Recipe, root)
    settings = training_defaults(recipe.model)
    if training is not None and training.value is not None:
        settings |= _training(training)
    settings["metric_for_best_model"] = str(settings["metric_for_best_model"]).removeprefix("eval_")
    recipe = dataclasses.replace(recipe, training=settings)
    if together:
        check_across(recipe, training, root)
    return recipe


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every key's value as YAML; `load_recipe` reads the same recipe from it."""
    note = f"# Every value of run {recipe.name}, defaults too.\n"
    text = yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True)
    write_file(path, (note + text).encode())


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


def print_help(program: str, purpose: str, flags: dict[str, str]) -> None:
    """Every key with its default and its meaning, grouped by section."""
    console.print(f"[bold]{program} RECIPE [--section.key VALUE ...][/]\n\n{purpose}\n")
    for flag, meaning in flags.items():
        console.print(Text(f"  {flag}", "cyan") + Text(f"  {meaning}", "default"))
    console.print("\nAny key may be overridden: [cyan]--training.learning_rate 3e-5[/]; values are")
    console.print("YAML; a place in a list is a number: [cyan]--queries.generators.0.share 2[/].\n")
    _print_keys("", Recipe, "One run.")
    for field in dataclasses.fields(Recipe):
        kind = typing.get_type_hints(Recipe)[field.name]
        if dataclasses.is_dataclass(kind):
            _print_keys(field.name, typing.cast(type, kind), (kind.__doc__ or "").strip())
        elif field.name == "training":
            rows = [(f"training.{n}", value, m) for n, (value, m) in TRAINING.items()]
            _print_table("training: TrainingArguments, by their own names.", rows)
            _print_other_arguments()


def _print_keys(path: str, kind: type, title: str) -> None:
    rows, nested = [], []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if path and dataclasses.is_dataclass(hints[field.name]):
            nested.append((f"{path}.{field.name}", typing.cast(type, hints[field.name])))
        if not field.metadata.get("meaning") or field.name == "training":
            continue
        default = (
            field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[operator]
        )
        name = f"{path}.{field.name}" if path else field.name
        inner = next(iter(typing.get_args(hints[field.name])), None)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            nested.append((f"{name}.N", inner))
            kinds = ", ".join(d.kind for d in default)
            default = f"{len(default)} × {{kind: {kinds}}}" if default else None
        choices = _choices(hints[field.name])
        meaning = field.metadata["meaning"] + (f" ({', '.join(choices)})" if choices else "")
        rows.append((name, default, meaning))
    _print_table(f"{path}: {title}" if path else title, rows)
    for name, inner in nested:
        _print_keys(name, inner, (inner.__doc__ or "").strip())


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is typing.Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    return [choice for inner in typing.get_args(hint) for choice in _choices(inner)]


def _print_table(title: str, rows: Sequence[tuple[str, Any, str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("key", style="cyan", no_wrap=True)
    table.add_column("default", style="green")
    table.add_column("meaning")
    for name, default, meaning in rows:
        shown = "unset" if default is None else str(default) or '""'
        table.add_row(f"  --{name}", Text(shown), Text(meaning))
    console.print(table, "")


def _print_other_arguments() -> None:
    from transformers import TrainingArguments

    others = [
        f"{f.name} ({f.default})"
        for f in dataclasses.fields(TrainingArguments)
        if f.init and f.name not in TRAINING and f.name not in MANAGED and f.name[0] != "_"
    ]
    text = "  and, as transformers documents them: " + ", ".join(others) + "\n"
    console.print(Text(text, "dim"))


def run(
    main: Callable[[Recipe, set[str]], None],
    program: str,
    purpose: str,
    flags: dict[str, str] | None = None,
    short: dict[str, tuple[str, str]] | None = None,
) -> None:
    """Parse `sys.argv`, call `main(recipe, flags given)`; exit 2 with one line on a wrong input.

    `short` maps another name of a key to the key and what it means here.
    """
    flags, short = flags or {}, short or {}
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        others = {f"{name} VALUE": f"{meaning} (--{key})" for name, (key, meaning) in short.items()}
        print_help(program, purpose, others | flags | {"--help": "this text"})
        sys.exit(0 if arguments else 2)
    for name, (key, _) in short.items():
        arguments = [re.sub(rf"^{name}(?==|$)", f"--{key}", argument) for argument in arguments]
    given = {argument for argument in arguments if argument in flags}
    rest = [argument for argument in arguments if argument not in given]
    try:
        if rest[:1] == [] or rest[0].startswith("--"):
            raise InputError(f"{program} needs a recipe first, such as recipes/quickstart.yaml")
        main(load_recipe(rest[0], rest[1:]), given)
    except InputError as error:
        stop(str(error), 2)
    except KeyboardInterrupt:
        stop("interrupted: the same command goes on where this one was", 130)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            stop("the disk is full: make room, then give the same command again", 1)
        if not isinstance(error, PermissionError):
            raise
        stop(f"{error.filename}: {error.strerror}", 2)


def stop(reason: str, code: int) -> NoReturn:
    """End the program with one line that says why."""
    sys.stdout.flush()
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(code)
