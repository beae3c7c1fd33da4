"""The wheel holds the package and nothing else; the checkout is what an editable install gives."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("src", "data", "modeling", "retrieval")
INITS = [file for room in ROOMS for file in (ROOT / room).rglob("__init__.py")]
PATHS = [file.parent.relative_to(ROOT) for file in INITS]
#: Package -> its folder.
FOLDERS = {
    ".".join(path.parts[1:] if path.parts[0] == "src" else ("tercet", *path.parts)): path.as_posix()
    for path in PATHS
}


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what git would hand out, so that the checkout stays as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for file in shipped():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_bytes((ROOT / file).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    result = subprocess.run([*build, source], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (file,) = out.iterdir()
    return file


def shipped() -> list[str]:
    """The files that belong to the checkout: git's where it is one, else all but hidden ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode == 0:
        return [file for file in result.stdout.split("\0") if file and (ROOT / file).is_file()]
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*") if file.is_file()]
    top = [ROOT / name for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")]
    return [file.relative_to(ROOT).as_posix() for file in [*top, *files]]


def modules() -> set[str]:
    """Files of the package, as a wheel names them."""
    return {
        f"{package.replace('.', '/')}/{file.name}"
        for package, folder in FOLDERS.items()
        for file in (ROOT / folder).glob("*.py")
    }


def test_the_packages_listed_are_the_folders_there_are(
    setup_cfg: configparser.ConfigParser,
) -> None:
    folders = FOLDERS | {"tercet.recipes": "recipes"}  # without code
    listed = setup_cfg["options"]["packages"].split()
    assert sorted(listed) == sorted(folders)
    lines = setup_cfg["options"]["package_dir"].strip().splitlines()
    assert dict(line.split(" = ") for line in lines) == folders


def test_every_module_is_in_a_listed_package() -> None:
    files = {file for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    files -= set((ROOT / "src/tercet/sharing/templates").iterdir())  # data: what programs write
    assert {file.parent.relative_to(ROOT).as_posix() for file in files} == set(FOLDERS.values())


def test_the_extras_are_all_in_all(setup_cfg: configparser.ConfigParser) -> None:
    extras = setup_cfg["options.extras_require"]
    (everything,) = extras["all"].split()
    named = everything.removeprefix("tercet[").removesuffix("]").split(",")
    assert set(named) == set(extras) - {"all", "dev", "docs"}


def test_the_manifest_names_what_there_is() -> None:
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        verb, *names = line.split()
        for name in names if verb in ("include", "graft") else []:
            assert (ROOT / name).exists(), f"MANIFEST.in names {name}"


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    page = {f"tercet/reports/page/page.{kind}" for kind in ("html", "css", "js")}
    templates = {f"tercet/sharing/templates/{name}.py" for name in ("app", "retriever")}
    studio = {f"tercet/studio/{name}" for name in ("studio.css", "listing.js", "voting.js")}
    recipes = {f"tercet/recipes/{file.name}" for file in (ROOT / "recipes").glob("*.yaml")}
    assert inside == modules() | page | templates | studio | recipes | {"tercet/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_installs_and_imports_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    # A wheel of pure Python is installed by unpacking it; before site-packages on the path, it
    # hides the checkout's editable install.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import tercet, tercet.data, tercet.retrieval as r; print(tercet.__file__, r.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert all(path.startswith(str(tmp_path / "site")) for path in result.stdout.split())


@pytest.mark.slow
def test_the_installed_package_is_this_checkout(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, importlib.util\n"
        "for name in sys.argv[1:]:\n"
        "    print(pathlib.Path(importlib.util.find_spec(name).origin).resolve())\n"
    )
    # Not what is in `modeling`: its `__init__` would load torch.
    names = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in modules()
        if not name.startswith("tercet/modeling/")
    )
    command = [sys.executable, "-c", code, *names]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{result.stderr}\nIs it installed? Run `make install`."
    if "site-packages" in result.stdout:
        pytest.skip("installed as a wheel, not editable")
    assert all(path.startswith(f"{ROOT}/") for path in result.stdout.split())


def test_no_room_is_importable_by_its_bare_name(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom importlib.util import find_spec\nprint(*filter(find_spec, sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "data", "modeling", "retrieval", "train", "eval"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == []
