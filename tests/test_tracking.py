"""W&B, kept on this machine: its tables, plot and page, and no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("wandb")
CODE = """
import sys
from pathlib import Path
from tercet import Recipe
from tercet.retrieval.results import Cell, Figure, Phase, Results, Timing
from tercet.tracking import track

phase = Phase(1.0, 2.0, 3.0, 100.0)
cell = Cell("base", "exact", {"ndcg@10": Figure(0.5, 0.4, 0.6)}, 1.0,
            single=Timing(10, 1, {}, phase), batched=Timing(10, 5, {}, phase))
results = Results(
    title="t", command="c", finished="now", corpus="x", passages=3, queries=2, queries_are="q",
    primary="ndcg@10", measures=["ndcg@10"], baseline="base", systems=[], indexes=[],
    cells=[cell, Cell("base", "hfresh", refused="no")], pairs=[], slices=[], changes=[], notes=[],
    settings={"seed": 13},
)
page = Path("page.html")
page.write_text("<p>the whole page</p>")
track(Recipe(), results, page)
"""


def test_an_experiment_is_logged_offline_without_secrets(tmp_path: Path) -> None:
    environment = os.environ | {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_API_KEY": "c4nary" * 7,
        "WEAVIATE_API_KEY": "canary-weaviate",
    }
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    tables = {path.name.split("_")[0] for path in run.glob("files/media/table/*.json")}
    assert {"cells", "pairs"} <= tables
    assert [p.read_text() for p in run.rglob("*.html")] == ["<p>the whole page</p>"]
    logged = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert b"base/ndcg@10" in logged
    for secret in ("c4nary" * 7, "canary-weaviate"):
        assert secret.encode() not in logged
