"""After a run: it is looked at, searched while another process holds it, exported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock
from programs import Finished, run_here
from recipes import tiny_recipe

from tercet.commands.info import info
from tercet.core.schema import InputError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Finished:
    """`tercet adapt` of a recipe whose corpus is named by a variable."""
    folder = tmp_path_factory.mktemp("after")
    recipe = tiny_recipe(
        folder,
        corpus="${TINY_CORPUS}",
        queries={"count": 24},
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        training={"num_train_epochs": 1},
        evaluation={"interpolation_steps": 1},
    )
    umask = os.umask(0o022)
    os.environ["TINY_CORPUS"] = str(tiny_beir_path)
    try:
        return run_here("train.py", recipe, "--json-logs")
    finally:
        os.umask(umask)


@pytest.fixture
def run(trained: Finished, tiny_beir_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINY_CORPUS", str(tiny_beir_path))
    assert trained.returncode == 0, trained.stderr
    return Path(trained.args[1]).parent / "runs" / "tiny"


def test_every_message_of_a_run_is_an_object(trained: Finished, run: Path) -> None:
    lines = [json.loads(line) for line in trained.stderr.splitlines() if line.startswith("{")]
    told = [line["message"] for line in lines]
    assert any(text.startswith("make  corpus") for text in told)
    assert "make  corpus" not in trained.stdout


def test_what_a_run_wrote_names_the_variable_and_can_be_read_by_others(
    run: Path, tiny_beir_path: Path
) -> None:
    for file in (run / "recipe.yaml", run / "metrics.json", run / "corpus" / "manifest.json"):
        text = file.read_text()
        assert str(tiny_beir_path) not in text, file
    assert "path: ${TINY_CORPUS}" in (run / "recipe.yaml").read_text()
    modes = {oct(file.stat().st_mode & 0o777) for file in run.rglob("*") if file.is_file()}
    assert modes == {"0o644"}


def test_a_run_is_searched_while_another_process_holds_it(run: Path) -> None:
    before = {path.name for path in run.iterdir()}
    with FileLock(run / ".lock"):
        found = run_here("scripts/search.py", run, "how does the beehive use its honey", "--k=3")
    assert found.returncode == 0, found.stderr
    assert len([line for line in found.stdout.splitlines() if "│ p" in line]) == 3
    assert {path.name for path in run.iterdir()} - before <= {"vectors"}
    unknown = run_here("scripts/search.py", run, "honey", "--system=nobody")
    assert unknown.returncode == 2 and "'nobody' is no system" in unknown.stderr


def test_info_tells_what_a_folder_is(run: Path, tmp_path: Path) -> None:
    known = info(str(run))
    assert known["run"].startswith("tiny in ") and "evaluation" in known["made"]
    assert info(str(run / "model"))["model type"] == "bert"
    assert info("quickstart")["queries"] == "1,500 by spans"
    with pytest.raises(InputError, match="neither a run .* nor a model"):
        info(str(tmp_path))


def test_triplets_are_exported_with_their_texts(run: Path) -> None:
    written = run_here("scripts/export_triplets.py", run, "--quiet")
    assert written.returncode == 0 and "triplets" in written.stdout, written.stderr
    first = json.loads((run / "triplets.jsonl").read_text().splitlines()[0])
    assert set(first) == {"query", "positive", "negative", "label"}
    refused = run_here("scripts/export_triplets.py", run, "--k=3")
    assert refused.returncode == 2 and "--k is for --to langchain" in refused.stderr
