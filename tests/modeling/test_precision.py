"""The number format of `auto`: the one that is measured to be faster, and what is kept of that."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from tercet.core.schema import InputError
from tercet.modeling import BiEncoder, CrossEncoderTeacher, measured, precision as formats
from tercet.modeling.generators.language_model import load_language_model
from tercet.modeling.precision import faster_dtype, known_dtype

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cpu_with_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CPU that names instructions for bf16, and an empty cache."""
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(formats, "_has_bf16", lambda: True)
    monkeypatch.setattr(formats, "_SECONDS", 0.0)
    return tmp_path / "cache"


def work(**seconds: float) -> Callable[[torch.dtype], None]:
    """Takes these seconds of the processor in each format."""

    def busy(dtype: torch.dtype) -> None:
        until = time.process_time() + seconds["bf16" if dtype == torch.bfloat16 else "fp32"]
        while time.process_time() < until:
            pass

    return busy


@pytest.mark.parametrize(
    ("bf16", "expected"), [(0.01, torch.bfloat16), (0.029, torch.float32), (0.06, torch.float32)]
)
def test_bf16_is_taken_where_it_is_at_least_a_tenth_faster(
    tiny_encoder_path: Path, bf16: float, expected: torch.dtype
) -> None:
    config = AutoConfig.from_pretrained(tiny_encoder_path)
    assert faster_dtype("encode", config, CPU, work(fp32=0.03, bf16=bf16)) == expected
    (found,) = measured()
    assert found.use == "encode" and found.ratio == pytest.approx(0.03 / bf16, rel=0.1)


def test_what_was_measured_is_kept_by_machine_model_and_use(
    tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AutoConfig.from_pretrained(tiny_encoder_path)
    done: list[torch.dtype] = []

    def dtype_of(use: formats.Use = "encode") -> bool:
        """Whether it was measured now."""
        before = len(done)
        faster_dtype(use, config, CPU, done.append)
        return len(done) > before

    assert dtype_of()
    assert not dtype_of()
    assert dtype_of("train")
    config.name_or_path = "another/name"
    assert not dtype_of()
    config.hidden_size *= 2
    assert dtype_of()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert dtype_of()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert dtype_of()
    monkeypatch.setattr(formats, "_versions", lambda: {"torch": "9.0"})
    assert dtype_of()
    assert not dtype_of()
    assert {each.use for each in measured()} == {"encode", "train"}


def test_a_format_that_does_not_run_is_not_taken(tiny_encoder_path: Path) -> None:
    def fails(dtype: torch.dtype) -> None:
        if dtype == torch.bfloat16:
            raise RuntimeError("no such kernel")

    config = AutoConfig.from_pretrained(tiny_encoder_path)
    assert faster_dtype("score", config, CPU, fails) == torch.float32


def test_a_damaged_or_forbidden_cache_is_measured_past(
    tiny_encoder_path: Path, cpu_with_bf16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AutoConfig.from_pretrained(tiny_encoder_path)
    faster_dtype("encode", config, CPU, work(fp32=0.02, bf16=0.0))
    (file,) = (cpu_with_bf16 / "precision").iterdir()
    file.write_text(json.dumps({"use": "encode"}))
    assert faster_dtype("encode", config, CPU, work(fp32=0.0, bf16=0.02)) == torch.float32
    taken = cpu_with_bf16.with_name("file")
    taken.write_text("")
    monkeypatch.setenv("TERCET_CACHE", str(taken))
    assert faster_dtype("encode", config, CPU, work(fp32=0.02, bf16=0.0)) == torch.bfloat16
    assert measured() == []


def test_nothing_is_measured_where_the_hardware_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_dtype("auto", "cpu") is None
    assert known_dtype("auto", "mps") is None
    assert known_dtype("bf16", "cpu") == torch.bfloat16
    monkeypatch.setattr(formats, "_has_bf16", lambda: False)
    assert known_dtype("auto", "cpu") == torch.float32
    with pytest.raises(InputError, match="'int8' is unknown"):
        known_dtype("int8", "cpu")  # type: ignore[arg-type]


def test_models_measure_their_own_work_and_leave_nothing_behind(
    tiny_encoder_path: Path, tiny_cross_encoder_path: Path, tiny_causal_path: Path
) -> None:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, device="cpu")
    encoder.set_dropout(0.5)
    encoder.backbone.train()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    encoder.dtype_of("train")
    encoder.dtype_of("encode")
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.backbone.training
    assert all(p.grad is None for p in encoder.backbone.parameters())
    CrossEncoderTeacher.from_pretrained(tiny_cross_encoder_path, device="cpu")
    load_language_model(str(tiny_causal_path), device="cpu")
    assert {each.use for each in measured()} == {"encode", "train", "score", "write"}


@pytest.mark.parametrize("faster", ["fp32", "bf16"])
def test_the_faster_format_is_the_one_in_use(
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_causal_path: Path,
    tiny_texts: list[str],
    faster: formats.Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = (2.0, 1.0) if faster == "bf16" else (1.0, 2.0)
    monkeypatch.setattr(formats, "_timed", lambda work, clock: times)

    def vectors(precision: formats.Precision) -> bytes:
        encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision=precision, device="cpu")
        return encoder.encode_passages(tiny_texts).tobytes()

    other: formats.Precision = "fp32" if faster == "bf16" else "bf16"
    assert vectors("auto") == vectors(faster) != vectors(other)
    teacher = CrossEncoderTeacher.from_pretrained(tiny_cross_encoder_path, device="cpu")
    assert teacher.precision == faster
    model, _, _ = load_language_model(str(tiny_causal_path), device="cpu")
    assert formats.name_of(model.dtype) == faster
    (row,) = [each for each in measured() if each.use == "score"]
    assert replace(row, bf16=row.fp32).precision == "fp32"
