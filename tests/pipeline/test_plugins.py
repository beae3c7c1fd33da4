"""The plug-ins of docs/guides/plugins.md: a run uses each, and its change makes steps again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from programs import ROOT
from tiny_runs import EVERY_STEP, Change, Run, Runs, copied, make, plans, quick, recipe_of, remade

from tercet import retrieval
from tercet.commands.adapt import adapt
from tercet.commands.evaluate import evaluate
from tercet.core.artifacts import Artifact, existing
from tercet.core.files import read_json
from tercet.core.schema import InputError
from tercet.evaluation.results import EXACT
from tercet.evaluation.systems import Systems
from tercet.forecast.forecast import Forecast
from tercet.forecast.stage_estimates import estimate
from tercet.pipeline.pipeline import Pipeline

GUIDE = ROOT / "docs" / "guides" / "plugins.md"
#: Language and text of every block of code in the guide.
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
FILES = {text.split()[1]: text for language, text in BLOCKS if language == "python"} | {
    "acme_search/__init__.py": ""
}
RECIPE: dict[str, Any] = next(yaml.safe_load(text) for name, text in BLOCKS if name == "yaml")
#: Keys of the tiny recipe that the guide's recipe has otherwise.
REPLACED = ("corpus.", "queries.generators", "negatives.retrievers", "teacher.")
METRIC = "acme_search.metrics:rbp@10"


def forget() -> None:
    """Import the package anew when it is next used, as another process would."""
    for name in [name for name in sys.modules if name.split(".")[0] == "acme_search"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The guide's package, in a folder of sys.path."""
    folder = tmp_path_factory.mktemp("package")
    for path, text in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    sys.path.insert(0, str(folder))
    forget()
    yield folder
    forget()
    sys.path.remove(str(folder))


@pytest.fixture
def edit(folder: Path) -> Iterator[Callable[..., None]]:
    """Put one text for another in a file of the package, for the length of a test."""

    def edit(path: str, old: str = "", new: str = "") -> None:
        text = FILES[path]
        assert old in text
        changed = text.replace(old, new) if old else f"{text}\n# a comment\n"
        (folder / path).write_text(changed)
        forget()

    yield edit
    for path, text in FILES.items():
        (folder / path).write_text(text)
    forget()


