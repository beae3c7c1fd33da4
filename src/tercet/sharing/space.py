"""A finished run as a Hugging Face Space: a page that searches its passages and tells its figures.

The folder needs no Tercet. `templates/app.py` is its page, as it stands; all else is the run's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact, locked
from tercet.core.files import write_file
from tercet.core.schema import InputError
from tercet.modeling.hub import CARD, files_of, push_files
from tercet.pipeline.pipeline import Pipeline
from tercet.serving.search import finished
from tercet.sharing.hub import model_files, own_card
from tercet.sharing.retriever import check_exportable, export
from tercet.sharing.space_texts import (
    APP,
    MODEL,
    PASSAGES,
    REPORT,
    REQUIREMENTS,
    RESULTS,
    RETRIEVER,
    installed,
    readme,
    requirements,
    write_results,
)

TEMPLATE = Path(__file__).parent / "templates" / APP
#: All that such a folder holds, and what running it may leave there.
OURS = {APP, RETRIEVER, REQUIREMENTS, CARD, MODEL, PASSAGES, RESULTS, REPORT}
LEFT = {"__pycache__", ".gradio"}
#: Bytes of a Space that the Hub takes from everybody.
LARGEST = 1_000_000_000


def write_space(
    recipe: Recipe,
    folder: Path,
    *,
    hub: str | None = None,
    revision: str | None = None,
    large: bool = False,
) -> int:
    """Write the run's Space into `folder`, whole or not at all; its size in bytes.

    The model is copied, or loaded by its name on the Hub: `hub`, at a `revision`. Whatever the
    run's index is, the Space searches exactly. Raises InputError for a run that is not finished, a
    model behind an API, a folder of somebody's own, and more than `LARGEST` bytes unless `large`.
    """
    check_exportable(recipe, folder / RETRIEVER)
    _check_ours(folder)
    installed("gradio")
    partial = folder.with_name(folder.name + ".partial")
    with locked(recipe.folder):
        pipeline = finished(recipe, served=False)
        card = own_card(recipe)
        if not large:
            _check_size(pipeline, hub)
        shutil.rmtree(partial, ignore_errors=True)
        place = hub or f"./{MODEL}"
        export(pipeline, partial / RETRIEVER, model=place, revision=revision, exact=True)
        if not hub:
            for name, file in model_files(pipeline.model).items():
                (partial / MODEL / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, partial / MODEL / name)
        write_results(pipeline, partial)
        needs = requirements((partial / RETRIEVER).read_text(encoding="utf-8"))
        write_file(partial / REQUIREMENTS, needs.encode())
        write_file(partial / CARD, readme(pipeline, card, hub).encode())
        shutil.copyfile(TEMPLATE, partial / APP)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return sum(file.stat().st_size for file in files_of(folder).values())


def push_space(folder: Path, repo: str, *, private: bool) -> str:
    """Push the folder to a Space, `private` if it is a new one; the commit's address."""
    files: dict[str, Path | bytes] = dict(files_of(folder))
    message = "Search, made with Tercet"
    return push_files(files, repo, kind="space", private=private, message=message)


def _check_ours(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder: give --out another name")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    for other in sorted(there - OURS - LEFT):
        raise InputError(f"{folder / other} is no part of a Space: give --out another folder")


def _check_size(pipeline: Pipeline, hub: str | None) -> None:
    """Before anything is encoded: the vectors will be as many, and as long, as those before."""
    parts = {
        "passages": _bytes(pipeline.corpus, "passages-"),
        "vectors": _bytes(pipeline.embeddings),
        "model": 0 if hub else _bytes(pipeline.model),
    }
    whole = sum(parts.values())
    if whole > LARGEST:
        told = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items() if size)
        others = "" if hub else ", or --hub NAME to load the model from the Hub"
        raise InputError(
            f"the Space would have {whole / 1e9:.2f} GB ({told}), and the Hub takes "
            f"{LARGEST / 1e9:g}: give --large to write it all the same{others}"
        )


def _bytes(artifact: Artifact, prefix: str = "") -> int:
    files = artifact.manifest["files"].items()
    return sum(int(entry["bytes"]) for name, entry in files if name.startswith(prefix))
