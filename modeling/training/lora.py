"""LoRA (arXiv 2106.09685): low-rank updates to linear layers, trained instead of their weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from tercet.config.recipe import ModelSection
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.protocols import Student


def with_lora(backbone: Any, section: ModelSection, *, seed: int) -> Any:
    """Return the backbone with frozen weights and seeded low-rank updates, zero at first."""
    from peft import LoraConfig, get_peft_model

    rank = section.lora_rank or 0
    config = LoraConfig(
        r=rank,
        lora_alpha=section.lora_alpha or 2 * rank,
        lora_dropout=section.dropout,
        target_modules="all-linear",
        # No vector depends on the pooler, and a projection is trained in full.
        exclude_modules=r"(.*\.)?(pooler|projection)(\..*)?",
        modules_to_save=["projection"] if hasattr(backbone, "projection") else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(backbone, config)


def merged(backbone: Any) -> nn.Module:
    """Return the plain backbone, its updates added to its weights."""
    plain: nn.Module = backbone.merge_and_unload()
    return plain


def unwrapped(student: Student) -> Student:
    """Return the student to save during training: with LoRA a copy with its updates merged."""
    if not isinstance(student, BiEncoder) or not hasattr(student.backbone, "merge_and_unload"):
        return student
    other = copy.copy(student)
    other.backbone = merged(copy.deepcopy(student.backbone))
    return other
