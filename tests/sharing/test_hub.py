"""A run that is shared: its card, its model and its lists, as strangers find them on the Hub."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from hub_server import Commit, Hub, serve
from huggingface_hub import ModelCard, constants, hf_api
from markdown_it import MarkdownIt
from recipes import tiny_recipe
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers.utils.hub import hf_api as transformers_api

from tercet.config.loading import load_recipe
from tercet.core.artifacts import existing, only_existing
from tercet.core.schema import InputError
from tercet.data import SpanGenerator
from tercet.modeling import AdaptedEncoder, BiEncoder
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.steps.model import training_set
from tercet.reports.markdown import code, escape, shown, table
from tercet.reports.run_report import run_report
from tercet.sharing.hub import push_model
from tercet.sharing.model_card import inherited_licence, shown_command, write_card
from tercet.sharing.retriever import export_retriever
from tercet.sharing.snippets import ANY_NAME, snippets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOKEN = "hf_canary" + "9Zk" * 9
HOSTILE = "a|b `c` ``d <img src=x onerror=alert(1)> [e](javascript:f) *g* &lt;"
QUESTIONS = ["how does the lighthouse use its lantern", "wax and honey of the beehive"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that this process's libraries take for theirs."""
    with serve(TOKEN) as hub:
        for api in (hf_api.api, transformers_api()):
            monkeypatch.setattr(api, "endpoint", hub.address)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Path:
    """A small run whose corpus and base model have names as nobody wishes for."""
    folder = tmp_path_factory.mktemp("sharing")
    corpus = shutil.copytree(tiny_beir_path, folder / f"corpus {HOSTILE}")
    base = shutil.copytree(tiny_encoder_path, folder / f"base {HOSTILE}")
    (base / "README.md").write_text("---\nlicense: cc-by-4.0\nlanguage: en\n---\n\n# Base\n")
    return tiny_recipe(
        folder,
        corpus=corpus,
        teacher={"name": tiny_cross_encoder_path, "student_weight": 0.5},
        model={"name": base, "query_prompt": 'query: "x" '},
        training={"learning_rate": 1e-3},
        evaluation={"interpolation_steps": 1},
    )


def ran(recipe: Path, *options: str) -> Pipeline:
    """A whole run, as train.py makes it."""
    pipeline = Pipeline(load_recipe(recipe, options))
    write_card(
        pipeline, run_report(pipeline), ["python", str(ROOT / "train.py"), str(recipe), *options]
    )
    return pipeline


@pytest.fixture(scope="module")
def run(recipe: Path) -> Iterator[Pipeline]:
    """A finished run, whose first queries were written by somebody with bad intent."""
    with pytest.MonkeyPatch.context() as patch:
        honest = SpanGenerator._draw

        def draw(self: Any, passage: Any, count: int, seed: int) -> list[str]:
            if passage.id < "p03":
                return [f"{passage.id} </code>\n# {HOSTILE}\n```\n<script>alert(1)</script>"]
            return honest(self, passage, count, seed)

        patch.setattr(SpanGenerator, "_draw", draw)
        yield ran(recipe)


def card_of(run: Pipeline) -> str:
    return (run.recipe.folder / "README.md").read_text()


def by_the_card(text: str, folder: Path, texts: Sequence[str], prompt: str) -> np.ndarray:
    """Vectors by the code for transformers that a card shows, of a model that lies in `folder`."""
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shown = next(block for block in blocks if "AutoModel" in block)
    shown = re.sub(rf'"({ANY_NAME}|(you|me)/[\w-]+)"', repr(str(folder)), shown)
    shown = shown.replace("huggingface_hub import hf_hub_download", "os.path import join as get")
    found: dict[str, Any] = {}
    exec(shown.replace("hf_hub_download", "get"), found)
    return np.asarray(found["encode"](list(texts), prompt))


def check_is_a_model(folder: Path, text: str) -> np.ndarray:
    """Vectors of queries by the model in `folder`, the same by three libraries."""
    encoder = BiEncoder.from_pretrained(folder, precision="fp32", device="cpu")
    ours = encoder.encode_queries(QUESTIONS)
    model = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(model.encode_query(QUESTIONS), ours, atol=1e-5)
    by_hand = by_the_card(text, folder, QUESTIONS, encoder.config.query_prompt)
    np.testing.assert_allclose(by_hand, ours, atol=1e-5)
    return ours


