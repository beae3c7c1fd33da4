"""The documentation's site, built as `make docs` builds it, and the notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from programs import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder],
        cwd=ROOT,
        # Nothing but this machine can be reached.
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "WARNING" not in result.stderr, result.stderr
    return folder


@pytest.mark.slow
def test_pages_need_no_network(site: Path) -> None:
    """No page asks another server for a script, a style, a font or a picture."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        asked = re.findall(
            r"<(?:script|img|link)\b[^>]*?(?:src|href)=[\"']?(https?://[^\"' >]+)", text
        )
        assert [address for address in asked if "tercet-ir.github.io" not in address] == [], page
    styles = [file.read_text() for file in site.rglob("*.css")]
    assert not any(re.search(r"url\([\"']?https?://", text) for text in styles)


@pytest.mark.slow
def test_the_reference_has_every_key_and_command(site: Path) -> None:
    from tercet.commands.main import COMMANDS
    from tercet.config.keys import keys_of
    from tercet.config.recipe import Recipe

    recipe = (site / "reference/recipe/index.html").read_text()
    assert [key for key in keys_of(Recipe) if f"<code>{key}</code>" not in recipe] == []
    commands = (site / "reference/cli/index.html").read_text()
    assert [name for name in COMMANDS if f"<code>tercet {name}</code>" not in commands] == []
    python = (site / "reference/api/index.html").read_text()
    assert "<code>tercet.adapt</code>" in python and "time_budget" in python


@pytest.mark.slow
def test_llms_txt_lists_every_page(site: Path) -> None:
    listed = (site / "llms.txt").read_text()
    texts = (site / "llms-full.txt").read_text()
    pages = [page.parent.relative_to(site).as_posix() for page in site.rglob("index.html")]
    assert len(pages) > 20
    for page in pages:
        place = "" if page == "." else f"{page}/"
        address = f"https://tercet-ir.github.io/tercet/{place}"
        assert f"({address}): " in listed and f"<!-- {address} -->" in texts
    assert not re.findall(r"\]\(\S+\): *$", listed, re.MULTILINE)  # each with a sentence


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.models
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its cells, with the demo's models in the cache and no Hub."""
    if not (ROOT / "models/all-MiniLM-L6-v2").exists():
        pytest.skip("the offline models are missing: run `make models`")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/models").symlink_to(ROOT / "models")
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    (verdict,) = [cell for cell in notebook.cells if cell.source == "print(run.verdict)"]
    assert "hips" in verdict.outputs[0].text
