"""Memory and time of a step with InfoNCE over 1,024 lists of 20 passages.

    python benchmarks/in_batch.py [LISTS]

A bookmark's title stands for the query, its positive is the bookmark and its negatives are others
drawn at random: what matters here is how many there are. Beside what encodes a chunk, the memory
holds the batch's tokens, its vectors and their scores.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from beside import bookmarks
from transformers import TrainerCallback

from tercet.config.recipe import LossSection, Recipe
from tercet.config.training import TRAINING
from tercet.core.console import console
from tercet.modeling import BiEncoder, MarginMSETrainer, TripletCollator, training_arguments
from tercet.modeling.training.collator import IGNORED

MODEL = "models/all-MiniLM-L6-v2"
LISTS, PASSAGES, STEPS = 1024, 20, 2


class Lists:
    """As a Trainer reads them: the margins say that every negative is far."""

    def __init__(self, ids: list[str], lists: int) -> None:
        random = np.random.default_rng(13)
        self.positives = random.permutation(len(ids))[:lists]
        self.items = []
        for row, positive in enumerate(self.positives):
            others = random.choice(len(ids) - 1, PASSAGES - 1, replace=False)
            others += others >= positive
            passages = [ids[positive], *(ids[i] for i in others)]
            margins = random.uniform(0.3, 0.7, PASSAGES - 1).astype(np.float32)
            self.items.append({"query": row, "passages": passages, "margins": margins})

    def set_epoch(self, epoch: int) -> None:
        """The same lists in every epoch."""

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


def main() -> None:
    """Take a few steps on one batch, and print what they took."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else LISTS
    passages = bookmarks()
    lists = Lists([passage.id for passage in passages], count)
    titles = [passages[i].title or passages[i].contents for i in lists.positives]
    encoder = BiEncoder.from_pretrained(MODEL)
    encoder.set_dropout(0.0)
    collator = TripletCollator.of_texts(encoder, titles, {p.id: p.contents for p in passages})
    training = {name: default for name, (default, _) in TRAINING.items()}
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(runs_dir=folder, loss=LossSection(info_nce=1.0), training=training)
        args = training_arguments(recipe)
        nothing: Any = TrainerCallback()  # in place of the retrieval evaluation
        trainer = MarginMSETrainer(encoder, args, lists, collator, nothing, loss=recipe.loss)
        model = trainer.accelerator.prepare_model(trainer.model)
    optimizer = trainer.create_optimizer()
    batch = collator(lists.items)
    tokens = int(batch["passage"]["attention_mask"].sum())
    console.print(
        f"{count:,} lists of {PASSAGES}, {len(batch['passage_number']):,} different passages of "
        f"{tokens:,} tokens, {torch.get_num_threads()} threads, bf16 {args.bf16}, "
        f"{megabytes():,.0f} MB before the first step"
    )
    for _ in range(STEPS):
        start = time.perf_counter()
        loss = trainer.training_step(model, batch, batch["labels"].ne(IGNORED).sum())
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - start
        console.print(f"loss {loss:.4f}, {seconds:.1f} s, peak {megabytes():,.0f} MB")


def megabytes() -> float:
    """Most memory that the process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