@pytest.fixture(scope="module")
def acme(runs: Runs, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the guide's recipe over the tiny collection."""
    whole = runs["whole"]
    keys = {
        **{key: value for key, value in whole.keys.items() if not key.startswith(REPLACED)},
        **{f"{s}.{key}": value for s, section in RECIPE.items() for key, value in section.items()},
        "corpus.queries": {"path": "beir/queries.jsonl"},
        "corpus.qrels": {"path": "beir/qrels/*.tsv"},
    }
    root = tmp_path_factory.mktemp("acme") / "root"
    shutil.copytree(whole.root, root, ignore=shutil.ignore_patterns("runs"))
    rows = map(json.loads, (root / "beir/corpus.jsonl").read_text().splitlines())
    faq = {row["_id"]: [row["title"], row["text"]] for row in rows}
    (root / "faq.json").write_text(json.dumps(faq))
    with chdir(root):
        adapt(recipe_of(keys))
    return Run(root, keys)


def artifact(run: Run, step: str) -> Artifact:
    made = existing(run.root / "runs/run" / step)
    assert made
    return made


def recorded(made: Artifact) -> dict[str, str]:
    """The plug-ins that a step's manifest names, with their identities."""
    inputs = made.manifest["plan"]["inputs"]
    return {name: text for name, text in inputs.items() if name.startswith("plugin ")}


# ── each is used ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_source_gives_the_passages(acme: Run) -> None:
    passages = artifact(acme, "corpus").dataset("passages")
    faq = json.loads((acme.root / "faq.json").read_text())
    assert dict(zip(passages["id"][:], passages["text"][:], strict=True)) == {
        id: answer for id, (_, answer) in faq.items()
    }
    assert len(artifact(acme, "corpus").dataset("queries")) == 20


@pytest.mark.slow
def test_a_generator_writes_the_queries(acme: Run) -> None:
    queries = artifact(acme, "queries").dataset("queries")
    assert set(queries["generator"]) == {"first words"}
    assert {len(text.split()) for text in queries["query"]} == {6}


@pytest.mark.slow
def test_a_retriever_mines_negatives(acme: Run) -> None:
    candidates = artifact(acme, "negatives").dataset("candidates")
    assert {"student_rank", "overlap_rank"} <= set(candidates.column_names)
    # The best of all is the passage that the query was written about.
    assert any(rank == 2 for ranks in candidates["overlap_rank"] for rank in ranks)


@pytest.mark.slow
def test_a_teacher_scores_the_pairs(acme: Run) -> None:
    scores = artifact(acme, "scores").dataset("lists")["scores"]
    # Six words of its own passage, all of them there.
    assert all(each[0] == 10 for each in scores)


@pytest.mark.slow
def test_a_metric_and_an_index_measure_the_test_queries(acme: Run) -> None:
    figures = retrieval.read_figures(artifact(acme, "evaluation"))
    assert METRIC in figures["adapted"] and len(figures["adapted"][METRIC]) == 12
    with chdir(acme.root):
        pipeline = Pipeline(recipe_of(acme.keys))
        queries, qrels, _ = pipeline.split("test")
        vectors = np.asarray(pipeline.vectors)
        encoder = pipeline.starting_model
        asked = encoder.encode_queries([query.text for query in queries])
    ids = list(pipeline.passages.ids)

    def measured(width: int) -> dict[str, float]:
        found = {}
        for query, row in zip(queries, asked[:, :width] @ vectors[:, :width].T, strict=True):
            best = sorted(zip(row.tolist(), ids, strict=True), reverse=True)[:10]
            hits = [qrels[query.id].get(id, 0) > 0 for _, id in best]
            found[query.id] = sum(0.2 * 0.8**rank for rank, hit in enumerate(hits) if hit)
        return found

    assert figures["zero-shot"][METRIC] == pytest.approx(measured(8))
    assert figures["zero-shot"][METRIC] != pytest.approx(measured(vectors.shape[1]))


@pytest.mark.slow
def test_a_loss_trains_the_model(acme: Run, edit: Callable[..., None]) -> None:
    def moved(root: Path) -> bool:
        first, last = (
            {name: value for name, value in row.items() if name not in ("epoch", "step")}
            for row in read_json(root / "runs/run/model/history.json")
        )
        return first != last

    assert moved(acme.root)
    edit("acme_search/losses.py", "(errors * mask)", "(0 * errors * mask)")
    with copied(acme) as root:
        make(root, acme.keys)
        assert not moved(root)


@pytest.mark.slow
def test_a_system_is_compared_over_the_passages_and_its_parts(acme: Run) -> None:
    results = acme.root / "runs/run/results"
    with chdir(acme.root):
        evaluate(recipe_of({**acme.keys, "evaluation.latency_queries": 4}))
    found = read_json(results / "metrics.json")
    assert METRIC in found["measures"] and "in turns" in (results / "report.html").read_text()
    rankings = pq.read_table(results / "rankings.parquet").to_pylist()
    rows = [row for row in rankings if row["index"] == EXACT and row["rank"] <= 2]
    best: dict[str, dict[str, list[str]]] = {}
    for row in sorted(rows, key=lambda row: row["rank"]):
        best.setdefault(row["system"], {}).setdefault(row["query_id"], []).append(row["passage_id"])
    base = "base" if "base" in best else "base (ships)"
    for query, passages in best["in turns"].items():
        first = [best[part][query][0] for part in ("bm25", base)]
        assert passages[: len(set(first))] == list(dict.fromkeys(first))


# ── what is made again ───────────────────────────────────────────────────────────────────────────

#: The steps whose manifests name each plug-in of the recipe.
USED = {
    "corpus": {"sources acme_search.sources:Faq"},
    "embeddings": set(),
    "student": set(),
    "queries": {"generators acme_search.generators:FirstWords"},
    "negatives": {"retrievers acme_search.retrievers:Overlap"},
    "scores": {"teachers acme_search.teachers:SharedWords"},
    "triplets": set(),
    "targets": set(),
    "model": {"losses acme_search.losses:huber", "indexes acme_search.indexes:FirstDimensions"},
    "evaluation": {
        "metrics acme_search.metrics:rbp",
        "indexes acme_search.indexes:FirstDimensions",
    },
}


@pytest.mark.slow
def test_the_manifests_name_object_version_and_digest(acme: Run) -> None:
    for step in EVERY_STEP:
        found = recorded(artifact(acme, step))
        assert set(found) == {f"plugin {name}" for name in USED[step]}
        for name, text in found.items():
            path = name.split()[-1]
            assert re.fullmatch(f"{path} of no distribution, sha256 [0-9a-f]{{64}}", text)


@pytest.mark.slow
def test_a_comment_in_a_helper_makes_again_the_steps_with_plugins_and_no_other(
    acme: Run, edit: Callable[..., None]
) -> None:
    forget()
    assert remade(acme, Change()) == []
    edit("acme_search/words.py")
    assert remade(acme, Change()) == [step for step in EVERY_STEP if USED[step]]


@pytest.mark.slow
def test_what_a_changed_plugin_makes_otherwise_makes_later_steps_again(
    acme: Run, edit: Callable[..., None]
) -> None:
    edit("acme_search/generators.py", "[: self.words]", "[1 : 1 + self.words]")
    after = ["queries", "negatives", "scores", "triplets", "targets", "model", "evaluation"]
    assert remade(acme, Change()) == ["corpus", *after]


#: A run with one plug-in alone, and the steps that its change makes again.
ALONE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sources": (
        {"corpus": {name: RECIPE["corpus"][name] for name in ("source", "options")}},
        ["corpus"],
    ),
    "generators": ({"queries": RECIPE["queries"]}, ["queries"]),
    "retrievers": ({"negatives": RECIPE["negatives"]}, ["negatives"]),
    "teachers": ({"teacher": RECIPE["teacher"]}, ["scores"]),
    "losses": ({"loss": RECIPE["loss"]}, ["model"]),
    "indexes": ({"index": RECIPE["index"]}, ["model", "evaluation"]),
    "metrics": ({"evaluation": {"metrics": RECIPE["evaluation"]["metrics"]}}, ["evaluation"]),
    "systems": ({"evaluation": {"systems": RECIPE["evaluation"]["systems"]}}, []),
    # A metric that chooses the checkpoint belongs to the model.
    "metrics that choose": (
        {
            "evaluation": {"metrics": RECIPE["evaluation"]["metrics"]},
            "training": {"metric_for_best_model": METRIC},
        },
        ["model", "evaluation"],
    ),
    # An index for mining alone.
    "mining": ({"negatives": {"index": RECIPE["index"]}}, ["negatives"]),
}
#: The files of those that are not of their kind's name.
FILE = {"mining": "indexes", "metrics that choose": "metrics", "generators": "words"}


