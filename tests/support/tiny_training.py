"""A tiny encoder in training: what the tests of the trainer share, and a program for accelerate.

accelerate launch tiny_training.py ENCODER TEXTS FOLDER BATCH
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tercet.config.loading import load_recipe
from tercet.core.processes import is_main_process
from tercet.core.schema import Passage, Query
from tercet.data import Passages
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.training.collator import TripletCollator
from tercet.modeling.training.retrieval_evaluation import RetrievalEvaluation
from tercet.modeling.training.trainer import MarginMSETrainer, training_arguments
from tercet.retrieval import ExactIndex

#: Every loss, as overrides of a recipe.
LOSSES = {
    "margin_mse": ["--loss.kind=margin_mse"],
    "all_pairs": ["--loss.kind=all_pairs"],
    "kl": ["--loss.kind=kl"],
    "kl_cadet": ["--loss.kind=kl", "--loss.teacher_temperature=0.3"],
    "info_nce": ["--loss.kind=info_nce"],
    "all_pairs_and_info_nce": ["--loss.info_nce=0.5"],
    # At this temperature a wrong column would be felt, however little its score.
    "matryoshka_and_info_nce": ["--loss.matryoshka=[4, 8]", "--loss.info_nce=0.5"],
    "kl_and_info_nce": ["--loss.kind=kl", "--loss.info_nce=1", "--loss.info_nce_temperature=1"],
}


class Drawn:
    """Lists of unequal length over a few passages, as a Trainer reads them."""

    def __init__(self, passages: Sequence[str], queries: int) -> None:
        random = np.random.default_rng(5)
        self.items = []
        for row in range(queries):
            drawn = random.permutation(len(passages))[: 3 + row % 3]
            target = random.normal(size=len(drawn) - 1).astype(np.float32) * 0.1
            near = [passages[drawn[1 + i]] for i in np.flatnonzero(target <= 0.1 * target.max())]
            item = {"query": row, "passages": [passages[i] for i in drawn], "margins": target}
            self.items.append(item | {"near": near})

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


def trainer(
    encoder: BiEncoder, texts: dict[str, str], folder: Path, *overrides: str
) -> MarginMSETrainer:
    """A trainer over 16 lists, without autocast unless the overrides say otherwise."""
    recipe_file = folder / f"recipe-{os.getpid()}.yaml"  # processes write it at the same time
    recipe_file.write_text(f"corpus: {{path: x}}\nruns_dir: {folder}\n")
    recipe = load_recipe(recipe_file, ["--training.bf16=false", *overrides])
    queries = [text.split()[0] for text in list(texts.values())[:16]]
    evaluation = RetrievalEvaluation(
        encoder,
        Passages.of(Passage(id, "", text) for id, text in texts.items()),
        {
            "validation": (
                [Query(f"q{i}", text) for i, text in enumerate(queries)],
                {f"q{i}": {f"p{i}": 1} for i in range(16)},
            )
        },
        make_index=ExactIndex,
        metrics=recipe.metrics,
        scratch=folder,
    )
    return MarginMSETrainer(
        encoder,
        training_arguments(recipe),
        Drawn(list(texts), 16),
        TripletCollator.of_texts(encoder, queries, texts),
        evaluation,
        loss=recipe.loss,
    )


def train_with_every_loss(
    encoder_path: Path, texts: dict[str, str], folder: Path, batch: int
) -> None:
    """Leave each loss's course and the weights that it ends with, as `FOLDER/NAME.pt`.

    Plain gradient descent, which does not turn rounding into steps of full size as Adam does.
    """
    for name, options in LOSSES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        encoder = BiEncoder.from_pretrained(encoder_path, precision="fp32")
        encoder.set_dropout(0.0)
        training = {
            "per_device_train_batch_size": batch,
            # Gradients of margins are smaller, for no temperature divides them.
            "learning_rate": 1 if name in ("margin_mse", "all_pairs") else 0.02,
            "optim": "sgd",
            "max_grad_norm": 0,
            "logging_steps": 1,
            "num_train_epochs": 2,
        }
        overrides = [f"--training.{key}={value}" for key, value in training.items()]
        run = trainer(encoder, texts, folder / name, *overrides, *options)
        run.chunk_tokens = 100  # several chunks, in unequal numbers
        run.train()
        if is_main_process():
            losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
            weights = run.accelerator.unwrap_model(run.model).state_dict()
            torch.save({"losses": losses, "weights": weights}, folder / f"{name}.pt")


if __name__ == "__main__":
    encoder_path, texts_path, folder, batch = sys.argv[1:]
    train_with_every_loss(
        Path(encoder_path), json.loads(Path(texts_path).read_text()), Path(folder), int(batch)
    )
