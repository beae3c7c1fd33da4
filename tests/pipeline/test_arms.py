"""A grid of arms: cells share what they have in common, are kept, and belong to their grid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recipes import tiny_recipe

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_cells_are_shared_kept_and_of_their_grid(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> None:
    given = {"corpus": tiny_beir_path, "teacher": tiny_cross_encoder_path}
    recipe = tiny_recipe(tmp_path, model=tiny_encoder_path, **given)
    grid = tmp_path / "grid.yaml"
    arms = {"before": {}, "fast": {"training.learning_rate": 1e-3}}

    def run(default: str = "before", *options: str) -> str:
        grid.write_text(yaml.safe_dump({"recipe": recipe.name, "default": default, "arms": arms}))
        command = [sys.executable, ROOT / "benchmarks" / "arms.py", grid, tiny_beir_path]
        command += [f"--runs={tmp_path / 'arms'}", *options]
        environment = os.environ | {"COLUMNS": "160"}
        made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    told = run()
    assert told.count("take  scores of before-1") == 1 and told.count("make  model") == 2
    file = tmp_path / "arms" / "arms.json"
    found = json.loads(file.read_text())[tiny_beir_path.name]
    assert found["before"]["default"]["difference"] == 0
    assert found["fast"]["default"]["difference"] == pytest.approx(
        found["fast"]["ships"]["difference"] - found["before"]["ships"]["difference"]
    )
    again = run()
    assert "make" not in again and json.loads(file.read_text())[tiny_beir_path.name] == found
    assert "explored" not in again
    told = run("fast", "--arms", "fast")  # another grid: its cells are measured anew
    assert told.count("explored, not of this grid") == 1 and "make  model" not in told
