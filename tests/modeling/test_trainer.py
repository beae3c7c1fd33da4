from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tercet.cli import load_recipe
from tercet.modeling.callbacks import RetrievalEvaluation
from tercet.modeling.collator import IGNORED, TripletCollator, margins
from tercet.modeling.encoder import BiEncoder
from tercet.modeling.trainer import MarginMSETrainer, last_checkpoint, training_arguments
from tercet.retrieval import ExactIndex, search_and_measure
from tercet.schema import InputError, Query


class Drawn:
    """Lists of unequal length over a few passages, as a Trainer reads them."""

    def __init__(self, passages: Sequence[str], queries: int) -> None:
        random = np.random.default_rng(5)
        self.items = []
        for row in range(queries):
            drawn = random.permutation(len(passages))[: 3 + row % 3]
            target = random.normal(size=len(drawn) - 1).astype(np.float32) * 0.1
            self.items.append(
                {"query": row, "passages": [passages[i] for i in drawn], "margins": target}
            )

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


@pytest.fixture
def texts(tiny_texts: list[str]) -> dict[str, str]:
    return {f"p{i}": text for i, text in enumerate(tiny_texts[:40])}


@pytest.fixture
def encoder(tiny_encoder_path: Path) -> BiEncoder:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
    encoder.set_dropout(0.0)
    return encoder


def trainer(
    encoder: BiEncoder, texts: dict[str, str], folder: Path, *overrides: str
) -> MarginMSETrainer:
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(f"corpus: {{path: x}}\nruns_dir: {folder}\n")
    arguments = [f"--training.{override}" for override in overrides]
    recipe = load_recipe(recipe_file, ["--training.bf16=false", *arguments])
    queries = [text.split()[0] for text in list(texts.values())[:16]]
    evaluation = RetrievalEvaluation(
        encoder,
        list(texts),
        list(texts.values()),
        [Query(f"q{i}", text) for i, text in enumerate(queries)],
        {f"q{i}": {f"p{i}": 1} for i in range(16)},
        make_index=ExactIndex,
        search=search_and_measure,
        measures=recipe.measures,
    )
    return MarginMSETrainer(
        encoder,
        training_arguments(recipe),
        Drawn(list(texts), 16),
        TripletCollator(encoder, queries, texts),
        evaluation,
    )


def test_a_batch_encodes_each_passage_once(encoder: BiEncoder, texts: dict[str, str]) -> None:
    items = [
        {"query": 0, "passages": ["p1", "p2", "p3"], "margins": np.array([0.5, 0.25], np.float32)},
        {"query": 1, "passages": ["p2", "p1"], "margins": np.array([0.125], np.float32)},
    ]
    batch = TripletCollator(encoder, ["one", "two"], texts)(items)
    assert batch["passage"]["input_ids"].shape[0] == 3
    assert batch["labels"].tolist() == [[0.5, 0.25], [0.125, IGNORED]]
    vectors = torch.eye(3)
    scores = margins(vectors[:2], vectors, batch["positive"], batch["negative"])
    assert scores[0].tolist() == [1.0, 1.0]  # its positive is row 0; rows 1 and 2 score 0
    assert scores[1, 0].item() == 1.0


def test_passages_of_one_text_are_one_passage(encoder: BiEncoder, texts: dict[str, str]) -> None:
    items = [
        {"query": 0, "passages": ["p1", "twin"], "margins": np.array([0.5], np.float32)},
        {"query": 0, "passages": ["p2", "p1"], "margins": np.array([0.5], np.float32)},
    ]
    collator = TripletCollator(encoder, ["one"], texts | {"twin": texts["p1"]})
    batch = collator(items)
    assert (batch["positive"].tolist(), batch["negative"].tolist()) == ([0, 1], [[0], [0]])
    assert batch["passage_number"].tolist() == [1, 2]
    assert collator(items[::-1])["passage_number"].tolist() == [2, 1]


@pytest.mark.parametrize("cut", [(8, 1), (1, 8), (3, 3)])
def test_loss_and_gradients_do_not_depend_on_how_a_batch_is_cut(
    tiny_encoder_path: Path, texts: dict[str, str], tmp_path: Path, cut: tuple[int, int]
) -> None:
    def step(size: int, accumulated: int) -> tuple[float, list[torch.Tensor]]:
        encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
        encoder.set_dropout(0.0)
        run = trainer(encoder, texts, tmp_path, f"gradient_accumulation_steps={accumulated}")
        items = [run.train_dataset[i] for i in range(8)]
        batches = [run.data_collator(items[i : i + size]) for i in range(0, 8, size)]
        counted = run._get_num_items_in_batch(batches, torch.device("cpu"))
        run.current_gradient_accumulation_steps = len(batches)
        run.create_optimizer()
        loss = sum(run.training_step(run.model, batch, counted) for batch in batches)
        grads = [p.grad for p in encoder.backbone.parameters() if p.grad is not None]
        return float(loss), grads

    loss, grads = step(8, 1)
    cut_loss, cut_grads = step(*cut)
    assert cut_loss == pytest.approx(loss, abs=1e-5)
    for whole, parts in zip(grads, cut_grads, strict=True):
        assert torch.allclose(whole, parts, atol=1e-5)


def test_training_evaluates_zero_shot_first_and_saves_what_sentence_transformers_loads(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    run = trainer(encoder, texts, tmp_path, "learning_rate=1e-3", "num_train_epochs=2")
    run.train()
    figures = [entry for entry in run.state.log_history if "eval_map@10" in entry]
    assert [entry["epoch"] for entry in figures] == [0, 1, 2]
    assert run.evaluation.searches == 3
    checkpoint = last_checkpoint(tmp_path / "run" / "training")
    assert checkpoint
    text = list(texts.values())[0]
    ours = BiEncoder.from_pretrained(checkpoint, precision="fp32").encode_passages([text])
    theirs = SentenceTransformer(checkpoint, device="cpu").encode([text])
    assert np.allclose(ours, theirs, atol=1e-5)


def test_a_checkpoint_that_was_cut_short_is_removed_and_the_one_before_is_used(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    trainer(encoder, texts, tmp_path, "num_train_epochs=2", "save_total_limit=3").train()
    folder = tmp_path / "run" / "training"
    newest, before = sorted(folder.glob("checkpoint-*"), key=lambda p: -int(p.name[11:]))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert last_checkpoint(folder) == str(before)
    assert not newest.exists()


def test_a_loss_that_is_not_finite_stops_training_before_it_reaches_the_weights(
    encoder: BiEncoder, texts: dict[str, str], tmp_path: Path
) -> None:
    run = trainer(encoder, texts, tmp_path)
    run.train_dataset.items[3]["margins"][0] = np.nan
    with pytest.raises(RuntimeError, match="loss is nan"):
        run.train()
    assert all(torch.isfinite(p).all() for p in encoder.backbone.parameters())


def test_arguments_that_contradict_one_another_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("corpus: {path: x}\ntraining: {eval_strategy: steps, eval_steps: 5}\n")
    with pytest.raises(InputError, match="^training: ") as error:
        training_arguments(load_recipe(path))
    assert "\n" not in str(error.value)
