"""The device of a model, and its number format: the one that is measured to be faster.

A processor may name instructions for bf16 and multiply it at half the speed of float32, as virtual
machines do. So `auto` times a model's own work in both formats; bf16 is taken where it is at least
10% faster. What was measured is kept in the user's cache by machine, model and versions; a run
keeps the choice in its folder (`tercet.pipeline.choices`).

On CUDA the hardware's own support of bf16 decides. On a CPU without instructions for bf16 nothing
is measured: it is float32. Apple's GPUs (MPS) are used and measured where torch has them; no test
of Tercet has run on one.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from tercet.core.cache import cache_folder
from tercet.core.files import digest, kept, typed, write_json
from tercet.core.schema import InputError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
#: What a model does: encode texts, learn, score pairs, write queries. One may be faster in bf16 and
#: another not.
Use = Literal["encode", "train", "score", "write"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Times as fast as float32 that bf16 must be.
WORTH_BF16 = 1.1
_SECONDS, _FEWEST, _MOST = 1.0, 3, 8  # of measuring; rounds
#: Environment variables that change which kernels multiply, or how fast.
_KERNELS = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "MKL_ENABLE_INSTRUCTIONS"),
)
#: Keys of a transformers config that change no kernel.
_NAMES = (
    *("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype"),
    *("id2label", "label2id", "architectures"),
)


def default_device() -> torch.device:
    """Return this process's GPU, NVIDIA's or Apple's, if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def known_dtype(precision: Precision, device: torch.device | str) -> torch.dtype | None:
    """Return the format of matrix products, or None where a measurement decides.

    Raises InputError for an unknown precision.
    """
    if precision not in get_args(Precision):
        choices = ", ".join(get_args(Precision))
        raise InputError(f"precision {precision!r} is unknown: choose one of {choices}")
    if precision != "auto":
        return _DTYPES[precision]
    place = torch.device(device).type
    if place == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return None if place == "mps" or (place == "cpu" and _has_bf16()) else torch.float32


def name_of(dtype: torch.dtype) -> Precision:
    """Return a recipe's name of a format."""
    names: dict[torch.dtype, Precision]
    names = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
    return names[dtype]


@dataclass(frozen=True)
class Measured:
    """The seconds of one use of a model in both formats, and what they were measured on."""

    use: Use
    model: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    fp32: float
    bf16: float

    @property
    def ratio(self) -> float:
        """How many times as fast as float32 bf16 is."""
        return self.fp32 / self.bf16

    @property
    def precision(self) -> Precision:
        """The faster format."""
        return "bf16" if self.ratio >= WORTH_BF16 else "fp32"


def faster_dtype(
    use: Use, config: Any, device: torch.device, work: Callable[[torch.dtype], object]
) -> torch.dtype:
    """Return the faster format of a model with this transformers config.

    `work` does a little of the use in the format that it is given. It is timed if this machine has
    not done so before; the caller's random state is unchanged.
    """
    known = _machine(device), _versions()
    key = digest([use, _architecture(config), *known])
    file = cache_folder("precision") / f"{key[:32]}.json"
    found = _read(file)
    if found is None:
        # Processor time, as other work on a busy machine takes turns from one format or the other.
        times = _timed(work, time.process_time if device.type == "cpu" else time.perf_counter)
        found = Measured(use, _label(config), *known, *times)
        with suppress(OSError):  # a cache that cannot be written: the next process measures again
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, asdict(found))
    return _DTYPES[found.precision]


def measured() -> list[Measured]:
    """Return what was measured on this machine, or on others that share the cache."""
    files = sorted(cache_folder("precision").glob("*.json"))
    found = [each for file in files if (each := _read(file))]
    return sorted(found, key=lambda each: (each.model, each.use))


def _read(file: Path) -> Measured | None:
    try:
        return kept(file, partial(typed, Measured))
    except OSError:
        return None


def _timed(
    work: Callable[[torch.dtype], object], clock: Callable[[], float]
) -> tuple[float, float]:
    """The fastest of some rounds of `work`, in float32 and bf16; the formats take turns.

    bf16 that does not run at all takes forever.
    """
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.random.fork_rng(devices=[]):
        start, rounds = time.perf_counter(), 0
        while rounds < _FEWEST or (
            rounds < _MOST and time.perf_counter() - start < _SECONDS * rounds / (rounds + 1)
        ):
            for dtype in best:
                began = clock()
                try:
                    work(dtype)
                except (RuntimeError, TypeError):
                    if dtype == torch.float32:
                        raise
                    return best[torch.float32], 1e9
                best[dtype] = min(best[dtype], clock() - began)
            rounds += 1
    return best[torch.float32], best[torch.bfloat16]


def _has_bf16() -> bool:
    """Whether this CPU names instructions that multiply bf16; how fast they are it does not say."""
    # AVX-512 without these two converts bf16 to multiply it, which is slower than float32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _architecture(config: Any) -> dict[str, Any]:
    """What a config says of the kernels: kinds and sizes, no names."""
    return {name: _plain(value) for name, value in config.to_dict().items() if name not in _NAMES}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items() if name not in _NAMES}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, int | float | bool) or value is None else str(value)


def _label(config: Any) -> str:
    """A model's kind and size in words."""
    text = config.get_text_config()
    layers, width = getattr(text, "num_hidden_layers", "?"), getattr(text, "hidden_size", "?")
    return f"{config.model_type}, {layers} layers of {width}"


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": _gpu(device),
        "environment": {name: os.environ[name] for name in _KERNELS if name in os.environ},
    }


@cache
def _cpu() -> str:
    """The processor's name and a digest of its flags."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    name = facts.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({digest(sorted(facts.get('flags', '').split()))[:8]})"


def _gpu(device: torch.device) -> str | None:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple" if device.type == "mps" else None


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers")}


def hardware() -> dict[str, str | int | None]:
    """Return the GPU's name, if there is one, and the number of CPU threads of torch."""
    return {"gpu": _gpu(default_device()), "threads": torch.get_num_threads()}
