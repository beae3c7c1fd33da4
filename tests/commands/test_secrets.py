"""Keys of the environment are in nothing that a failing command says or writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from api_server import serve_apis
from hub_server import serve
from programs import run_here, run_program
from recipes import tiny_recipe

from tercet.commands.main import main

CANARY = "canary-9Zq4"
KEYS = ("COHERE_API_KEY", "OPENAI_API_KEY", "TERCET_API_KEY", "WEAVIATE_API_KEY", "HF_TOKEN")
RECIPE = """
name: x
corpus: {{source: beir, path: {beir}}}
model: {{name: missing/model}}
chat: {{endpoint: "http://127.0.0.1:9/v1", model: m}}
"""


@pytest.mark.fault("secrets")
@pytest.mark.parametrize(
    "words",
    [
        ["adapt", "r.yaml"],
        ["adapt", "r.yaml", "--model.api=cohere", "--model.train=query_adapter"],
        ["eval", "r.yaml"],
        ["push", "r.yaml", "--repo", "me/x"],
        ["deploy", "r.yaml", "--weaviate", "Tiny", "--yes"],
        ["search", "r.yaml", "a lamp"],
        ["chat", "r.yaml", "--question", "a lamp"],
        ["ingest", "r.yaml"],
        ["forecast", "r.yaml"],
    ],
)
def test_a_failing_command_tells_no_key(
    words: list[str],
    tiny_beir_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    keep_secrets(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE.format(beir=tiny_beir_path))
    assert "Traceback" not in stopped(words, capfd)
    no_canary_in(tmp_path)


def keep_secrets(patch: pytest.MonkeyPatch) -> None:
    """Keys of everything in the environment, and nobody outside."""
    for name in (*KEYS, "WANDB_API_KEY"):
        patch.setenv(name, f"{CANARY}{name}")
    patch.setenv("WEAVIATE_URL", f"http://user:{CANARY}@127.0.0.1:9")
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setenv("NO_PROXY", "127.0.0.1")


def stopped(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """What a command says that fails."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capfd.readouterr()
    assert ended.value.code not in (0, None), said
    assert CANARY not in said.out + said.err
    return said.out + said.err


def no_canary_in(folder: Path) -> None:
    """No file below a folder has a key."""
    for file in folder.rglob("*"):
        assert file.is_dir() or CANARY.encode() not in file.read_bytes(), file


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Path:
    """The recipe of a finished run."""
    folder = tmp_path_factory.mktemp("secrets")
    made = tiny_recipe(
        folder,
        corpus=tiny_beir_path,
        teacher={"name": tiny_cross_encoder_path, "student_weight": 0.5},
        model=tiny_encoder_path,
        training={"num_train_epochs": 1, "learning_rate": 1e-3, "logging_steps": 1},
    )
    with pytest.MonkeyPatch.context() as patch:
        keep_secrets(patch)
        done = run_here("train.py", made)
    assert done.returncode == 0 and CANARY not in done.stdout + done.stderr, done.stderr
    no_canary_in(folder)
    return made


WRITER = "--queries.generators=[{kind: endpoint, endpoint: 'ADDRESS/v1', model: m}]"
APIS = {
    "embeddings": [
        *("adapt", "--model.api=openai", "--model.endpoint=ADDRESS/v1", "--model.name=m"),
        "--model.train=query_adapter",
    ],
    "writer": ["adapt", WRITER],
    "reranker": ["adapt", "--teacher.api=vllm", "--teacher.endpoint=ADDRESS", "--teacher.name=m"],
    "chat": [
        "chat",
        "--chat.endpoint=ADDRESS/v1",
        "--chat.model=m",
        "--chat.threshold=-9",
        "--question=a lamp",
    ],
}


@pytest.mark.slow
@pytest.mark.fault("secrets")
@pytest.mark.parametrize("api", APIS)
def test_a_key_that_is_refused_is_not_told(
    api: str,
    recipe: Path,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The services answer 401 with the key that they were sent."""
    new = f"name: x\ncorpus: {{source: beir, path: {tiny_beir_path}}}\n"
    new += f"model: {{name: {tiny_encoder_path}}}\nteacher: {{name: {tiny_cross_encoder_path}}}\n"
    (tmp_path / "r.yaml").write_text(new)
    keep_secrets(monkeypatch)
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with serve_apis("another key") as service:
        command, *options = (word.replace("ADDRESS", service.address) for word in APIS[api])
        said = stopped([command, str(recipe) if api == "chat" else "r.yaml", *options], capfd)
    assert "refuses the key" in said and "Traceback" not in said
    no_canary_in(recipe.parent)
    no_canary_in(tmp_path)


@pytest.mark.slow
@pytest.mark.fault("secrets")
def test_a_training_that_ends_in_an_exception_tells_no_key(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do W&B's files, which it writes until then."""
    pytest.importorskip("wandb")
    keep_secrets(monkeypatch)
    folder = recipe.parent
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    (folder / "broken_loss.py").write_text("def loss(*given):\n    raise RuntimeError('a bug')\n")
    shutil.copytree(folder / "runs" / "tiny", folder / "runs" / "broken")
    options = ["--name=broken", "--loss.kind=broken_loss:loss", "--tracking.report_to=[wandb]"]
    done = run_program("train.py", recipe, *options)
    assert done.returncode == 1 and "a bug" in done.stderr, done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert [*(folder / "runs" / "broken" / "wandb").rglob("*.wandb")]
    no_canary_in(folder)


@pytest.mark.slow
@pytest.mark.fault("secrets")
@pytest.mark.parametrize("refusal", ["", f"no access with {CANARY}HF_TOKEN"])
def test_a_push_that_the_hub_refuses_tells_no_token(
    recipe: Path, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_secrets(monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with serve("another token") as hub:
        hub.refusal = refusal
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        command = [sys.executable, "-m", "tercet", "push", str(recipe), "--repo", "me/x"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "the Hub did not take" in done.stderr, done.stderr
    assert CANARY not in done.stdout + done.stderr and "Traceback" not in done.stderr
    no_canary_in(recipe.parent)


@pytest.mark.fault("secrets")
@pytest.mark.slow
def test_a_deployment_that_fails_tells_no_key(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    keep_secrets(monkeypatch)
    monkeypatch.chdir(recipe.parent)
    assert "Traceback" not in stopped(["deploy", str(recipe), "--weaviate", "Tiny", "--yes"], capfd)
    no_canary_in(recipe.parent)
