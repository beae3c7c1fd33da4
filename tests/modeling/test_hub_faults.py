"""The Hub refuses, is not there, or is cut off: one line, with its own reason."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Commit, Hub, serve
from huggingface_hub import _tree_cache as listings, constants, file_download, hf_api
from transformers.utils.hub import hf_api as transformers_api

from tercet.core.schema import InputError
from tercet.modeling import BiEncoder
from tercet.modeling.hub import HubSilent, claim_repository, push_files, resolve

pytestmark = pytest.mark.fault("a library's own errors")

TOKEN = "hf_canary" + "5Wv" * 9
COMMIT = "a" * 40


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that this process's libraries take for theirs, with an empty cache."""
    with serve(TOKEN) as hub:
        point_to(hub.address, monkeypatch, tmp_path)
        yield hub


def point_to(address: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for api in (hf_api.api, transformers_api()):
        monkeypatch.setattr(api, "endpoint", address)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    files = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def push(repo: str) -> None:
    push_files({"README.md": b"hello"}, repo, message="m")


@pytest.mark.parametrize("ask", [push, claim_repository])
def test_the_hubs_reason_for_a_refusal_is_shown_whole(hub: Hub, ask: object) -> None:
    hub.refusal = 'You don\'t have the rights to create a model under the namespace "someone".'
    with pytest.raises(InputError) as caught:
        ask("someone/a-model")
    line = str(caught.value)
    assert "did not take 'someone/a-model': 403 " + hub.refusal in line
    assert "HF_TOKEN" in line and "\n" not in line and TOKEN not in line


@pytest.mark.parametrize("ask", [push, claim_repository])
def test_a_hub_that_is_not_there_takes_nothing(
    ask: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_to("http://127.0.0.1:9", monkeypatch, tmp_path)
    with pytest.raises(InputError, match="did not take 'me/x': .*: check the network$") as caught:
        ask("me/x")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        ask("me/x")


def test_a_download_that_is_cut_off_is_one_line(
    hub: Hub, tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        file.relative_to(tiny_encoder_path).as_posix(): file.read_bytes()
        for file in tiny_encoder_path.rglob("*")
        if file.is_file()
    }
    hub.commits["me/tiny"] = [Commit("m", files)]
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)  # between its retries
    hub.cuts = True
    with pytest.raises(HubSilent, match="the Hub gave no model of that name: ") as caught:
        BiEncoder.from_pretrained("me/tiny")
    assert "\n" not in str(caught.value)
    hub.cuts = False
    assert BiEncoder.from_pretrained("me/tiny").dimension == 32


@pytest.fixture
def snapshot(tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the Hub's cache, without its card, which the listing beside it names."""
    point_to("http://127.0.0.1:9", monkeypatch, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root = tmp_path / "hub" / "models--acme--mini"
    folder = root / "snapshots" / COMMIT
    shutil.copytree(tiny_encoder_path, folder)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    entry = listings.TreeCacheEntry(
        size=1, blob_id="b" * 40, lfs_sha256=None, lfs_size=None, xet_hash=None
    )
    listings.write_tree_cache(str(root), COMMIT, dict.fromkeys({*names, "README.md"}, entry))
    return folder


def test_offline_a_model_needs_no_card(snapshot: Path) -> None:
    assert resolve("acme/mini").path == snapshot
    assert BiEncoder.from_pretrained("acme/mini").dimension == 32


def test_offline_the_file_that_is_missing_is_named(snapshot: Path) -> None:
    (snapshot / "config.json").unlink()
    with pytest.raises(HubSilent, match="config.json"):
        resolve("acme/mini")
