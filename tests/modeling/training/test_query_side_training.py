"""Passages whose vectors stay as they are: the same losses, and gradients for queries alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import trainer

from tercet.modeling import AdaptedEncoder, Known, Student, TokenizedTexts, TripletCollator
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.training.collator import IGNORED
from tercet.modeling.training.objective import Objective
from tercet.modeling.training.trainer import MarginMSETrainer


@pytest.fixture
def texts(tiny_texts: list[str]) -> dict[str, str]:
    return {f"p{i}": text for i, text in enumerate(tiny_texts[:40])}


@pytest.fixture
def encoder(tiny_encoder_path: Path) -> BiEncoder:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
    encoder.set_dropout(0.0)
    return encoder


def frozen(
    student: Student, texts: dict[str, str], folder: Path, *options: str, penalty: float = 0.0
) -> MarginMSETrainer:
    """A trainer over 16 lists whose passages are known by the vectors of the model as it came."""
    beneath = student.encoder if isinstance(student, AdaptedEncoder) else student
    assert isinstance(beneath, BiEncoder)
    run = trainer(beneath, texts, folder, *options)
    queries = [text.split()[0] for text in list(texts.values())[:16]]
    passages = Known(beneath.encode_passages(list(texts.values())))
    asked = (
        Known(student.remember(queries))
        if isinstance(student, AdaptedEncoder)
        else TokenizedTexts(beneath, queries, "query")
    )
    number = {name: row for row, name in enumerate(texts)}
    return MarginMSETrainer(
        student,
        run.args,
        run.train_dataset,
        TripletCollator(asked, passages, number),
        run.evaluation,
        loss=run.objective.section,
        penalty=penalty,
    )


def step(run: MarginMSETrainer, size: int) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of eight lists, so many at a time."""
    run.model.zero_grad()
    items = [run.train_dataset[i] for i in range(8)]
    batches: list[Any] = [run.data_collator(items[i : i + size]) for i in range(0, 8, size)]
    counted = sum(batch["labels"].ne(IGNORED).sum() for batch in batches)
    run.current_gradient_accumulation_steps = len(batches)
    run.create_optimizer()
    loss = sum(float(run.training_step(run.model, batch, counted)) for batch in batches)
    return loss, [p.grad.clone() for p in run.model.parameters() if p.grad is not None]


def assert_alike(found: Any, expected: Any) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-6)
    assert max(float(x.abs().max()) for x in expected[1]) > 1e-4
    for a, b in zip(found[1], expected[1], strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("info_nce", [0.0, 0.5])
def test_a_query_encoder_s_gradients_are_those_beside_constant_passages(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, info_nce: float
) -> None:
    run = frozen(encoder, texts, tmp_path, f"--loss.info_nce={info_nce}")
    for tokens in (20, 100_000):
        run.chunk_tokens = tokens
        found = step(run, 8)
        batch = run.data_collator([run.train_dataset[i] for i in range(8)])
        run.model.zero_grad()
        query = encoder.embed(encoder.backbone, batch["query"])
        objective = Objective(run.objective.section, normalize=encoder.normalize)
        loss = (
            objective(query, batch["passage"]["vectors"], batch) / batch["labels"].ne(IGNORED).sum()
        )
        loss.backward()
        grads = [p.grad for p in encoder.backbone.parameters() if p.grad is not None]
        assert_alike(found, (loss.item(), grads))


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_an_adapter_s_gradients_do_not_depend_on_how_a_batch_is_cut(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path, penalty: float
) -> None:
    student = AdaptedEncoder.fresh(encoder, 4, seed=3)
    with torch.no_grad():  # where the penalty has something to pull back
        student.adapter.up += 0.1 * torch.randn_like(student.adapter.up)
    run = frozen(student, texts, tmp_path, penalty=penalty)
    whole = step(run, 8)
    assert_alike(step(run, 1), whole)
    assert_alike(step(run, 3), whole)


def test_an_adapter_meets_infonce(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    student = AdaptedEncoder.fresh(encoder, 4, seed=3)
    loss, grads = step(frozen(student, texts, tmp_path, "--loss.info_nce=0.5"), 8)
    assert np.isfinite(loss) and all(torch.isfinite(g).all() for g in grads)
    assert any(g.abs().max() > 0 for g in grads)
