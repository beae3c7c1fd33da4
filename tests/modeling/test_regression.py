from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from topics import TOPICS

from tercet.artifacts import is_main_process
from tercet.mapped import MappedVectors, Vectors
from tercet.model_settings import RegressionSettings
from tercet.modeling import regression
from tercet.modeling.encoder import BiEncoder
from tercet.modeling.regression import (
    HeldOut,
    PassageDraws,
    RegressionOutcome,
    RegressionTrainer,
    Targets,
    regress,
    ridge,
    words,
)
from tercet.schema import InputError

ROOT = Path(__file__).parents[2]
OUT = 24
SETTINGS = RegressionSettings(num_train_epochs=3, learning_rate=1e-3, per_device_train_batch_size=8)


@pytest.fixture(scope="module")
def contents() -> list[str]:
    """Passages of 40 words of two topics each."""
    random = np.random.default_rng(3)
    pairs = [TOPICS[i % 20] + TOPICS[random.integers(20)] for i in range(300)]
    return [" ".join(random.choice(pair, 40)) for pair in pairs]


def stored(contents: list[str], similarity: str) -> np.ndarray:
    """Vectors of a space in which a passage is the mean of its words, and a word its topic."""
    topics = np.random.default_rng(4).normal(size=(len(TOPICS), OUT))
    known = {word: topics[i] for i, topic in enumerate(TOPICS) for word in topic}
    vectors = np.stack([np.mean([known[w] for w in text.split()], axis=0) for text in contents])
    if similarity == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors + (0.2 if similarity == "dot" else 0)).astype(np.float32)


def run(
    path: Path,
    contents: list[str],
    folder: Path,
    vectors: Vectors,
    similarity: Any = "cosine",
    settings: RegressionSettings = SETTINGS,
    seed: int = 7,
) -> tuple[BiEncoder, RegressionOutcome]:
    encoder = BiEncoder.from_pretrained(path, precision="fp32", device="cpu")
    outcome = regress(
        encoder,
        contents,
        vectors,
        similarity=similarity,
        settings=settings,
        folder=folder,
        seed=seed,
    )
    return encoder, outcome


