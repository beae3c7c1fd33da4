"""Whether given vectors are a model's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tercet.modeling import BiEncoder
from tercet.pipeline.given_vectors import likeness
from tercet.pipeline.steps.student import SAME_MODEL
from tercet.retrieval.vector_files import cosines


@pytest.mark.parametrize("common", [0.0, 3.0])
def test_a_prompt_that_was_forgotten_shows_however_alike_all_texts_are(
    tiny_encoder_path: Path, tiny_texts: list[str], common: float
) -> None:
    """With a large common part, as E5's vectors have, all cosines are near 1."""
    model = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32", max_length=48)

    class Texts(list[str]):
        contents = tiny_texts

    passages: Any = Texts(tiny_texts)

    def encode(texts: list[str]) -> np.ndarray:
        vectors = model.encode_passages(texts)
        vectors[:, 0] += common
        return vectors

    encoder: Any = SimpleNamespace(dimension=model.dimension, encode_passages=encode)
    own, others = encode(tiny_texts), encode([f"passage: {text}" for text in tiny_texts])
    assert likeness(encoder, passages, own, 64) == pytest.approx(1)
    assert likeness(encoder, passages, others, 64) < SAME_MODEL
    if common:
        assert float(np.mean(cosines(own, others))) > 0.98
    assert likeness(encoder, passages, own[:, :16], 64) == 0