def test_the_card_says_what_the_run_came_to(run: Pipeline, recipe: Path) -> None:
    text = card_of(run)
    front = ModelCard(text).data.to_dict()
    assert front["license"] == "cc-by-4.0" and "base_model" not in front
    assert front["library_name"] == "sentence-transformers"
    report = run_report(run)
    assert escape(report.verdict.text) in text.splitlines()
    base_ships = report.verdict.shipped == "base"
    for c in report.comparisons:
        compared = f" | {c.after:.4f} | {c.interval.difference:+.4f} | ["
        assert f"| {c.measure} | {c.before:.4f}{' |' if base_ships else compared}" in text
    worse = [c.measure for c in report.comparisons if c.interval.difference < 0]
    lower = f"Lower than the base model, significantly or not: {', '.join(worse) or 'no metric'}."
    assert (lower in text) != base_ships
    assert "evaluated on 12 judged queries" in text and "guard: " in text
    assert "python train.py tiny.yaml" in text and "cc-by-4.0" in text
    # No path of this machine, whole or in part, and no name of a user.
    assert str(recipe.parent) not in text and recipe.parent.name not in text
    assert "/tmp" not in text and str(Path.home()) + "/" not in text


def test_no_text_of_the_corpus_or_the_recipe_is_markup(run: Pipeline) -> None:
    html = MarkdownIt().enable("table").render(card_of(run).split("---\n", 2)[2])
    assert "alert(1)" in html
    assert not re.search(r"<(script|img|a) |<(script|img|a)>|<em>", html)
    assert "javascript:f" in html and "href" not in html
    assert html.count("<h1>") == 1 and html.count("<pre>") == 5


def test_equal_runs_have_equal_cards_and_the_model_stays_whole(run: Pipeline, recipe: Path) -> None:
    before = card_of(run)
    with only_existing():
        again = ran(recipe)
    assert card_of(again) == before
    again.model.verify()


@pytest.mark.parametrize(
    "text",
    ["plain", HOSTILE, "`", "``x", "a\\|b", "</table>\n\n# x", "\u202eabc", "www.x.org http://x"],
)
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    lines = ["- " + code(text), "", *table(("a", "b"), [(escape(text), "2")])]
    tokens = MarkdownIt().enable("table").parse("\n".join(lines))
    line = " ".join(text.replace("\u202e", "").split())
    span, *cells = (t for t in tokens if t.type == "inline")
    assert span.children and [(c.type, c.content) for c in span.children] == [("code_inline", line)]
    assert len(cells) == 4, "no text makes a cell of its own"
    inner = cells[2].children or []
    assert {c.type for c in inner} <= {"text", "text_special"}
    assert "".join(c.content for c in inner) == line


def test_of_paths_the_last_part_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine/model").mkdir(parents=True)
    assert shown("org/name") == "org/name" and shown("name") == "name"
    assert shown("mine/model") == "model" and shown(f"{tmp_path}/mine/") == "mine"
    assert shown("./a/b") == shown("~/b") == shown("a/x/b") == shown("C:\\a\\b") == "b"
    command = [
        "python",
        "/opt/train.py",
        "/home/me/r.yaml",
        "--corpus.path=/home/me/corp",
        "--name",
        "x y",
    ]
    assert shown_command(command) == "python train.py r.yaml --corpus.path=corp --name 'x y'"


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: mit", {"license": "mit"}),
        (
            "license: other\nlicense_name: own\nlicense_link: LICENSE",
            {"license": "other", "license_name": "own"},
        ),
        ("license: [mit, bsd]", {}),
        ("license: {", {}),
        ("language: en", {}),
    ],
)
def test_the_licence_is_the_base_cards(tmp_path: Path, front: str, licence: dict[str, str]) -> None:
    assert inherited_licence(tmp_path) == {}
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# x\n")
    assert inherited_licence(tmp_path) == licence


