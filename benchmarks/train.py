"""Margins learnt a second, beside sentence-transformers on the same triplets, and what was learnt.

    python benchmarks/train.py [STEPS]

A bookmark's title stands for the query and the bookmark for its positive; negatives are others at
random, and a margin is larger the fewer of the query's words a negative has. Model, texts,
lengths, queries a step, optimiser and schedule are the same, without dropout, and so are the steps.
Tokenising is timed, loading is not. With several negatives sentence-transformers gets its own form
of them, a column each: as triplets it would encode the query and the positive again for each.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from beside import bookmarks, show, take_turns
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import MarginMSELoss
from sentence_transformers.sentence_transformer.model_card import (
    SentenceTransformerModelCardCallback,
)
from sentence_transformers.sentence_transformer.training_args import (
    SentenceTransformerTrainingArguments,
)
from torch import nn
from transformers import PrinterCallback
from transformers.trainer_utils import IntervalStrategy

from tercet.config.recipe import LossSection, Recipe
from tercet.config.training import TRAINING
from tercet.modeling import BiEncoder, MarginMSETrainer, TripletCollator, training_arguments

MODEL = "models/all-MiniLM-L6-v2"
BATCH, STEPS, ROUNDS = 16, 12, 2
HELD_OUT, HELD_OUT_TEXTS = 1_000, 200
SETTINGS = {"learning_rate": 2e-5, "lr_scheduler_type": "linear", "warmup_steps": 0.05}


class Lists:
    """Lists of a query, its positive and random negatives, as a Trainer reads them."""

    def __init__(self, passages: Sequence[Any], rows: int, negatives: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.items: list[dict[str, Any]] = []
        words = [set(passage.contents.lower().split()) for passage in passages]
        for row in range(rows):
            positive = row % len(passages)
            others = random.choice(len(passages) - 1, negatives, replace=False)
            others += others >= positive
            query = set((passages[positive].title or passages[positive].contents).lower().split())
            near = [len(query & words[i]) / len(query) for i in others]
            margins = 0.5 * (1 - np.array(near, dtype=np.float32))
            chosen = [int(i) for i in (positive, *others)]
            self.items.append({"query": positive, "passages": chosen, "margins": margins})

    def set_epoch(self, epoch: int) -> None:
        """The same lists in every epoch."""

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


class NoEvaluation:
    """Stands where retrieval is evaluated, and measures nothing."""

    searches = 0

    def measure(
        self, name: str, *, zero_shot: bool = False
    ) -> dict[str, dict[str, dict[str, float]]]:
        """The figure that a Trainer wants to see."""
        return {"validation": {"mrr@10": {"q": 0.0}}}


def main() -> None:
    """One negative a query, then four."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    found = bookmarks()
    passages = [found[i] for i in np.random.default_rng(13).permutation(len(found))]
    queries = [passage.title or passage.contents for passage in passages]
    texts = [passage.contents for passage in passages]
    held_out = Lists(passages[-HELD_OUT_TEXTS:], HELD_OUT, 1, seed=7)
    for negatives in (1, 4):
        lists = Lists(passages[:-HELD_OUT_TEXTS], steps * BATCH, negatives, seed=13)
        default, half = "sentence-transformers", "sentence-transformers, bf16"
        contenders = {
            default: partial(theirs, lists, queries, texts, bf16=False),
            half: partial(theirs, lists, queries, texts, bf16=True),
            "tercet, fp32": partial(ours, lists, queries, texts, bf16=False),
            "tercet, bf16": partial(ours, lists, queries, texts, bf16=True),
            "tercet, auto": partial(ours, lists, queries, texts, bf16=None),
        }
        turns = take_turns(contenders, ROUNDS)
        tail = queries[-HELD_OUT_TEXTS:], texts[-HELD_OUT_TEXTS:]
        loss = {name: mean_loss(encode, held_out, *tail) for name, encode in turns.results.items()}
        show(
            turns,
            f"{steps} steps of {BATCH} queries, {negatives} negatives each",
            "margins",
            len(lists) * negatives,
            peers=[default, half],
            extra={"held-out loss": {name: f"{value:.5f}" for name, value in loss.items()}},
        )


Encode = Callable[[Sequence[str]], np.ndarray]


def ours(
    lists: Lists, queries: list[str], texts: list[str], *, bf16: bool | None
) -> Callable[[], Encode]:
    """Tercet's trainer; what it trained encodes in float32."""
    encoder = BiEncoder.from_pretrained(MODEL, precision="fp32")
    encoder.set_dropout(0.0)
    encoder.dtype_of("train")  # what is measured once a machine is not timed
    training = {name: default for name, (default, _) in TRAINING.items()}
    training |= SETTINGS | {"per_device_train_batch_size": BATCH, "bf16": bf16}
    training |= {"disable_tqdm": True}
    used = sorted({i for item in lists.items for i in item["passages"]})
    evaluation: Any = NoEvaluation()

    def run() -> Encode:
        collator = TripletCollator.of_texts(
            encoder, queries[: len(lists)], {i: texts[i] for i in used}
        )
        with tempfile.TemporaryDirectory() as folder:
            loss = LossSection(kind="margin_mse")
            recipe = Recipe(runs_dir=folder, loss=loss, training=training)
            args = training_arguments(recipe, encoder)
            # As theirs: neither evaluates nor saves.
            args.eval_strategy = args.save_strategy = IntervalStrategy.NO
            args.load_best_model_at_end = args.eval_on_start = False
            trainer = MarginMSETrainer(encoder, args, lists, collator, evaluation, loss=loss)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return encoder.encode_passages

    return run


def theirs(
    lists: Lists, queries: list[str], texts: list[str], *, bf16: bool
) -> Callable[[], Encode]:
    """sentence-transformers' trainer; what it trained encodes in float32."""
    model = SentenceTransformer(MODEL, device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    negatives = len(lists.items[0]["margins"])
    columns: dict[str, list[Any]] = {"query": [queries[item["query"]] for item in lists.items]}
    for place in range(negatives + 1):
        columns[f"passage_{place}"] = [texts[item["passages"][place]] for item in lists.items]
    margins = [[float(x) for x in item["margins"]] for item in lists.items]
    columns["label"] = margins if negatives > 1 else [x for (x,) in margins]

    folder = tempfile.TemporaryDirectory()
    args = SentenceTransformerTrainingArguments(
        output_dir=folder.name,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        bf16=bf16,
        seed=Recipe.seed,  # the same order of triplets: after so few steps it is felt
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **SETTINGS,
    )
    trainer = SentenceTransformerTrainer(
        model, args, Dataset.from_dict(columns), loss=MarginMSELoss(model)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(SentenceTransformerModelCardCallback)

    def run() -> Encode:
        with folder:
            trainer.train()
        return model.encode

    return run


def mean_loss(encode: Encode, lists: Lists, queries: list[str], texts: list[str]) -> float:
    """Mean squared error of the margins of triplets."""
    asked, found = encode(queries), encode(texts)
    errors = []
    for item in lists.items:
        positive, negative = (float(asked[item["query"]] @ found[i]) for i in item["passages"])
        errors.append((positive - negative - float(item["margins"][0])) ** 2)
    return float(np.mean(errors))


if __name__ == "__main__":
    main()
