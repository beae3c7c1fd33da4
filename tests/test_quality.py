"""The linters and the type checker have nothing to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "-p", "tercet"]],
    ids=" ".join,
)
def test_the_checkout_passes(command: list[str]) -> None:
    program = [sys.executable, "-m", *command]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
