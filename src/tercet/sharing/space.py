"""Exports a finished run as a Hugging Face Space that searches its passages and shows its results.

The folder does not need Tercet. Its page is a copy of `templates/app.py`.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact
from tercet.core.console import console
from tercet.core.extras import missing
from tercet.core.files import kept, read_json, write_file, write_json
from tercet.core.processes import locked
from tercet.core.schema import InputError
from tercet.core.text import bytes_text
from tercet.modeling.hub import CARD, files_of, push_files
from tercet.pipeline.finished import finished
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.files import results_from
from tercet.reports.markdown import clean, escape, front_matter, shown
from tercet.reports.page.page import write_page
from tercet.sharing.hub import own_card
from tercet.sharing.model_card import changed_settings, from_hub, licence, shown_command
from tercet.sharing.retriever import check_exportable, copy_model, export

_APP, MODEL, REPORT = "app.py", "model", "report.html"
_RETRIEVER, _REQUIREMENTS = "retriever.py", "requirements.txt"
_PASSAGES, _RESULTS = "retriever.passages", "results.json"
#: Everything in the folder of a Space, and what running it may add.
OURS = {_APP, _RETRIEVER, _REQUIREMENTS, CARD, MODEL, _PASSAGES, _RESULTS, REPORT}
LEFT = {"__pycache__", ".gradio"}
#: Bytes of a Space that the Hub accepts from every account.
LARGEST = 1_000_000_000
#: Head of requirements.txt: torch from PyPI includes gigabytes of GPU libraries.
_SMALLER = """\
# For a smaller build without GPU support:
# --extra-index-url https://download.pytorch.org/whl/cpu
"""
_EXTRAS = {"gradio": "studio"}  # the extra that installs a package, where it is not langchain


def write_space(
    recipe: Recipe,
    folder: Path,
    *,
    hub: str | None = None,
    revision: str | None = None,
    large: bool = False,
) -> int:
    """Write the run's Space to `folder`, complete or not at all; returns its size in bytes.

    The model is copied, or loaded from the Hub (`hub`, at `revision`). The Space searches exactly,
    for any index of the run. Raises InputError for an unfinished run, a model behind an API, a
    folder with other files, and a Space of more than 1 GB unless `large`.
    """
    check_exportable(recipe, folder / _RETRIEVER)
    _check_replaceable(folder)
    _installed("gradio")
    partial = folder.with_name(folder.name + ".partial")
    with locked(recipe.folder):
        pipeline = finished(recipe, served=False)
        card = own_card(recipe)
        if not large:
            _check_size(pipeline, hub)
        shutil.rmtree(partial, ignore_errors=True)
        place = hub or f"./{MODEL}"
        export(pipeline, partial / _RETRIEVER, model=place, revision=revision, exact=True)
        if not hub:
            copy_model(pipeline.model, partial / MODEL)
        _write_results(pipeline, partial)
        needs = _requirements((partial / _RETRIEVER).read_text(encoding="utf-8"))
        write_file(partial / _REQUIREMENTS, needs.encode())
        write_file(partial / CARD, _readme(pipeline, card, hub).encode())
        shutil.copyfile(Path(__file__).parent / "templates" / _APP, partial / _APP)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return sum(file.stat().st_size for file in files_of(folder).values())


def push_space(folder: Path, repo: str, *, private: bool) -> str:
    """Push the folder to a Space, `private` if it is new; returns the URL of the commit."""
    files: dict[str, Path | bytes] = dict(files_of(folder))
    message = "Search, made with Tercet"
    return push_files(files, repo, kind="space", private=private, message=message)


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give another name with --out")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    for other in sorted(there - OURS - LEFT):
        raise InputError(f"{folder / other} is no part of a Space: give another folder with --out")


def _check_size(pipeline: Pipeline, hub: str | None) -> None:
    """Raises InputError for a Space that is too large, before anything is encoded."""
    parts = {
        "passages": _bytes(pipeline.corpus, "passages-"),
        "vectors": _bytes(pipeline.embeddings),  # the adapted model's vectors have the same size
        "model": 0 if hub else _bytes(pipeline.model),
    }
    whole = sum(parts.values())
    if whole > LARGEST:
        sizes = ", ".join(f"{name} {bytes_text(n)}" for name, n in parts.items() if n)
        others = "" if hub else ", or --hub NAME to load the model from the Hub"
        raise InputError(
            f"the Space would have {bytes_text(whole)} ({sizes}), and the Hub accepts "
            f"{bytes_text(LARGEST)}: use --large to write it anyway{others}"
        )


def _bytes(artifact: Artifact, prefix: str = "") -> int:
    files = artifact.manifest["files"].items()
    return sum(int(entry["bytes"]) for name, entry in files if name.startswith(prefix))


def _installed(name: str) -> str:
    """The installed version of a package, without a local label such as +cpu."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        raise missing(name, _EXTRAS.get(name, "langchain")) from None


