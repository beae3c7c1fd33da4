"""What runs on a GPU gives what runs on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.core.schema import Passage
from tercet.modeling import (
    BiEncoder,
    CausalGenerator,
    CrossEncoderTeacher,
    Sampling,
    Seq2SeqGenerator,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no CUDA GPU here: encoding, scoring and writing on one are not tested",
    ),
]


@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-4), ("bf16", 2e-2)])
def test_vectors_are_the_cpus(
    tiny_encoder_path: Path, tiny_texts: list[str], precision: str, atol: float
) -> None:
    by_device = [
        BiEncoder.from_pretrained(
            tiny_encoder_path, precision=chosen, device=device
        ).encode_passages(tiny_texts)
        for device, chosen in (("cpu", "fp32"), ("cuda", precision))
    ]
    assert np.allclose(*by_device, atol=atol)


def test_scores_are_the_cpus(tiny_cross_encoder_path: Path, tiny_texts: list[str]) -> None:
    pairs = [(text.split()[1], text) for text in tiny_texts]
    by_device = [
        CrossEncoderTeacher.from_pretrained(
            tiny_cross_encoder_path, precision="fp32", device=device
        ).score(pairs)
        for device in ("cpu", "cuda")
    ]
    assert np.allclose(*by_device, atol=1e-3)


def test_the_likeliest_queries_are_the_cpus_and_equal_seeds_draw_equally(
    tiny_causal_path: Path, tiny_seq2seq_path: Path, tiny_texts: list[str]
) -> None:
    passages = [Passage(str(i), "", text) for i, text in enumerate(tiny_texts[:8])]
    for kind, path in ((CausalGenerator, tiny_causal_path), (Seq2SeqGenerator, tiny_seq2seq_path)):
        best = [
            kind.from_pretrained(
                path,
                sampling=Sampling(top_k=1, max_new_tokens=8),
                precision="fp32",
                device=device,
            ).generate(passages, 1, 0)
            for device in ("cpu", "cuda")
        ]
        assert best[0] == best[1]
        drawn = kind.from_pretrained(path, device="cuda")
        before = torch.cuda.get_rng_state()
        assert drawn.generate(passages, 2, 5) == drawn.generate(passages, 2, 5)
        assert torch.equal(torch.cuda.get_rng_state(), before)
