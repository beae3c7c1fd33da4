"""The studio in a real browser, over real runs: every tab, and nothing asked of another host."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import MODEL, serve

from tercet.studio.runs import stop

pytest.importorskip("gradio")
ROOT = Path(__file__).parents[2]
SCRIPT = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
TEMPLATE = "${document.title = 'taken'} {{value}} {{#each value}}taken{{/each}}"
KEY = "co-canary-5d1e"
WAIT = 60_000  # ms


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_causal_path: Path,
) -> Iterator[Path]:
    """A checkout with a recipe of its own, a corpus whose first passage is a script, and a run."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("app.py", "train.py", "eval.py"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(tiny_beir_path, folder / "corpus")
    passages = (folder / "corpus" / "corpus.jsonl").read_text().splitlines()
    first = json.loads(passages[0])
    passages[0] = json.dumps(
        first | {"title": SCRIPT, "text": f"{SCRIPT} {TEMPLATE} {first['text']}"}
    )
    (folder / "corpus" / "corpus.jsonl").write_text("\n".join(passages) + "\n")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "tiny.yaml").write_text(
        f"""
name: tiny
corpus: {{source: beir, path: corpus}}
queries: {{count: 60, per_passage: 1}}
negatives: {{candidates: 8}}
teacher: {{name: {tiny_cross_encoder_path}, precision: fp32, max_length: 48}}
model: {{name: {tiny_encoder_path}, precision: fp32, max_length: 48}}
triplets: {{negatives_per_query: 3, teacher_weight: 0.5}}
training: {{num_train_epochs: 2, per_device_train_batch_size: 8, bf16: false, learning_rate: 1e-3}}
chat: {{model: {tiny_causal_path}, max_new_tokens: 12, threshold: -1}}
"""
    )
    command = [sys.executable, "train.py", "recipes/tiny.yaml", "--name=before"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    (folder / "runs" / "other").mkdir()  # nothing but its recipe
    shutil.copy(folder / "runs" / "before" / "recipe.yaml", folder / "runs" / "other")
    yield folder
    stop(folder / "runs" / "live")  # it would outlive a test that failed


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    """Where the studio answers; the environment asks for a tunnel and other folders, in vain."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    asked = {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ALLOWED_PATHS": "/"}
    process = subprocess.Popen(
        [sys.executable, "app.py", f"--port={port}"],
        cwd=project,
        env=os.environ | asked | {"COHERE_API_KEY": KEY, "OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.2)
    yield url
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert "Traceback" not in said and KEY not in said, said


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page of the studio; whatever it complains of, or asks of another host, is a failure."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    page, complaints = context.new_page(), []
    page.set_default_timeout(WAIT)
    page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda r: _aborted(r) or complaints.append(f"{r.url} {r.failure}"))
    page.on("request", lambda r: _own(r.url, address) or complaints.append(f"asked {r.url}"))
    page.goto(address)
    page.get_by_role("tab", name="Recipe").wait_for()
    page.wait_for_timeout(3_000)  # a page that has just come chooses the run that changed last
    yield page
    assert page.title() == "Tercet"
    assert complaints == []
    context.close()


def _own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:", "about:"))


def _aborted(request: Any) -> bool:
    """A stream of events that the page itself gave up."""
    return "ERR_ABORTED" in str(request.failure)


def choose(page: Any, label: str | re.Pattern[str], value: str) -> None:
    """A value of a dropdown, by its label."""
    box = page.get_by_label(label, exact=True).first
    box.click()
    box.fill(value)
    page.get_by_role("option", name=value, exact=True).first.click()


def holds(field: Any, value: str) -> None:
    """Wait for a field's value, which comes a moment after its section has opened."""
    deadline = time.monotonic() + WAIT / 1e3
    while field.input_value() != value:
        assert time.monotonic() < deadline, field.input_value()
        time.sleep(0.05)


def seen(page: Any, text: Any) -> Any:
    """The first visible element with a text: other tabs may have it too."""
    return page.get_by_text(text).locator("visible=true").first


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def picture(page: Any, name: str) -> None:
    """Kept where somebody wants to look: TERCET_PICTURES names a folder."""
    folder = os.environ.get("TERCET_PICTURES")
    if folder:
        for size, width in (("laptop", 1280), ("phone", 390)):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(400)
            wide = page.evaluate("document.documentElement.scrollWidth")
            page.screenshot(path=f"{folder}/{name}-{size}.png", full_page=name != "recipe")
            assert wide <= width, f"{name} is {wide} wide on a {size}"
        page.set_viewport_size({"width": 1280, "height": 900})


def test_a_recipe_is_changed_run_stopped_and_gone_on_with(page: Any, project: Path) -> None:
    choose(page, "Recipe", "recipes/tiny.yaml")
    seen(page, "as the recipe has it").wait_for()
    queries = page.get_by_role("button", name="queries", exact=False).first
    queries.click()
    count = page.get_by_label("count", exact=True).first
    holds(count, "60")
    count.fill("-1")
    count.blur()
    seen(page, "must be at least 1").wait_for()
    picture(page, "recipe")
    count.fill("50")
    count.blur()
    seen(page, "--queries.count=50").wait_for()
    name = page.get_by_label(re.compile(r"^\s*name\s+the run")).first
    name.fill("live")
    name.blur()
    page.get_by_role("button", name="training", exact=False).first.click()
    epochs = page.get_by_label("num_train_epochs", exact=True).first
    holds(epochs, "2")
    epochs.fill("300")
    epochs.blur()
    seen(page, "--training.num_train_epochs=300").wait_for()
    page.get_by_role("button", name="Start").click()
    run = project / "runs" / "live"
    page.locator("p.state.running").wait_for()
    curves = run / "training" / "curves.jsonl"
    deadline = time.monotonic() + 120
    while not curves.exists() or len(curves.read_text().splitlines()) < 12:
        assert time.monotonic() < deadline, (run / "studio" / "log.txt").read_text()
        time.sleep(0.3)
    # Not by a locator: the plot is drawn anew while one looks for the element.
    page.wait_for_function("document.querySelector('svg [aria-label*=\"mrr@10, zero-shot\"]')")
    values = page.locator("svg .role-axis-label text").all_text_contents()
    assert len(values) < 60, "figures are an axis, and not a name each"
    seen(page, re.compile(r"step \d+ of")).wait_for()
    loss = page.locator(".vega-embed, .plot-container").locator("visible=true").last
    before = loss.screenshot()
    while loss.screenshot() == before:  # the curve moves on while it trains
        assert time.monotonic() < deadline
        page.wait_for_timeout(200)
    picture(page, "run")
    page.get_by_role("button", name="Stop").click()
    page.locator("p.state.stopped").wait_for()
    steps = max(json.loads(line)["step"] for line in curves.read_text().splitlines())
    page.reload()  # closing the page loses nothing
    tab(page, "Run")
    choose(page, "Run", "live")
    page.locator("p.state.stopped").wait_for()
    page.get_by_role("button", name="Go on").click()
    page.locator("p.state.running").wait_for()
    while max(json.loads(line)["step"] for line in curves.read_text().splitlines()) <= steps:
        assert time.monotonic() < deadline + 120, (run / "studio" / "log.txt").read_text()
        time.sleep(0.3)
    assert "resumed from checkpoint-" in (run / "studio" / "log.txt").read_text()
    page.get_by_role("button", name="Stop").click()
    page.locator("p.state.stopped").wait_for()
    assert KEY not in b"".join(p.read_bytes() for p in run.rglob("*") if p.is_file()).decode(
        "latin1"
    )


def test_data_is_browsed_and_a_script_is_text(page: Any) -> None:
    choose(page, "Run", "before")
    tab(page, "Data")
    choose(page, "Show", "passages")
    seen(page, "document.title").wait_for()
    page.get_by_label("That hold").fill("onerror")
    page.get_by_label("That hold").press("Enter")
    seen(page, "1 to 1 of 1").wait_for()
    seen(page, "p00").click()
    page.locator("article.first").get_by_text(TEMPLATE).first.wait_for()
    assert page.locator("article script, article img, td img, td script").count() == 0
    page.get_by_label("That hold").fill("")
    kind = page.get_by_label("Show", exact=True).first
    kind.fill("candidates with")
    kind.press("Enter")  # without a mouse
    seen(page, "own passage's rank, teacher").wait_for()
    page.locator(".rows tbody tr").locator("visible=true").last.click()
    seen(page, re.compile(r"teacher -?\d.*model .*target")).wait_for()
    picture(page, "data")


def test_results_in_a_table_a_csv_and_a_retriever(page: Any, project: Path, tmp_path: Path) -> None:
    choose(page, "Run", "before")
    tab(page, "Results")
    seen(page, "ndcg@10").wait_for()
    with page.expect_download() as coming:
        page.get_by_role("button", name="Download CSV").click()
    rows = [*csv.DictReader(Path(coming.value.path()).open(newline=""))]
    (row,) = [row for row in rows if row["run"] == "before"]
    assert row["queries.count"] == "60" and 0 <= float(row["ndcg@10 adapted"]) <= 1
    names = page.locator(".sorts tbody td:first-child").locator("visible=true")
    first = page.locator(".sorts th").locator("visible=true").first
    found = names.all_inner_texts()
    first.click()
    assert names.all_inner_texts() == sorted(found)
    first.click()
    assert names.all_inner_texts() == sorted(found, reverse=True)
    page.get_by_label("Filter the rows").first.fill("BEFORE")
    assert names.all_inner_texts() == ["before"]
    page.get_by_role("button", name="Compare two runs").click()
    choose(page, "first", "before")
    choose(page, "second", "before")
    seen(page, "test queries, paired").wait_for()
    page.get_by_role("button", name="Queries won and lost").click()
    page.get_by_role("button", name="Retriever for LangChain").click()
    page.get_by_role("button", name="Write retriever.py").click()
    seen(page, "requires-python").wait_for()
    page.get_by_role("button", name="Copy").locator("visible=true").last.click()
    page.wait_for_timeout(500)
    path = project / "runs" / "before" / "pasted.py"
    path.write_text(page.evaluate("navigator.clipboard.readText()"))
    assert "class TercetRetriever" in path.read_text()
    picture(page, "results")
    command = [sys.executable, str(path), "--self-test"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr


def test_systems_are_compared_from_the_page_and_their_report_is_shown(
    page: Any, project: Path
) -> None:
    choose(page, "Run", "before")
    tab(page, "Run")
    page.get_by_role("button", name="Compare systems").click()
    page.locator("p.state.running").wait_for()
    page.locator("p.state.finished").wait_for()
    assert (project / "runs" / "before" / "results" / "report.html").exists()
    choose(page, "Run", "other")
    run = page.get_by_label("Run", exact=True).first
    run.fill("nothing")
    run.press("Enter")
    seen(page, "nothing is no run of this project").wait_for()
    tab(page, "Results")
    page.locator(".sorts tbody tr").filter(has_text="before").click()  # a row chooses its run
    page.get_by_role("button", name="Report of the chosen run").click()
    report = page.frame_locator("iframe.report")
    report.get_by_text("BM25").locator("visible=true").first.wait_for()
    picture(page, "report")


def test_votes_become_qrels(page: Any, project: Path) -> None:
    choose(page, "Run", "before")
    tab(page, "Search")
    seen(page, "before: adapted").wait_for()  # the run's own systems are chosen when it is
    choose(page, re.compile("Systems"), "before: BM25")
    page.keyboard.press("Escape")
    page.get_by_label("Query", exact=True).fill("document title script")
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator("h3").nth(2).wait_for()
    seen(page, TEMPLATE).wait_for()
    assert page.locator("article.hit").count() >= 10
    assert page.locator("article script, article img").count() == 0
    page.get_by_role("button", name="relevant", exact=True).first.click()
    qrels = project / "runs" / "before" / "votes" / "qrels" / "test.tsv"
    deadline = time.monotonic() + 30
    while not qrels.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    header, vote = qrels.read_text().splitlines()
    assert header == "query-id\tcorpus-id\tscore" and vote.endswith("\t1")
    page.locator("button.vote[aria-pressed=true]").first.wait_for()
    page.get_by_role("button", name="not relevant", exact=True).first.click()
    while qrels.read_text().splitlines()[1:] != [f"{vote[:-1]}0"]:  # the last vote counts
        assert time.monotonic() < deadline
        time.sleep(0.1)
    picture(page, "search")


def test_the_chat_cites_passages_whose_texts_open(page: Any) -> None:
    choose(page, "Run", "before")
    tab(page, "Chat")
    box = page.get_by_placeholder("a question").locator("visible=true")
    box.fill("what is the lighthouse known for?")
    box.press("Enter")
    cited = page.locator("details.cited")
    cited.first.wait_for()
    assert 1 <= cited.count() <= 4
    cited.first.locator("summary").click()
    cited.first.locator("p").wait_for()
    page.locator(".message.bot, [data-testid=bot]").first.wait_for()
    assert page.locator("details script, .message script, .message img").count() == 0
    picture(page, "chat")


def test_the_chat_shows_what_an_endpoint_says_as_it_comes(page: Any) -> None:
    choose(page, "Run", "before")
    tab(page, "Chat")
    page.get_by_role("button", name="What answers").click()
    with serve(KEY) as api:
        for label, value in (("endpoint", api.address), ("model", MODEL), ("max_new_tokens", "")):
            field = page.get_by_label(re.compile(rf"^\s*{label}\s")).locator("visible=true")
            field.first.fill(value)
        box = page.get_by_placeholder("a question").locator("visible=true")
        box.fill("how is it kept?")
        box.press("Enter")
        said = page.locator("[data-testid=bot]").last
        said.get_by_text("It is", exact=True).wait_for()
        page.locator("details.cited").first.wait_for()
        assert len(api.bodies) == 1 and not api.go_on.is_set()
        box.fill("and how long?")  # the next one is typed meanwhile
        api.go_on.set()
        said.get_by_text("It is kept dry.", exact=True).wait_for()
        assert box.input_value() == "and how long?"
        picture(page, "chat-endpoint")
        api.status = 400
        box.press("Enter")
        seen(page, "status 400").wait_for()


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "recipes/tiny.yaml", "runs/before/metrics.json", "../recipes/tiny.yaml"),
        *("file:///etc/passwd", "http://169.254.169.254/latest/meta-data/"),
    ],
)
def test_no_file_is_served(address: str, project: Path, path: str) -> None:
    for form in (path, str(project / path), path.replace("/", "%2f")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/gradio_api/file={form}", timeout=10)
        assert refused.value.code in (403, 404)


def test_a_name_that_was_made_to_lead_here_is_not_answered(address: str) -> None:
    asked = urllib.request.Request(address, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=10)
    assert refused.value.code == 400


def test_it_listens_on_this_machine_alone(address: str) -> None:
    port = int(address.rsplit(":", 1)[1])
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    places = {
        line.split()[1].split(":")[0]
        for line in listening.splitlines()
        if f":{port:04X} " in line.split(maxsplit=2)[1] + " " and " 0A " in line
    }
    assert places == {"0100007F"}
