"""Keys of the environment are in nothing that a failing command says or writes."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        ["push", "r.yaml", "--to", "me/x"],
        ["deploy", "r.yaml"],
        ["search", "r.yaml", "a lamp"],
        ["chat", "r.yaml", "a lamp"],
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
    for name in (*KEYS, "WANDB_API_KEY"):
        monkeypatch.setenv(name, f"{CANARY}{name}")
    monkeypatch.setenv("WEAVIATE_URL", f"http://user:{CANARY}@127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE.format(beir=tiny_beir_path))
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capfd.readouterr()
    assert stopped.value.code not in (0, None), said
    assert CANARY not in said.out + said.err and "Traceback" not in said.err
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or CANARY.encode() not in file.read_bytes(), file
