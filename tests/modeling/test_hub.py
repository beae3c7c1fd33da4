"""Every push to the Hub while training is a model that anyone can use."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import Commit, Hub, serve
from programs import Finished, run_program
from recipes import tiny_recipe
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from tercet.modeling import BiEncoder

pytestmark = pytest.mark.slow

TOKEN = "hf_canary" + "7Qx" * 9
WEIGHTS = "model.safetensors"


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    return tiny_recipe(
        tmp_path,
        corpus=tiny_beir_path,
        queries={"count": 40},
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "push_to_hub": True,
            "hub_model_id": "me/tiny",
            "hub_always_push": True,
        },
    )


def pushed_by_a_run(recipe: Path, hub: Hub) -> Finished:
    """Train in a process whose Hub this is."""
    there = {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    there |= {"HF_HUB_OFFLINE": "0", "HF_HOME": str(recipe.parent / "hf")}
    return run_program("train.py", recipe, **there)


def vectors_by_hand(folder: Path, texts: list[str]) -> np.ndarray:
    """Mean pooling and unit length, as the model card of any such model shows it."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).numpy()


def check_is_a_model(folder: Path, texts: list[str]) -> np.ndarray:
    """Vectors of the model in `folder`, the same by three libraries."""
    ours = BiEncoder.from_pretrained(folder, precision="fp32", device="cpu").encode_passages(texts)
    sentence_transformers = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(sentence_transformers, ours, atol=1e-5)
    np.testing.assert_allclose(vectors_by_hand(folder, texts), ours, atol=1e-5)
    return ours


def of_new_weights(commits: list[Commit]) -> list[Commit]:
    """The commits that changed the weights."""
    before = [None, *(commit.files.get(WEIGHTS) for commit in commits)]
    return [c for c, old in zip(commits, before, strict=False) if c.files.get(WEIGHTS) != old]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def holding(folder: Path, secret: str) -> list[Path]:
    """Files with the secret in their contents."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if secret.encode() in file.read_bytes()]


def test_every_push_is_a_usable_model_of_its_epoch_and_the_last_is_the_best(
    tmp_path: Path, recipe: Path, tiny_texts: list[str], tiny_encoder_path: Path
) -> None:
    # Slower than an epoch: the next checkpoint is written while this one is still being pushed.
    with serve(TOKEN, delay=2) as hub:
        run = pushed_by_a_run(recipe, hub)
    assert run.returncode == 0, run.stdout + run.stderr
    folder = tmp_path / "runs" / "tiny"
    commits = hub.commits["me/tiny"]

    base = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32", device="cpu")
    vectors = [base.encode_passages(tiny_texts[:8])]
    pushes = [c.write(tmp_path / f"push-{i}") for i, c in enumerate(of_new_weights(commits))]
    for push in pushes:
        vectors.append(check_is_a_model(push, tiny_texts[:8]))
        assert np.abs(vectors[-1] - vectors[-2]).max() > 1e-4

    checkpoints = sorted(folder.glob("training/checkpoint-*"), key=lambda p: int(p.name[11:]))
    saved = [sha256(checkpoint / WEIGHTS) for checkpoint in checkpoints]
    assert [c.message for c in commits[:2]] == [f"Training in progress, epoch {i}" for i in (1, 2)]
    assert [sha256(push / WEIGHTS) for push in pushes[:2]] == saved
    assert commits[-1].files[WEIGHTS] == (folder / "model" / WEIGHTS).read_bytes()

    names = {name for commit in commits for name in commit.files}
    strays = ("checkpoint", "plan", "optimizer", "scheduler", "rng_state", "trainer_state")
    assert not [name for name in names if any(stray in name for stray in strays)]
    assert TOKEN not in run.stdout + run.stderr
    assert not holding(tmp_path, TOKEN)