def same_weights(a: BiEncoder, b: BiEncoder) -> bool:
    ours, theirs = a.backbone.state_dict(), b.backbone.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_the_closed_form_beats_chance_and_training_beats_it(
    tiny_encoder_path: Path, contents: list[str], tmp_path: Path, similarity: str
) -> None:
    vectors = stored(contents, similarity)
    longer = replace(SETTINGS, num_train_epochs=5)
    encoder, outcome = run(tiny_encoder_path, contents, tmp_path, vectors, similarity, longer)
    assert (encoder.similarity, encoder.dimension) == (similarity, OUT)
    assert [entry["epoch"] for entry in outcome.history] == [0, 1, 2, 3, 4, 5]
    losses = [entry["loss"] for entry in outcome.history]
    # Chance is to say the mean vector of whatever passage.
    mean, chance = vectors.mean(axis=0), 1.0
    if similarity == "cosine":
        mean, chance = mean / np.linalg.norm(mean), 2 - 2 * float(np.linalg.norm(mean))
    assert losses[0] < 0.9 * chance
    assert min(losses[1:]) < 0.8 * losses[0]
    assert outcome.facts["cosine"] > outcome.facts["start_cosine"]
    assert outcome.facts["passages"] == 300 and outcome.facts["held_out"] == 15
    # The best epoch's weights are those that it ends with.
    rows = np.random.default_rng(7).permutation(300)[:15]
    targets = Targets(vectors, similarity)
    held_out = HeldOut(encoder, contents, rows, targets, crop=0.5, seed=7)
    found = held_out.figures()["cosine"]
    assert found == pytest.approx(outcome.facts["cosine"], abs=1e-5)


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    tiny_encoder_path: Path,
    contents: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = stored(contents, "cosine")
    whole, outcome = run(tiny_encoder_path, contents, tmp_path / "whole", vectors)
    save = RegressionTrainer._save_checkpoint

    def killed(trainer: RegressionTrainer, *args: Any) -> None:
        save(trainer, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RegressionTrainer, "_save_checkpoint", killed)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(tiny_encoder_path, contents, tmp_path / "killed", vectors)
    assert len(list((tmp_path / "killed").glob("checkpoint-*"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(regression, "ridge", None)  # it is not found a second time
        resumed, again = run(tiny_encoder_path, contents, tmp_path / "killed", vectors)
    assert again == outcome
    assert same_weights(resumed, whole)


def test_other_settings_begin_anew(
    tiny_encoder_path: Path, contents: list[str], tmp_path: Path
) -> None:
    vectors = stored(contents, "cosine")
    short = replace(SETTINGS, num_train_epochs=1, passages=60)
    first, _ = run(tiny_encoder_path, contents, tmp_path, vectors, settings=short)
    other, outcome = run(tiny_encoder_path, contents, tmp_path, vectors, settings=short, seed=8)
    assert [entry["epoch"] for entry in outcome.history] == [0, 1]
    assert outcome.facts["passages"] == 60 and not same_weights(first, other)


def test_mapped_vectors_teach_what_those_in_memory_do(
    tiny_encoder_path: Path, contents: list[str], tmp_path: Path
) -> None:
    vectors = stored(contents, "cosine")
    order = np.random.default_rng(0).permutation(len(vectors))
    mapped = MappedVectors([vectors[order][:100], vectors[order][100:]], order)
    short = replace(SETTINGS, num_train_epochs=1)
    a, _ = run(tiny_encoder_path, contents, tmp_path / "a", vectors, settings=short)
    b, _ = run(tiny_encoder_path, contents, tmp_path / "b", mapped, settings=short)
    assert same_weights(a, b)


@pytest.mark.parametrize("epochs", [0, 1])
def test_where_no_epoch_is_better_the_closed_form_is_kept(
    tiny_encoder_path: Path, contents: list[str], tmp_path: Path, epochs: int
) -> None:
    vectors = stored(contents, "cosine")
    wild = replace(SETTINGS, num_train_epochs=epochs, learning_rate=1.0)
    encoder, outcome = run(tiny_encoder_path, contents, tmp_path, vectors, settings=wild)
    assert len(outcome.history) == 1 + epochs
    assert outcome.facts["best_epoch"] == 0
    assert outcome.facts["cosine"] == outcome.facts["start_cosine"]
    base = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32", device="cpu")
    expected = base.encode_queries(contents[:3])
    assert np.array_equal(encoder.unprojected().encode_queries(contents[:3]), expected)


def test_the_closed_form_finds_a_linear_map(tiny_encoder_path: Path, contents: list[str]) -> None:
    encoder = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32", device="cpu")
    random = np.random.default_rng(5)
    weight = random.normal(size=(OUT, encoder.dimension)).astype(np.float32)
    bias = random.normal(size=OUT).astype(np.float32)
    vectors = encoder.encode_queries(contents) @ weight.T + bias
    targets = Targets(vectors, "dot")
    draws = PassageDraws(contents, np.arange(200), crop=0, seed=1)
    held_out = HeldOut(encoder, contents, np.arange(200, 300), targets, crop=0, seed=1)
    found = ridge(encoder, draws, held_out, 150)
    encoder.project(found["weight"], found["bias"], "dot")
    assert held_out.figures()["loss"] < 1e-3
    assert found["scale"] == pytest.approx((vectors[:150] ** 2).sum(axis=1).mean(), rel=1e-5)


def test_an_epochs_texts_are_whole_or_spans_of_words(contents: list[str]) -> None:
    draws = PassageDraws(contents, np.arange(300), crop=0.5, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        draws.set_epoch(epoch)
        epochs.append([draws[i]["text"] for i in range(300)])
    assert epochs[0] == epochs[2] != epochs[1]
    assert all(short in text for short, text in zip(epochs[0], contents, strict=True))
    lengths = [len(text.split()) for text in epochs[0]]
    assert 100 < sum(length == 40 for length in lengths) < 200
    assert {min(lengths), max(n for n in lengths if n < 40)} == {3, 30}
    uncut = PassageDraws(contents, np.arange(300), crop=0, seed=1)
    assert [uncut[i]["text"] for i in range(300)] == contents
    assert words("only two", np.random.default_rng(0)) == "only two"


def test_what_cannot_be_learnt_from_is_refused(
    tiny_encoder_path: Path, contents: list[str], tmp_path: Path
) -> None:
    vectors = stored(contents, "cosine")
    with pytest.raises(InputError, match="19 passages are too few"):
        run(tiny_encoder_path, contents[:19], tmp_path, vectors[:19])
    few = replace(SETTINGS, passages=8)
    with pytest.raises(InputError, match="8 passages are too few"):
        run(tiny_encoder_path, contents, tmp_path, vectors, settings=few)
    with pytest.raises(InputError, match="not finite"):
        run(tiny_encoder_path, contents, tmp_path, vectors * np.nan)


def test_two_processes_learn_what_one_does(
    tiny_encoder_path: Path, contents: list[str], tmp_path: Path
) -> None:
    (tmp_path / "texts.json").write_text(json.dumps(contents))
    one = learnt(tiny_encoder_path, contents, tmp_path / "one", batch=8)
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
    config = ["--config_file", str(ROOT / "accelerate_config.yaml")]
    program = [__file__, str(tiny_encoder_path), str(tmp_path / "texts.json")]
    command = [*accelerate, *config, *program, str(tmp_path / "two"), "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    two = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert two.returncode == 0, two.stderr[-3000:]
    two_of = json.loads((tmp_path / "two.json").read_text())
    assert [entry["epoch"] for entry in two_of] == [0, 1, 2]
    for entry, other in zip(one, two_of, strict=True):
        assert entry == pytest.approx(other, abs=2e-3)  # Adam enlarges what rounding leaves


def learnt(path: Path, contents: list[str], folder: Path, batch: int) -> list[dict[str, Any]]:
    """The figures of two epochs of batches that divide the passages."""
    two = replace(SETTINGS, passages=295, num_train_epochs=2, per_device_train_batch_size=batch)
    _, outcome = run(path, contents, folder, stored(contents, "cosine"), settings=two)
    return outcome.history


if __name__ == "__main__":
    encoder_path, texts_path, folder, batch = sys.argv[1:]
    history = learnt(
        Path(encoder_path), json.loads(Path(texts_path).read_text()), Path(folder), int(batch)
    )
    if is_main_process():
        Path(f"{folder}.json").write_text(json.dumps(history))
