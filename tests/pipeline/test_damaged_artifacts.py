"""A byte of a finished run that has changed is refused by its file's name, whoever reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import RUN, Run, Runs, copied, recipe_of

from tercet.api import Run as Finished
from tercet.commands.evaluate import evaluate
from tercet.commands.export import export_triplets
from tercet.config.evaluation import SystemSettings
from tercet.config.recipe import Recipe
from tercet.core import files
from tercet.core.artifacts import existing
from tercet.core.files import file_sha256
from tercet.core.schema import InputError
from tercet.evaluation.systems import EncodedSystem, Systems
from tercet.modeling import BiEncoder, load_query_encoder
from tercet.pipeline.finished import finished, standing
from tercet.pipeline.pipeline import Pipeline
from tercet.serving.search import RunSearch
from tercet.sharing.hub import model_files
from tercet.sharing.retriever import export_retriever
from tercet.studio.browse import Data
from tercet.studio.compare import wins_and_losses

pytestmark = pytest.mark.fault("a damaged artifact")

WEIGHTS, KEPT = "model/model.safetensors", "vectors/adapted/vectors-00000.arrow"
#: What makes eval.py short.
SHORT = {
    "evaluation.systems": [{"kind": "bm25"}],
    "evaluation.resamples": 100,
    "evaluation.latency_queries": 4,
}


def made(stage: str) -> Any:
    return existing(RUN / stage)


def adapted(recipe: Recipe) -> EncodedSystem:
    """eval.py's system of the adapted model, which is not asked for where the base ships."""
    system = Systems(Pipeline(recipe), [SystemSettings(kind="adapted")], [])["adapted"]
    assert isinstance(system, EncodedSystem)
    return system


def searched(recipe: Recipe) -> None:
    with RunSearch(finished(recipe), "adapted") as search:
        search.search("a lamp", 3)


#: What reads an artifact, by a name, and the file that it reads.
DOORS: dict[str, tuple[str, Callable[[Recipe], object]]] = {
    "eval": (WEIGHTS, lambda recipe: adapted(recipe).check()),
    "eval, its kept vectors": (KEPT, lambda recipe: adapted(recipe).vectors),
    "eval, its kept rankings": ("rankings/bm25/rankings-00000.arrow", evaluate),
    "search and chat": (WEIGHTS, searched),
    "search of the corpus": ("corpus/passages-00000.arrow", searched),
    "load": (WEIGHTS, lambda recipe: Finished(recipe).model),
    "an encoder of the folder": (WEIGHTS, lambda _: BiEncoder.from_pretrained(RUN / "model")),
    "an encoder, its pooling": (
        "model/1_Pooling/config.json",
        lambda _: load_query_encoder(RUN / "model"),
    ),
    "deploy": (WEIGHTS, standing),
    "deploy, the vectors": (
        "embeddings/vectors-00000.arrow",
        lambda recipe: standing(recipe).vectors,
    ),
    "export": (WEIGHTS, lambda recipe: export_retriever(recipe, Path("retriever.py"))),
    "export of triplets": ("triplets/lists-00000.arrow", export_triplets),
    "push": (WEIGHTS, lambda _: model_files(made("model"))),
    "the studio's pages": (
        "queries/queries-00000.arrow",
        lambda _: Data(RUN).page("synthetic queries"),
    ),
    "the studio's passages": ("corpus/twins-00000.arrow", lambda _: Data(RUN).passages()),
    "comparisons": (
        "evaluation/figures-00000.arrow",
        lambda _: wins_and_losses(RUN, "ndcg@10"),
    ),
    "another run's start": ("scores/lists-00000.arrow", lambda recipe: Pipeline(recipe).targets),
}


@pytest.fixture(scope="module")
def evaluated(runs: Runs) -> Run:
    """A finished run, with what eval.py keeps of it."""
    run = runs["whole"]
    with chdir(run.root):
        recipe = recipe_of({**run.keys, **SHORT})
        evaluate(recipe)
        _ = adapted(recipe).vectors
    return Run(run.root, {**run.keys, **SHORT})


@pytest.fixture
def place(evaluated: Run) -> Iterator[Path]:
    with copied(evaluated) as root, chdir(root):
        yield root


def damage(file: Path) -> None:
    """Change a bit; size and time stay."""
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("door", DOORS)
def test_a_changed_byte_is_refused_by_whoever_reads_it(
    door: str, evaluated: Run, place: Path
) -> None:
    name, read = DOORS[door]
    damage(RUN / name)
    with pytest.raises(InputError) as refused:
        read(recipe_of(evaluated.keys))
    said = str(refused.value)
    assert f"{RUN / name} does not match its manifest: remove" in said
    assert "\n" not in said


def test_what_is_whole_is_read(evaluated: Run, place: Path) -> None:
    """None of the doors is closed to a run that is as it was."""
    recipe = recipe_of(evaluated.keys)
    for name, (_, read) in DOORS.items():
        if not name.startswith("eval"):
            read(recipe)


def test_a_file_is_read_once_a_process_for_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, read = tmp_path / "file", list[str]()
    file.write_bytes(b"a")
    os.utime(file, ns=(1, 1))
    monkeypatch.setattr(files, "_TICK", -1)  # else what was written this moment is read again
    digest = files.hashlib.file_digest
    monkeypatch.setattr(
        files.hashlib, "file_digest", lambda *given: read.append("") or digest(*given)
    )
    first = file_sha256(file)
    assert file_sha256(file) == first and len(read) == 1
    file.write_bytes(b"b")
    os.utime(file, ns=(1, 1))  # of the same size and time, and another file all the same
    assert file_sha256(file) != first and len(read) == 2
