"""Code that a model's folder brings is refused, and not run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.core.schema import InputError
from tercet.modeling import BiEncoder

pytestmark = pytest.mark.fault("code in a model")


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.canary), "w")


def in_modules(folder: Path, canary: Path) -> None:
    entries = [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\n")


def in_config(folder: Path, canary: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\n")


def in_pickle(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pth"):
        (folder / name).write_bytes(pickle.dumps(Payload(canary)))


@pytest.mark.parametrize("plant", [in_modules, in_config, in_pickle])
def test_it_is_refused_and_not_run(
    plant: Callable[[Path, Path], None], tiny_encoder_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_encoder_path, tmp_path / "model")
    plant(tmp_path / "model", tmp_path / "canary")
    with pytest.raises(InputError):
        BiEncoder.from_pretrained(tmp_path / "model", precision="fp32", device="cpu")
    assert not (tmp_path / "canary").exists()