def pushed(recipe: Path, *options: str) -> str | int | None:
    """Run scripts/push.py in this process; what it exits with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["push.py", str(recipe), *options])
        try:
            runpy.run_path(str(ROOT / "scripts" / "push.py"), run_name="__main__")
        except SystemExit as end:
            return end.code
    return 0


def test_what_is_pushed_is_the_model_with_its_card_and_the_lists_it_learnt_from(
    run: Pipeline, recipe: Path, hub: Hub, tmp_path: Path
) -> None:
    assert pushed(recipe, "--repo", "you/tiny-x", "--datasets") == 0
    assert hub.private == {"you/tiny-x": True, "datasets/you/tiny-x-triplets": True}
    (commit,) = hub.commits["you/tiny-x"]
    arrived, text = commit.write(tmp_path / "model"), commit.files["README.md"].decode()
    assert ANY_NAME not in text and 'SentenceTransformer("you/tiny-x")' in text
    assert not [name for name in commit.files if name.endswith((".arrow", "history.json"))]
    local = check_is_a_model(run.model.path, card_of(run))
    np.testing.assert_array_equal(check_is_a_model(arrived, text), local)

    (commit,) = hub.commits["datasets/you/tiny-x-triplets"]
    folder = str(commit.write(tmp_path / "data"))
    cache = str(tmp_path / "cache")
    triplets = load_dataset(folder, "triplets", split="train", cache_dir=cache)
    assert triplets.column_names == ["query", "positive", "negative", "label"]
    drawn = list(training_set(run.inputs("model")).rows())
    texts = dict(zip(run.passages.ids, run.passages.contents, strict=True))
    assert triplets[:]["negative"] == [texts[row["negative"]] for row in drawn]
    margins = [row["positive_score"] - row["negative_score"] for row in drawn]
    np.testing.assert_allclose(triplets[:]["label"], margins, rtol=1e-5, atol=1e-5)
    scores = load_dataset(folder, "scores", split="train", cache_dir=cache)
    lists = run.triplets.dataset("lists")
    assert scores[:]["passages"] == lists[:]["passages"]
    assert scores[:]["target"] == run.targets.dataset("targets")[:]["target"]
    passages = load_dataset(folder, "passages", split="train", cache_dir=cache)
    listed = {id for ids in lists[:]["passages"] for id in ids}
    assert dict(zip(passages[:]["id"], passages[:]["text"], strict=True)) == {
        id: texts[id] for id in listed
    }
    # Equal bytes another time: nothing to commit.
    assert pushed(recipe, "--repo=you/tiny-x", "--datasets") == 0
    assert {len(hub.commits[name]) for name in hub.private} == {1}
    secret = TOKEN.encode()
    assert not any(secret in f.read_bytes() for f in recipe.parent.rglob("*") if f.is_file())


def test_a_retriever_loads_the_model_that_was_pushed_as_it_was_at_a_commit(
    run: Pipeline, recipe: Path, hub: Hub, tmp_path: Path
) -> None:
    pytest.importorskip("langchain_core")
    assert pushed(recipe, "--repo", "you/tiny") == 0
    # What comes later is another model: the commit is what it was.
    later = hub.commits["you/tiny"][0].files | {"model.safetensors": b"another model"}
    hub.commits["you/tiny"].append(Commit("later", later))
    out, commit = tmp_path / "retriever.py", f"{1:040}"
    export_retriever(run.recipe, out, hub="you/tiny", revision=commit)
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, str(out), "--self-test"]
    tested = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    (snapshot,) = tmp_path.glob("hf/hub/models--you--tiny/snapshots/*")
    assert snapshot.name == commit and not list(snapshot.glob("*.py"))


def test_what_is_not_finished_or_not_allowed_is_refused_in_a_line(
    run: Pipeline,
    recipe: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pushed(recipe, "--name=other") == 2
    assert "does not exist yet" in capsys.readouterr().err
    assert pushed(recipe, "--repo", "not a name/x/y") == 2
    card = run.recipe.folder / "README.md"
    with monkeypatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_wrong")
        assert pushed(recipe, "--repo", "you/tiny") == 2
        error = capsys.readouterr().err
        assert "log in with `hf auth login`" in error and "hf_wrong" not in error
    text = card.read_text()
    model = existing(run.model.path)
    assert model
    card.write_text(text.replace(model.digest[:16], "0" * 16))
    assert pushed(recipe, "--repo", "you/tiny") == 2
    assert "is not the card of" in capsys.readouterr().err
    card.write_text(text)
    assert not hub.commits


@pytest.fixture(scope="module")
def foreign(recipe: Path, run: Pipeline) -> Path:
    """A Parquet of vectors of 24 dimensions, that another model made."""
    path = recipe.parent / "foreign.parquet"
    rows = np.random.default_rng(3).standard_normal((len(run.passages), 24)).astype(np.float32)
    column = pa.array(rows.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": list(run.passages.ids), "vector": column}), path)
    return path


@pytest.mark.parametrize("kind", ["projected", "adapter", "lora"])
def test_every_push_of_whatever_learns_is_a_model(
    recipe: Path, foreign: Path, hub: Hub, kind: str, tmp_path: Path
) -> None:
    options = {
        "projected": [f"--model.passage_vectors={foreign}", "--model.train=query_encoder"],
        "adapter": ["--model.train=query_adapter", "--training.hub_strategy=checkpoint"],
        "lora": ["--model.lora_rank=2"],
    }[kind]
    options += ["--training.push_to_hub=true", "--training.hub_model_id=me/tiny"]
    options += ["--training.hub_always_push=true", "--training.learning_rate=0.05"]
    options += ["--training.num_train_epochs=2", f"--name={kind}"]
    run = ran(recipe, *options)
    push_model(run.recipe, private=None)
    commits, config = hub.commits["me/tiny"], run.recipe
    assert [c.message for c in commits[:2]] == [f"Training in progress, epoch {i}" for i in (1, 2)]
    pushes = [c.write(tmp_path / f"push-{i}") for i, c in enumerate(commits)]
    vectors = [check_is_a_model(p, "\n".join(snippets(p, config))) for p in pushes]
    assert np.abs(vectors[1] - vectors[0]).max() > 1e-4
    shipped = check_is_a_model(run.model.path, card_of(run))
    np.testing.assert_allclose(vectors[-1], shipped, atol=1e-6)
    assert b"base_model" not in commits[-1].files["README.md"]
    assert not {name for c in commits for name in c.files if "adapter_" in name and "/" not in name}
    if kind != "lora":
        assert "space.safetensors" in commits[-1].files
    place = str(recipe.parent).encode()
    roots = {n: data for n, data in commits[-1].files.items() if not n.startswith("last-")}
    assert not [name for name, data in roots.items() if place in data]
    if kind == "adapter":
        last = max(commits[1].files, key=lambda name: name.startswith("last-checkpoint/model"))
        (tmp_path / "weights").write_bytes(commits[1].files[last])
        encoder = run.starting_model
        adapted = AdaptedEncoder.fresh(encoder, run.recipe.model.adapter_rank, seed=0)
        adapted.adapter.load_state_dict(load_file(tmp_path / "weights"))
        with torch.inference_mode():
            np.testing.assert_allclose(adapted.encode_queries(QUESTIONS), vectors[1], atol=1e-5)


def test_a_repository_that_held_another_kind_of_model_is_cleared_of_what_misleads(
    run: Pipeline, hub: Hub
) -> None:
    misleading = {"adapter.json", "3_Dense/config.json", "space.safetensors"}
    others = {"kept/3_Dense/x", "notes.txt"}
    hub.commits["me/tiny"] = [Commit("before", dict.fromkeys(misleading | others, b"{}"))]
    training = run.recipe.training | {"hub_model_id": "me/tiny"}
    push_model(replace(run.recipe, training=training), private=None)
    there = set(hub.commits["me/tiny"][-1].files)
    assert others < there and not misleading & there


def test_without_the_right_to_write_the_library_says_so(run: Pipeline, hub: Hub) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="HF_TOKEN"):
        patch.setenv("HF_TOKEN", "hf_wrong")
        run.adapted_model().push_to_hub("me/tiny")
