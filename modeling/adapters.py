"""PEFT adapter folders: which model they belong to, and that model with its updates merged."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tercet.core.borders import border
from tercet.core.extras import missing
from tercet.core.files import read_json
from tercet.core.schema import InputError
from tercet.modeling.checks import check_finite

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def base_of(name: str, folder: Path) -> tuple[str, str | None] | None:
    """The base model's name and revision in an adapter folder; None for any other folder.

    Raises InputError if the folder does not say which.
    """
    if not (folder / CONFIG).exists():
        return None
    config = read_json(folder / CONFIG)
    base = config.get("base_model_name_or_path")
    if not base:
        raise InputError(
            f"model {name!r}: {folder / CONFIG} has no base_model_name_or_path: write the base"
            " model's folder or Hub name there"
        )
    return str(base), config.get("revision")


def merge(model: Any, name: str, folder: Path) -> Any:
    """Return `model` with the updates in `folder` added to its weights.

    Raises InputError for an adapter that cannot be merged, or has other weights than the model.
    """
    if find_spec("peft") is None:
        raise missing("peft", "peft")
    from peft import PeftModel, get_peft_model_state_dict

    if not (folder / WEIGHTS).exists():
        raise InputError(f"model {name!r}: {folder / WEIGHTS} is missing: save it as safetensors")
    with border(f"model {name!r}: the adapter of {folder / CONFIG} does not merge"):
        adapted = PeftModel.from_pretrained(model, str(folder))
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            lost = set(file.keys()) ^ set(get_peft_model_state_dict(adapted))
        if lost:
            raise ValueError(f"its tensors are not those of a {type(model).__name__}: {min(lost)}")
        check_finite(name, adapted)
        merged = adapted.merge_and_unload(safe_merge=True)
    vars(merged).pop("peft_config", None)
    return merged.requires_grad_(True)  # an adapter freezes its base