def _requirements(retriever: str) -> str:
    """requirements.txt: the installed versions of gradio and of the retriever file's packages."""
    names = re.findall(r'^#   "([\w.-]+)[^"]*",$', retriever.partition('"""')[0], re.MULTILINE)
    pins = [f"{name}=={_installed(name)}" for name in sorted({*names, "gradio"})]
    return _SMALLER + "\n".join(pins) + "\n"


def _write_results(pipeline: Pipeline, folder: Path) -> None:
    """Write train.py's results, and the page of eval.py if it evaluated the same model."""
    recipe, metrics = pipeline.recipe, pipeline.recipe.folder / "metrics.json"
    if not metrics.exists():
        raise InputError(f"{metrics} does not exist: run `tercet adapt` with this recipe")
    report = kept(metrics, lambda found: {name: found[name] for name in ("comparisons", "notes")})
    if report is None:
        raise InputError(f"{metrics} is damaged: run `tercet adapt` again, which writes it")
    results = {
        "run": recipe.name,
        "model": shown(recipe.model.name),
        "passages": len(pipeline.passages),
        "shipped": pipeline.model.facts["shipped"],
        **report,
    }
    write_json(folder / _RESULTS, _without_paths(results, recipe))
    evaluated = recipe.folder / "results" / "metrics.json"
    if not evaluated.exists():
        return
    if evaluated.stat().st_mtime < (pipeline.model.path / "manifest.json").stat().st_mtime:
        console.print(
            f"{evaluated} is older than the model, so it is left out: run `tercet eval` again"
        )
        return
    found: dict[str, Any] = _without_paths(read_json(evaluated), recipe)
    found["settings"] = changed_settings(recipe)
    found["command"] = shown_command(found["command"].split())
    write_page(results_from(found, str(evaluated)), folder / REPORT)


def _without_paths(value: Any, recipe: Recipe) -> Any:
    """A JSON value in which the recipe's local paths are cut to their last parts.

    Queries and passages (in `changes`) are not altered.
    """
    if isinstance(value, dict):
        return {
            name: inner if name == "changes" else _without_paths(inner, recipe)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without_paths(inner, recipe) for inner in value]
    if isinstance(value, str):
        for path in sorted(_paths(recipe), key=len, reverse=True):
            value = value.replace(path, shown(path))
    return value


def _paths(recipe: Recipe) -> set[str]:
    """The recipe's names of models, files and folders that are local paths."""
    corpus, section = recipe.corpus, recipe.evaluation
    names = [recipe.model.name, recipe.model.passage_vectors, recipe.runs_dir]
    names += [scorer.name for scorer in recipe.teacher.each.values()]
    names += [corpus.path, corpus.passages.path, corpus.queries.path, corpus.qrels.path]
    names += [str(recipe.folder), str(recipe.folder.resolve()), section.out_of_domain_path or ""]
    for system in section.systems:
        names += [system.model, system.passages, system.queries, system.teacher or ""]
    return {name for name in names if name and shown(name) != name}


def _readme(pipeline: Pipeline, card: str, hub: str | None) -> str:
    """README.md: the front matter of a Space, and the text of its About tab.

    The description and the limits come from the model's `card`; `hub` is the model's Hub name.
    """
    recipe = pipeline.recipe
    front: dict[str, Any] = {
        "title": clean(recipe.name),
        "emoji": "🔎",
        "colorFrom": "gray",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": _installed("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": _APP,
        "pinned": False,
        **licence(pipeline),
    }
    if hub or from_hub(pipeline, recipe.model.name):
        front["models"] = [hub or recipe.model.name]
    label = recipe.corpus.label
    published = recipe.corpus.source in ("tables", "climate_fever")
    if published and "/" in label and shown(label) == label:
        front["datasets"] = [label]
    return "\n".join([*front_matter(front), "", _about(card, hub)])


def _about(card: str, hub: str | None) -> str:
    first, *sections = re.split(r"^## ", card.split("---\n", 2)[2], flags=re.MULTILINE)
    limits = next(section for section in sections if section.startswith("Limits\n"))
    model = f"loaded from the Hub ({escape(hub)})" if hub else f"in `{MODEL}/`"
    return f"""{first.strip().partition(chr(10))[2].strip()}

A search compares the query's vector with the vectors of all passages; keywords are not used.
Queries are encoded here, in float32; the passages and their vectors are in `{_PASSAGES}/`. The
model is {model}.

## {limits.strip()}

## Running it elsewhere

```
pip install -r {_REQUIREMENTS}
python {_APP}
```

`python {_RETRIEVER} --self-test` searches with some of the run's queries and compares the passages
with those that the run found. The file is a LangChain retriever.
"""
