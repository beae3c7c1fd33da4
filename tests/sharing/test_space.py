"""A run's Space: a folder that starts from its own requirements, searches, and harms nobody."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hub_server import Hub, serve
from huggingface_hub import constants, hf_api
from recipes import tiny_recipe

from tercet.config.loading import load_recipe
from tercet.core.files import write_json
from tercet.evaluation.results import Cell, Figure, IndexFacts, Margins, Pair, Results, SystemFacts
from tercet.modeling.hub import files_of
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.report import write_report
from tercet.reports.run_report import run_report
from tercet.sharing import space
from tercet.sharing.model_card import write_card

pytest.importorskip("gradio")
pytest.importorskip("langchain_core")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOKEN = "hf_canary" + "5Wd" * 9
HOSTILE = (
    "</script><script>window.canary=1</script><img src=x onerror=window.canary=1>"
    "<b class=planted>bold</b> &lt; {{7*7}} ${window.canary=1} \\`$$x$$ [a](javascript:window.b)"
)
# A subprocess in which there is no Tercet, whatever is installed.
ALONE = """
import runpy, sys
class NoTercet:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tercet":
            raise ImportError("there is no tercet here")
sys.meta_path.insert(0, NoTercet())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Path:
    """The recipe of a finished run, with report and card; a third of its texts are hostile."""
    folder = tmp_path_factory.mktemp("space")
    corpus = folder / "corpus"
    shutil.copytree(tiny_beir_path, corpus)
    for file, field in (("corpus", "title"), ("queries", "text")):
        rows = [json.loads(line) for line in (corpus / f"{file}.jsonl").open()]
        for row in rows[::3]:
            row[field] += HOSTILE
            row["text"] += " words that go on and on" * 20 if field == "title" else ""
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (corpus / f"{file}.jsonl").write_text(lines)
    path = tiny_recipe(
        folder,
        corpus=corpus,
        teacher={"name": tiny_cross_encoder_path, "student_weight": 0.5},
        model=tiny_encoder_path,
        training={"num_train_epochs": 1, "learning_rate": 1e-2},
        evaluation={"interpolation_steps": 1},
    )
    pipeline = Pipeline(load_recipe(path))
    report = run_report(pipeline)
    write_report(report, pipeline.recipe.folder)
    write_card(pipeline, report, ["python", str(ROOT / "train.py"), str(path)])
    return path


def evaluated(recipe: Path) -> None:
    """What eval.py leaves, made up: with this machine's paths wherever it may have them."""
    run, section = load_recipe(recipe), load_recipe(recipe).model
    means = {"base": 0.5, "adapted": 0.6}
    results = Results(
        title=f"tiny: 2 systems {HOSTILE}",
        command=f"python {ROOT}/eval.py {recipe} --corpus.path {run.corpus.path}",
        finished="2026-01-01 00:00:00 +0000",
        corpus=run.corpus.label,
        passages=60,
        queries=12,
        queries_are="12 judged queries",
        primary="ndcg@10",
        measures=["ndcg@10"],
        baseline="base",
        systems=[SystemFacts(name, name, f"{section.name}, as it is") for name in means],
        indexes=[IndexFacts("exact", "every query against every passage")],
        cells=[
            Cell(name, "exact", {"ndcg@10": Figure(mean, mean - 0.1, mean + 0.1)})
            for name, mean in means.items()
        ],
        pairs=[Pair("adapted", "base", 0.1, 0.01, 0.2, 0.01, 0.01, 0.05, 6, 2, 4)],
        slices=[],
        changes=[],
        notes=[f"read from {run.corpus.path}"],
        margins=Margins([0.0, 0.1, 0.2], [3, 4], [5, 6], 0.1),
        settings={"corpus.path": run.corpus.path},
    )
    (run.folder / "results").mkdir(exist_ok=True)
    write_json(run.folder / "results" / "metrics.json", asdict(results))


def made(recipe: Path, *options: str) -> str | int | None:
    """Run scripts/make_space.py in this process; what it exits with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_space.py", str(recipe), *options])
        try:
            runpy.run_path(str(ROOT / "scripts" / "make_space.py"), run_name="__main__")
        except SystemExit as end:
            return end.code
    return 0


@pytest.fixture(scope="module")
def folder(recipe: Path) -> Path:
    """The run's Space, away from the run."""
    evaluated(recipe)
    out = recipe.parent / "elsewhere" / "a space"
    assert made(recipe, "--out", str(out)) == 0
    return out


@contextmanager
def started(folder: Path, python: str = sys.executable) -> Iterator[str]:
    """Where `python app.py` answers, whatever the environment would rather have."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SHARE": "True"}
    environment |= {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ANALYTICS_ENABLED": "True"}
    environment.pop("SPACE_ID", None)
    log = (folder.parent / "app.log").open("w+")
    command = [python, "-c", ALONE, "app.py"] if python == sys.executable else [python, "app.py"]
    app = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert app.poll() is None, (folder.parent / "app.log").read_text()
            try:
                if httpx.get(address, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        else:
            raise AssertionError((folder.parent / "app.log").read_text())
        yield address
    finally:
        app.terminate()
        app.wait(180)
        log.close()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where the Space answers."""
    with started(folder) as address:
        yield address