@pytest.mark.parametrize("kind", ALONE)
def test_a_change_is_in_the_plans_of_the_steps_that_use_it(
    runs: Runs, edit: Callable[..., None], kind: str
) -> None:
    sections, steps = ALONE[kind]
    whole = runs["whole"]
    given = {f"{s}.{key}": v for s, section in sections.items() for key, v in section.items()}
    left = {k: v for k, v in whole.keys.items() if kind != "sources" or "corpus" not in k}
    (whole.root / "faq.json").write_text('{"p": ["", "a text"]}')
    before = plans(whole.root, {**left, **given})
    edit(
        "acme_search/words.py" if kind == "generators" else f"acme_search/{FILE.get(kind, kind)}.py"
    )
    after = plans(whole.root, {**left, **given})
    assert [step for step in EVERY_STEP if before[step] != after[step]] == steps


def test_a_systems_rankings_are_of_its_code_and_options(
    runs: Runs, edit: Callable[..., None]
) -> None:
    whole = runs["whole"]

    def identity(**more: Any) -> str:
        *others, system = RECIPE["evaluation"]["systems"]
        keys = {**whole.keys, "evaluation.systems": [*others, {**system, **more}]}
        with chdir(whole.root):
            pipeline = Pipeline(recipe_of(keys))
            return Systems(pipeline, pipeline.recipe.evaluation.systems, [])["in turns"].identity()

    before = identity()
    assert identity() == before != identity(options={"a": 1})
    edit("acme_search/systems.py")
    assert identity() != before


def test_a_process_with_other_code_than_the_first_is_refused(runs: Runs, folder: Path) -> None:
    whole = runs["whole"]
    keys = {**whole.keys, **{f"loss.{key}": value for key, value in RECIPE["loss"].items()}}
    with chdir(whole.root):
        components = Pipeline(recipe_of(keys)).components
    with chdir(whole.root), patch("tercet.modeling.from_first_process", lambda work: "other code"):
        with pytest.raises(InputError, match=r"plug-in acme_search.losses:huber: this process has"):
            components.identities_of_plugins([RECIPE["loss"]["kind"]])


@pytest.mark.slow
def test_a_forecast_times_the_plugins(acme: Run) -> None:
    with chdir(acme.root), quick():
        assert isinstance(estimate(Pipeline(recipe_of(acme.keys))), Forecast)


@pytest.mark.slow
def test_two_processes_make_what_one_makes(acme: Run, folder: Path) -> None:
    with copied(acme) as root:
        (root / "two.yaml").write_text("")
        options = [f"--{key}={json.dumps(value)}" for key, value in acme.keys.items()]
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"]
        launch += ["--config_file", str(ROOT / "accelerate_config.yaml")]
        subprocess.run(
            [*launch, str(ROOT / "train.py"), "two.yaml", "--name=two", "--until=scores", *options],
            cwd=root,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": _path(folder)},
            check=True,
            timeout=600,
        )
        for step in ("corpus", "queries", "negatives", "scores"):
            one, two = artifact(acme, step).manifest, existing(root / "runs/two" / step)
            assert two and two.manifest["plan"] == one["plan"]
            assert two.manifest["files"] == one["files"]


def _path(folder: Path) -> str:
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def test_the_guide_names_every_group_and_key() -> None:
    text = GUIDE.read_text()
    keys: Mapping[str, str] = dict(re.findall(r"^\| (\w+) \| `([\w.]+)`", text, re.MULTILINE))
    assert set(keys) == {
        *("loss", "generator", "teacher", "retriever", "index", "source", "system", "metric")
    }
