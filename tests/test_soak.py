"""Killed at random moments and resumed, a run ends with the bytes of one that nobody killed.

`make soak N=100` kills that often, a tenth of it on two ranks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import tiny_recipe

SOAK = Path(__file__).with_name("soak.py")
#: Kills that `make soak` asks for.
WANTED = int(os.environ.get("SOAK_KILLS", "0"))


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    """Several shards a stage, two epochs, and a checkpoint at each step."""
    return tiny_recipe(
        tmp_path,
        name="soaked",
        corpus=tiny_beir_path,
        queries={"shard_passages": 16},
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": 128, "student_weight": 0.5},
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 2, "learning_rate": 1e-3},
        checkpoints={"minutes": 0},
        evaluation={"latency_queries": 20},
    )


def soak(recipe: Path, *, kills: int, of_two: int) -> None:
    command = [sys.executable, str(SOAK), str(recipe), str(kills), str(of_two), "7"]
    cache = {"OMP_NUM_THREADS": "1", "TERCET_CACHE": str(recipe.parent / "cache")}
    out = None if WANTED else subprocess.PIPE
    done = subprocess.run(command, stdout=out, stderr=out, text=True, env=os.environ | cache)
    assert done.returncode == 0, (done.stdout or "")[-5000:] + (done.stderr or "")[-5000:]


@pytest.mark.long
@pytest.mark.fault("soak", "a killed training")
def test_killed_at_random_moments_a_run_ends_with_the_same_bytes(recipe: Path) -> None:
    soak(recipe, kills=5, of_two=0)


if WANTED:

    @pytest.mark.timeout(0)
    def test_soak(recipe: Path) -> None:
        soak(recipe, kills=WANTED, of_two=WANTED // 10)