def ask(address: str, query: str, k: int) -> list[dict[str, Any]]:
    """A search by the page's API, as any program would make it."""
    call = f"{address}/gradio_api/call/search"
    event = httpx.post(call, json={"data": [query, k]}, timeout=30).json()["event_id"]
    lines = httpx.get(f"{call}/{event}", timeout=60).text.splitlines()
    assert lines[0] == "event: complete", lines
    (found,) = json.loads(lines[1].removeprefix("data: "))
    return list(found)


def expected(folder: Path) -> list[tuple[str, list[tuple[str, float]]]]:
    """What the retriever's file keeps of the run."""
    for node in ast.parse((folder / "retriever.py").read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "EXPECTED":
            assert node.value
            return list(ast.literal_eval(node.value))
    raise AssertionError("no EXPECTED")


def check_answers(address: str, folder: Path) -> None:
    for query, ranking in expected(folder)[:3]:
        found = ask(address, query, len(ranking))
        assert [hit["score"] for hit in found] == pytest.approx([s for _, s in ranking], abs=1e-4)
        assert {hit["id"] for hit in found[:5]} <= {id for id, _ in ranking}


def test_it_finds_what_the_run_found_and_listens_to_this_machine_alone(
    folder: Path, address: str, recipe: Path
) -> None:
    check_answers(address, folder)
    rows = map(json.loads, (recipe.parent / "corpus" / "corpus.jsonl").open())
    corpus = {row["_id"]: row for row in rows}
    for hit in ask(address, "honey", 999):
        assert (hit["title"], hit["text"]) == (
            corpus[hit["id"]]["title"],
            corpus[hit["id"]]["text"],
        )
    assert len(ask(address, "honey", 999)) == 50 and len(ask(address, "honey", -1)) == 1
    assert ask(address, "  ", 5) == []
    port = int(address.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]
    for name in ("retriever.py", "model/config.json", str(folder / "retriever.py")):
        assert httpx.get(f"{address}/gradio_api/file={name}").status_code in (403, 404)
    log = (folder.parent / "app.log").read_text()
    assert "gradio.live" not in log and "share" not in log.lower().replace("share=true", "")


def test_its_requirements_are_what_it_imports_at_the_versions_that_are_here(folder: Path) -> None:
    lines = (folder / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line[:1].isalpha())
    modules = {
        name.partition(".")[0]
        for file in ("app.py", "retriever.py")
        for node in ast.walk(ast.parse((folder / file).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }
    provided = importlib.metadata.packages_distributions()
    third = modules - sys.stdlib_module_names - {"retriever"}
    # `langchain_core` is langchain-core's; an index knows both names for one.
    assert {provided[name][0].replace("_", "-") for name in third} == {
        name.replace("_", "-") for name in pins
    }
    for name, version in pins.items():
        assert importlib.metadata.version(name).partition("+")[0] == version
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert front["sdk"] == "gradio" and front["sdk_version"] == pins["gradio"]
    assert (folder / front["app_file"]).is_file()
    assert front["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (
        set(
            front["colorFrom"],
        )
        and front["emoji"] == "🔎"
        and front["title"] == "tiny"
    )


def test_it_is_whole_and_says_nothing_of_this_machine(folder: Path, recipe: Path) -> None:
    assert {path.name for path in folder.iterdir()} - space.LEFT == space.OURS
    places = [str(recipe.parent), str(ROOT), str(Path.home()) + "/", "/tmp/"]
    for file in files_of(folder).values():
        held = [place for place in places if place.encode() in file.read_bytes()]
        assert not held or "__pycache__" in file.parts, f"{file} holds {held}"
    moved = shutil.copytree(folder, folder.parent / "moved")
    tested = subprocess.run(
        [sys.executable, str(moved / "retriever.py"), "--self-test"],
        capture_output=True,
        text=True,
        cwd=recipe.parent,  # whatever is there, its model lies beside it
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    about = (folder / "README.md").read_text()
    assert "## Limits" in about and "PATH-OR-HUB-NAME" not in about
    report = json.loads((recipe.parent / "runs/tiny/metrics.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    assert results["comparisons"] == report["comparisons"] and results["passages"] == 60


SHOWN = """
import app
results = {"run": "r", "model": "m", "passages": 2, "notes": [], "comparisons": [
    {"measure": "mrr@10", "before": .5, "after": .5,
     "interval": {"low": 0, "high": 0, "difference": 0}}]}
for shipped in ("base", "trained"):
    given = results | {"shipped": shipped}
    found = app._head(given) + app.comparison(given)
    print("adapted" in found, found.count("0.5000"), "searched by m, unchanged." in found)
"""


def test_a_base_model_that_ships_is_not_called_adapted(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text())
    assert results["shipped"] in ("base", "mixture", "trained")
    command = [sys.executable, "-c", SHOWN]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert shown.stdout.splitlines() == ["False 1 True", "True 2 False"], shown.stderr


SIZES = {"laptop": (1280, 800), "phone": (390, 844)}


@pytest.mark.parametrize("size", SIZES)
def test_texts_are_shown_as_they_are_and_the_page_fits(
    browser: Any, address: str, size: str
) -> None:
    width, height = SIZES[size]
    opened = browser.new_page(viewport={"width": width, "height": height})
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))

    def check() -> None:
        wider = "document.documentElement.scrollWidth - window.innerWidth"
        assert opened.evaluate(wider) == 0
        assert opened.evaluate("window.canary") is None
        assert opened.locator(".planted, img[src=x]").count() == 0

    opened.goto(address)
    opened.get_by_label("Question").fill(f"honey {HOSTILE}")
    opened.get_by_label("Passages").fill("50")
    opened.get_by_label("Question").press("Enter")
    opened.locator(".found > li").nth(49).wait_for()
    assert HOSTILE in " ".join(opened.locator(".found").inner_text().split())
    opened.locator(".found summary").first.click()
    check()
    opened.get_by_role("tab", name="Results").click()
    assert opened.locator(".figures tbody tr").count() >= 4
    plot = opened.frame_locator("iframe.report").locator("[data-plot=margins] .main-svg")
    plot.first.wait_for()
    assert opened.locator("iframe.report").get_attribute("sandbox") == "allow-scripts"
    check()
    opened.get_by_role("tab", name="About").click()
    opened.get_by_role("heading", name="Limits").wait_for()
    check()
    opened.close()
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()


def test_what_cannot_be_a_space_is_refused_in_a_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    api = ["--model.api=cohere", "--model.train=query_adapter"]
    api += [
        "--model.precision=auto",
        "--model.max_length=null",
        "--model.passage_vectors=x.parquet",
    ]
    for options, message in (
        (api, "behind cohere's API"),
        (["--name=never"], "run never is not finished"),
        (["--public"], "give --push you/name too"),
        (["--revision=v1"], "give --hub NAME too"),
    ):
        assert made(recipe, "--out", str(tmp_path / "new"), *options) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("years of work")
    assert made(recipe, "--out", str(tmp_path / "theirs")) == 2
    assert "thesis.txt is no part of a Space" in capsys.readouterr().err
    monkeypatch.setattr(space, "LARGEST", 30_000)
    assert made(recipe, "--out", str(tmp_path / "new")) == 2
    assert re.search(r"would have [\d.]+ [kM]B \(passages .*--large", capsys.readouterr().err)
    assert [path.name for path in tmp_path.rglob("*")] == ["theirs", "thesis.txt"]
    assert made(recipe, "--out", str(tmp_path / "new"), "--large") == 0


def test_an_evaluation_of_an_earlier_model_is_left_out(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(recipe)
    os.utime(recipe.parent / "runs/tiny/results/metrics.json", (1, 1))
    assert made(recipe, "--out", str(tmp_path / "s"), "--hub=you/x", "--revision=v2") == 0
    assert "older than the model" in capsys.readouterr().out
    there = {path.name for path in (tmp_path / "s").iterdir()}
    assert there == space.OURS - {space.REPORT, space.MODEL}
    front = yaml.safe_load((tmp_path / "s/README.md").read_text().split("---\n")[1])
    assert front["models"] == ["you/x"]
    assert 'MODEL = "you/x"' in (tmp_path / "s/retriever.py").read_text()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that this process takes for the Hub."""
    with serve(TOKEN) as hub:
        monkeypatch.setattr(hf_api.api, "endpoint", hub.address)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_it_is_pushed_whole_private_unless_told_and_cleared_of_what_it_was(
    recipe: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(recipe)
    out = tmp_path / "s"
    assert made(recipe, f"--out={out}", "--push", "you/find") == 0
    assert f"pushed {hub.address}/spaces/you/find/commit/" in capsys.readouterr().out
    assert hub.private == {"spaces/you/find": True}
    here = {name: file.read_bytes() for name, file in files_of(out).items()}
    assert hub.commits["spaces/you/find"][-1].files == here
    os.utime(recipe.parent / "runs/tiny/results/metrics.json", (1, 1))
    # The model comes from the Hub now, and there is no evaluation of it: neither stays behind.
    assert made(recipe, f"--out={out}", "--push=you/find", "--hub=you/model") == 0
    assert set(hub.commits["spaces/you/find"][-1].files) == set(files_of(out))
    assert made(recipe, f"--out={out}", "--push=you/open", "--public") == 0
    assert hub.private["spaces/you/open"] is False
    assert not [f for f in files_of(tmp_path).values() if TOKEN.encode() in f.read_bytes()]


if os.environ.get("TERCET_FRESH_VENV"):  # some gigabytes: asked for, and not part of any other run

    def test_it_starts_in_an_environment_of_its_own_requirements(
        folder: Path, tmp_path: Path
    ) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
        python = str(tmp_path / "venv" / "bin" / "python")
        install = [python, "-m", "pip", "install", "-q", "-r", str(folder / "requirements.txt")]
        subprocess.run(install, check=True)
        tested = subprocess.run([python, "retriever.py", "--self-test"], cwd=folder)
        assert tested.returncode == 0
        with started(folder, python) as address:
            check_answers(address, folder)
