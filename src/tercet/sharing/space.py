"""A finished run as a Hugging Face Space: a page that searches its passages and tells its figures.

The folder needs no Tercet. `templates/app.py` is its page, as it stands; all else is the run's.
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
from tercet.core.files import read_json, write_file, write_json
from tercet.core.processes import locked
from tercet.core.schema import InputError
from tercet.modeling.hub import CARD, files_of, push_files
from tercet.pipeline.finished import finished
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.files import results_from
from tercet.reports.markdown import clean, escape, front_matter, shown
from tercet.reports.page.page import write_page
from tercet.sharing.hub import model_files, own_card
from tercet.sharing.model_card import changed_settings, from_hub, licence, shown_command
from tercet.sharing.retriever import check_exportable, export

APP, RETRIEVER, REQUIREMENTS = "app.py", "retriever.py", "requirements.txt"


MODEL, PASSAGES, RESULTS, REPORT = "model", "retriever.passages", "results.json", "report.html"


#: At the head of `requirements.txt`: torch as it is published brings gigabytes for GPUs.
SMALLER = """\
# For a smaller build, where there is no GPU:
# --extra-index-url https://download.pytorch.org/whl/cpu
"""


#: What brings a library that a Space needs.
EXTRAS = {"gradio": "studio", "langchain-core": "langchain"}
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


def installed(name: str) -> str:
    """The version of a distribution here, as its publisher names it. Raises InputError for none."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        what = f"'tercet[{EXTRAS[name]}]'" if name in EXTRAS else name
        raise InputError(
            f"{name} is not installed, and a Space is pinned to what is here: pip install {what}"
        ) from None


def requirements(retriever: str) -> str:
    """`requirements.txt`: the versions here of gradio, and of what a retriever's file names."""
    names = re.findall(r'^#   "([\w.-]+)[^"]*",$', retriever.partition('"""')[0], re.MULTILINE)
    pins = [f"{name}=={installed(name)}" for name in sorted({*names, "gradio"})]
    return SMALLER + "\n".join(pins) + "\n"


def write_results(pipeline: Pipeline, folder: Path) -> None:
    """The figures of train.py's report, and the page of what eval.py found of the same model."""
    recipe, metrics = pipeline.recipe, pipeline.recipe.folder / "metrics.json"
    if not metrics.exists():
        raise InputError(f"{metrics} is not there: run train.py with this recipe, which writes it")
    report = read_json(metrics)
    results = {
        "run": recipe.name,
        "model": shown(recipe.model.name),
        "passages": len(pipeline.passages),
        "comparisons": report["comparisons"],
        "notes": report["notes"],
    }
    write_json(folder / RESULTS, without_paths(results, recipe))
    evaluated = recipe.folder / "results" / "metrics.json"
    if not evaluated.exists():
        return
    if evaluated.stat().st_mtime < (pipeline.model.path / "manifest.json").stat().st_mtime:
        console.print(f"{evaluated} is older than the model: left out (run eval.py again)")
        return
    found: dict[str, Any] = without_paths(read_json(evaluated), recipe)
    found["settings"] = changed_settings(recipe)
    found["command"] = shown_command(found["command"].split()[1:])
    write_page(results_from(found, str(evaluated)), folder / REPORT)


def without_paths(value: Any, recipe: Recipe) -> Any:
    """Results, with the recipe's paths, which are this machine's, by their last parts alone.

    Queries and passages, which are in `changes`, stay as they are.
    """
    if isinstance(value, dict):
        return {
            name: inner if name == "changes" else without_paths(inner, recipe)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [without_paths(inner, recipe) for inner in value]
    if isinstance(value, str):
        for path in sorted(_paths(recipe), key=len, reverse=True):
            value = value.replace(path, shown(path))
    return value


def _paths(recipe: Recipe) -> set[str]:
    """What a recipe calls models, files and folders, where that is more than a name."""
    corpus, section = recipe.corpus, recipe.evaluation
    names = [recipe.model.name, recipe.model.passage_vectors, recipe.teacher.name, recipe.runs_dir]
    names += [corpus.path, corpus.passages.path, corpus.queries.path, corpus.qrels.path]
    names += [str(recipe.folder), str(recipe.folder.resolve()), section.out_of_domain_path or ""]
    for system in section.systems:
        names += [system.model, system.passages, system.queries, system.teacher or ""]
    return {name for name in names if name and shown(name) != name}


def readme(pipeline: Pipeline, card: str, hub: str | None) -> str:
    """`README.md`: what the Hub reads of a Space, then what its page says of itself.

    Of the model's `card` it takes the first words and the limits; `hub` is the model's name there.
    """
    recipe = pipeline.recipe
    front: dict[str, Any] = {
        "title": clean(recipe.name),
        "emoji": "🔎",
        "colorFrom": "gray",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": installed("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": APP,
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
    model = f"loaded from the Hub, where it is {escape(hub)}" if hub else f"in `{MODEL}/`"
    return f"""{first.strip().partition(chr(10))[2].strip()}

A search compares the query's vector with every passage's, and no keyword counts. Queries are
encoded here, in float32; the passages' vectors were made before, and lie with their texts in
`{PASSAGES}/`. The model is {model}.

## {limits.strip()}

## Running it elsewhere

```
pip install -r {REQUIREMENTS}
python {APP}
```

`python {RETRIEVER} --self-test` asks some of the run's queries, and compares what it finds with
what the run found. The file is a LangChain retriever.
"""
