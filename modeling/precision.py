"""The device and the number format of a model, chosen by what the hardware supports."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from tercet.core.schema import InputError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def default_device() -> torch.device:
    """Return this process's GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def inference_dtype(precision: Precision, device: torch.device | str) -> torch.dtype:
    """Return the number format of matrix products; "auto" is bf16 if the hardware multiplies it.

    Raises InputError for an unknown precision.
    """
    if precision not in get_args(Precision):
        choices = ", ".join(get_args(Precision))
        raise InputError(f"precision {precision!r} is unknown: choose one of {choices}")
    if precision == "auto":
        return torch.bfloat16 if _has_fast_bf16(torch.device(device)) else torch.float32
    return _DTYPES[precision]


def describe(precision: Precision, device: torch.device | str) -> str:
    """Return a line for the log: the choice of `inference_dtype`, and why."""
    device = torch.device(device)
    dtype = str(inference_dtype(precision, device)).removeprefix("torch.")
    if precision == "auto":
        support = "supports" if _has_fast_bf16(device) else "does not support"
        return f"{dtype} on {device} (auto: the {device.type} {support} bf16 instructions)"
    slow = dtype == "bfloat16" and not _has_fast_bf16(device)
    return f"{dtype} on {device} (asked for{'; emulated here, so slower' if slow else ''})"


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # AVX-512 without these two converts bf16 to multiply it, which is slower than float32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def hardware() -> dict[str, str | int | None]:
    """Return the GPU's name, if there is one, and the number of CPU threads of torch."""
    gpu = torch.cuda.get_device_name(default_device()) if torch.cuda.is_available() else None
    return {"gpu": gpu, "threads": torch.get_num_threads()}
