"""The studio in a real browser, over real runs: every tab, and no request to another host."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import MODEL, serve

from tercet.studio.runs import stop

pytestmark = pytest.mark.browser
pytest.importorskip("gradio")
ROOT = Path(__file__).parents[2]
SCRIPT = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
TEMPLATE = "${document.title = 'taken'} {{value}} {{#each value}}taken{{/each}}"
KEY = "co-canary-5d1e"
WAIT = 120  # seconds after which a condition counts as never met
#: A failed fetch as the page logs it; the request itself says whether the page gave it up.
FETCH = re.compile(
    "AbortError|aborted|Failed to (fetch|load resource)|network error|Connection errored out"
)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_causal_path: Path,
) -> Iterator[Path]:
    """A checkout with a recipe, a corpus whose first passage contains a script, and a run."""
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
teacher: {{name: {tiny_cross_encoder_path}, precision: fp32, max_length: 48, student_weight: 0.5}}
model: {{name: {tiny_encoder_path}, precision: fp32, max_length: 48}}
triplets: {{negatives_per_query: 3}}
training: {{num_train_epochs: 2, per_device_train_batch_size: 8, bf16: false, learning_rate: 1e-3}}
chat: {{model: {tiny_causal_path}, max_new_tokens: 12, threshold: -1}}
"""
    )
    command = [sys.executable, "train.py", "recipes/tiny.yaml", "--name=before"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    (folder / "runs" / "other").mkdir()  # nothing but its recipe
    shutil.copy(folder / "runs" / "before" / "recipe.yaml", folder / "runs" / "other")
    yield folder
    stop(folder / "runs" / "live")  # it would outlive a failed test


class Address(str):
    """The studio's address, and the token that opens it."""

    token: str

    def ask(self, path: str = "/", data: bytes | None = None, **headers: str) -> Any:
        """Send a request with the token, and `headers` with "_" for "-"."""
        request = urllib.request.Request(f"{self}{path}", data)
        for name, value in ({"Authorization": f"Bearer {self.token}"} | headers).items():
            request.add_header(name.replace("_", "-"), value)
        return urllib.request.urlopen(request, timeout=WAIT)


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[Address]:
    """The studio's address; it must ignore the environment's tunnel, host and folders."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ignored = {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ALLOWED_PATHS": "/"}
    process = subprocess.Popen(
        [sys.executable, "app.py", f"--port={port}"],
        cwd=project,
        env=os.environ | ignored | {"COHERE_API_KEY": KEY, "OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = Address(f"http://127.0.0.1:{port}")
    assert process.stdout
    said = next(line for line in process.stdout if "the studio is at" in line)
    url.token = said.partition("?token=")[2].split()[0]
    assert said.startswith(f"the studio is at {url}/?token=") and len(url.token) == 32

    def answers() -> bool:
        try:
            url.ask().close()
            return True
        except OSError:
            assert process.poll() is None, process.communicate()
            return False

    try:
        until(answers)
        yield url
        # A page in a browser holds this stream open, and the server must stop all the same.
        with url.ask("/gradio_api/heartbeat/open") as stream:
            assert b"ALIVE" in stream.readline()
            process.terminate()
            output, _ = process.communicate(timeout=WAIT)
    finally:
        process.kill()
    assert "Traceback" not in output and KEY not in output, output


@pytest.fixture
def page(browser: Any, address: Address) -> Iterator[Any]:
    """A page of the studio. Its errors, and its requests to other hosts, are failures."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    page, complaints = context.new_page(), []
    page.set_default_timeout(WAIT * 1e3)

    def on_error(text: str) -> None:
        if not FETCH.search(text):
            complaints.append(text)

    def on_failure(request: Any) -> None:
        if "net::ERR_ABORTED" not in str(request.failure):  # else the page gave the request up
            complaints.append(f"{request.url} {request.failure}")

    def on_response(response: Any) -> None:
        if response.status >= 400:
            complaints.append(f"{response.url} {response.status}")

    def on_request(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:", "about:")):
            complaints.append(f"request to {request.url}")

    page.on("console", lambda message: message.type == "error" and on_error(message.text))
    page.on("pageerror", lambda error: on_error(str(error)))
    page.on("requestfailed", on_failure)
    page.on("response", on_response)
    page.on("request", on_request)
    page.goto(f"{address}/?token={address.token}")
    assert "token" not in page.url
    settled(page)
    yield page
    title, found = page.title(), [*complaints]
    context.close()
    assert title == "Tercet"
    assert found == []


def settled(page: Any) -> None:
    """Wait until a new page has chosen a recipe and the run that changed last."""
    page.locator("pre.command").first.wait_for()
    run = page.get_by_label("Run", exact=True).first
    until(lambda: run.input_value() != "")


def until(met: Callable[[], bool], state: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + WAIT
    while not met():
        assert time.monotonic() < deadline, state()
        time.sleep(0.05)


def choose(page: Any, label: str | re.Pattern[str], value: str) -> None:
    """Choose a value of a dropdown, found by its label."""
    box = page.get_by_label(label, exact=True).first
    box.click()
    box.fill(value)
    page.get_by_role("option", name=value, exact=True).first.click()


def holds(field: Any, value: str) -> None:
    """Wait for a field's value, which is set a moment after its section opens."""
    until(lambda: field.input_value() == value, field.input_value)


def seen(page: Any, text: Any) -> Any:
    """The first visible element with a text: other tabs may contain it too."""
    return page.get_by_text(text).locator("visible=true").first


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def picture(page: Any, name: str) -> None:
    """Save screenshots in the folder named by TERCET_PICTURES, if it is set."""
    folder = os.environ.get("TERCET_PICTURES")
    if folder:
        for size, width in (("laptop", 1280), ("phone", 390)):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(400)
            wide = page.evaluate("document.documentElement.scrollWidth")
            page.screenshot(path=f"{folder}/{name}-{size}.png", full_page=name != "recipe")
            assert wide <= width, f"{name} is {wide} wide on a {size}"
        page.set_viewport_size({"width": 1280, "height": 900})


def test_a_recipe_is_changed_run_stopped_and_resumed(page: Any, project: Path) -> None:
    choose(page, "Recipe", "recipes/tiny.yaml")
    seen(page, "as the recipe has it").wait_for()
    queries = page.get_by_role("button", name=re.compile("^queries")).first
    queries.click()
    count = page.get_by_label(re.compile(r"^\s*count\s+number of queries")).first
    holds(count, "60")
    count.fill("-1")
    count.blur()
    seen(page, "must be at least 1").wait_for()
    picture(page, "recipe")
    count.fill("50")
    count.blur()
    seen(page, "--queries.count=50").wait_for()
    name = page.get_by_label(re.compile(r"^\s*name\s+name of the run")).first
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
    log = (run / "studio" / "log.txt").read_text

    def logged_steps() -> list[int]:
        *lines, _ = curves.read_text().split("\n") if curves.exists() else [""]
        return [json.loads(line)["step"] for line in lines]

    until(lambda: len(logged_steps()) >= 12, log)
    # Not by a locator: the plot is redrawn while it is searched.
    page.wait_for_function("document.querySelector('svg [aria-label*=\"mrr@10, zero-shot\"]')")
    values = page.locator("svg .role-axis-label text").all_text_contents()
    assert len(values) < 60, "the values are an axis, not a category each"
    seen(page, re.compile(r"step \d+ of")).wait_for()
    loss = page.locator(".vega-embed, .plot-container").locator("visible=true").last
    before = loss.screenshot()
    until(lambda: loss.screenshot() != before)  # the curve grows during training
    picture(page, "run")
    page.get_by_role("button", name="Stop").click()
    page.locator("p.state.stopped").wait_for()
    last = max(logged_steps())
    page.reload()  # a closed page loses nothing
    settled(page)
    tab(page, "Run")
    choose(page, "Run", "live")
    page.locator("p.state.stopped").wait_for()
    page.get_by_role("button", name="Go on").click()
    page.locator("p.state.running").wait_for()
    until(lambda: max(logged_steps()) > last, log)
    assert "resumed from checkpoint-" in log()
    page.get_by_role("button", name="Stop").click()
    page.locator("p.state.stopped").wait_for()
    assert KEY not in b"".join(p.read_bytes() for p in run.rglob("*") if p.is_file()).decode(
        "latin1"
    )


@pytest.mark.fault("instructions in a document")
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
    seen(page, "source passage's rank, teacher").wait_for()
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
    assert row["queries.count"] == "60"
    ships_base = row["shipped"] == "base"  # which the machine's rounding may decide
    assert 0 <= float(row["ndcg@10 base" if ships_base else "ndcg@10 adapted"]) <= 1
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
    copied = "navigator.clipboard.readText().then(text => text.includes('class TercetRetriever'))"
    page.wait_for_function(copied)
    path = project / "runs" / "before" / "pasted.py"
    path.write_text(page.evaluate("navigator.clipboard.readText()"))
    picture(page, "results")
    command = [sys.executable, str(path), "--self-test"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.long
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
    systems = 2
    first = seen(page, re.compile("before: (adapted|base)"))  # two of the run's own are chosen
    if "adapted" in first.inner_text():  # else the base model ships, and BM25 is the second
        systems = 3
        choose(page, re.compile("Systems"), "before: BM25")
        page.keyboard.press("Escape")
    page.get_by_label("Query", exact=True).fill("document title script")
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator("h3", has_text="before: BM25").wait_for()
    seen(page, TEMPLATE).wait_for()
    assert page.locator("h3").count() >= systems
    assert page.locator("article.hit").count() >= 5 * (systems - 1)  # BM25 may find fewer
    assert page.locator("article script, article img").count() == 0
    page.get_by_role("button", name="relevant", exact=True).first.click()
    qrels = project / "runs" / "before" / "votes" / "qrels" / "test.tsv"
    until(qrels.exists)
    header, vote = qrels.read_text().splitlines()
    assert header == "query-id\tcorpus-id\tscore" and vote.endswith("\t1")
    page.locator("button.vote[aria-pressed=true]").first.wait_for()
    page.get_by_role("button", name="not relevant", exact=True).first.click()
    until(lambda: qrels.read_text().splitlines()[1:] == [f"{vote[:-1]}0"])  # the last vote counts
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


def test_the_chat_shows_an_endpoints_answer_as_it_arrives(page: Any) -> None:
    choose(page, "Run", "before")
    tab(page, "Chat")
    page.get_by_role("button", name="What answers").click()
    model = page.get_by_label(re.compile(r"^\s*model\s")).locator("visible=true").first
    until(lambda: model.input_value() != "")  # else the recipe's settings would replace those typed
    with serve(KEY) as api:
        for label, value in (("endpoint", api.address), ("model", MODEL), ("max_new_tokens", "")):
            field = page.get_by_label(re.compile(rf"^\s*{label}\s")).locator("visible=true")
            field.first.fill(value)
        box = page.get_by_placeholder("a question").locator("visible=true")
        box.fill("how is it kept?")
        box.press("Enter")
        reply = page.locator("[data-testid=bot]").last
        reply.get_by_text("It is", exact=True).wait_for()
        page.locator("details.cited").first.wait_for()
        assert len(api.bodies) == 1 and not api.go_on.is_set()
        box.fill("and how long?")  # the next question is typed meanwhile
        api.go_on.set()
        reply.get_by_text("It is kept dry.", exact=True).wait_for()
        assert box.input_value() == "and how long?"
        picture(page, "chat-endpoint")
        api.status = 400
        box.press("Enter")
        seen(page, "status 400").wait_for()


@pytest.mark.fault("the studio from elsewhere")
@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "recipes/tiny.yaml", "runs/before/metrics.json", "../recipes/tiny.yaml"),
        *("file:///etc/passwd", "http://169.254.169.254/latest/meta-data/"),
    ],
)
def test_no_file_is_served(address: Address, project: Path, path: str) -> None:
    for form in (path, str(project / path), path.replace("/", "%2f")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            address.ask(f"/gradio_api/file={form}")
        assert refused.value.code in (403, 404)


@pytest.mark.fault("the studio from elsewhere")
def test_a_foreign_host_name_is_refused(address: Address) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        address.ask(Host="elsewhere.example")
    assert refused.value.code == 400


@pytest.mark.fault("the studio from elsewhere")
@pytest.mark.parametrize(
    "path", ["/", "/gradio_api/config", "/gradio_api/heartbeat/x", "/theme.css"]
)
def test_without_the_token_nothing_is_answered(address: Address, path: str) -> None:
    for wrong in ("", "Bearer", f"Bearer {address.token}x", f"Basic {address.token}"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            address.ask(path, Authorization=wrong)
        assert refused.value.code == 403
        assert b"tercet studio" in refused.value.read()


@pytest.mark.fault("the studio from elsewhere")
@pytest.mark.parametrize(
    "path", ["/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/x"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://[::"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_request_of_another_site_is_refused(
    address: Address, path: str, headers: dict[str, str]
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        address.ask(path, b"{}", Content_Type="application/json", **headers)
    assert (refused.value.code, refused.value.read()) == (
        403,
        b"requests of another site are refused",
    )


@pytest.mark.fault("the studio from elsewhere")
def test_it_listens_on_this_machine_alone(address: str) -> None:
    port = int(address.rsplit(":", 1)[1])
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    places = {
        line.split()[1].split(":")[0]
        for line in listening.splitlines()
        if f":{port:04X} " in line.split(maxsplit=2)[1] + " " and " 0A " in line
    }
    assert places == {"0100007F"}
