"""How long the studio takes over each action, with many runs and a large corpus.

    python benchmarks/studio.py [--runs 500] [--passages 100000]

One run is made of made-up passages with small untrained models; its figures, recipe and log are
copied for all the others. A real Chromium then does what a person does, and each time is that from
the click to the text on the page. The start is counted from the end of the imports, which are timed
by themselves.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from memory import settings, texts, write_model
from playwright.sync_api import sync_playwright
from rich.table import Table
from transformers import BertForSequenceClassification, BertModel

from tercet.console import console

ROOT = Path(__file__).parent.parent
PORT = 7899
COPIED = ("recipe.yaml", "metrics.json", "resources.json", "evaluation", "studio")
SERVE = "import time, app; print(time.time(), flush=True); app.main()"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Make the runs, open the studio, and show the table of times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--passages", type=int, default=100_000)
    options = parser.parse_args()
    if options.runs < 150 or options.passages < 10_000:
        parser.error("it looks for the 124th run, and for words that thousands of passages have")
    with tempfile.TemporaryDirectory() as at:
        project = Path(at).resolve()
        make_large(project, options.passages)
        for number in range(options.runs - 1):
            make_small(project, f"run-{number:04}", number)
        seconds = dict(times(project, options.passages))
    title = f"{options.runs:,} runs, {options.passages:,} passages"
    table = Table("action", "seconds", title=title)
    for action, took in seconds.items():
        table.add_row(action, f"{took:.2f}")
    console.print(table)
    print(json.dumps({"runs": options.runs, "passages": options.passages, "seconds": seconds}))


def make_large(project: Path, passages: int) -> None:
    """A whole run over the large corpus, in a folder that is laid out as a checkout is."""
    for name in ("app.py", "train.py", "eval.py"):
        shutil.copy(ROOT / name, project)
    for folder in ("corpus", "recipes", "runs"):
        (project / folder).mkdir()
    write_model(project / "student", BertModel, 384)
    write_model(project / "teacher", BertForSequenceClassification, 32)
    with (project / "corpus" / "corpus.jsonl").open("w") as file:
        for i, text in enumerate(texts(passages)):
            file.write(json.dumps({"_id": f"p{i}", "title": "", "text": text}) + "\n")
    recipe = settings(Path(), passages, "exact") | {"name": "large", "runs_dir": "runs"}
    (project / "recipes" / "large.yaml").write_text(yaml.safe_dump(recipe))
    log = project / "runs" / "large" / "studio" / "log.txt"
    log.parent.mkdir(parents=True)
    command = [sys.executable, "train.py", "recipes/large.yaml"]
    with log.open("wb") as said:
        subprocess.run(command, cwd=project, check=True, stdout=said, stderr=said)


def make_small(project: Path, name: str, number: int) -> None:
    """What the tables read of a run, as the large one has it."""
    large, run = project / "runs" / "large", project / "runs" / name
    run.mkdir()
    for part in COPIED:
        copy = shutil.copytree if (large / part).is_dir() else shutil.copy
        if (large / part).exists():
            copy(large / part, run / part)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: large", f"name: {name}", 1))
    told = json.loads((run / "metrics.json").read_text())
    told["settings"] |= {"name": name, "training.learning_rate": number * 1e-6}
    (run / "metrics.json").write_text(json.dumps(told))


def times(project: Path, passages: int) -> Iterator[tuple[str, float]]:
    """(action, seconds) of everything that is done on the page."""
    assert not answers(), f"something listens on port {PORT} already"
    began = time.time()
    command = [sys.executable, "-c", SERVE, f"--port={PORT}"]
    server = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        imported = float(server.stdout.readline())
        while not answers():
            assert server.poll() is None and time.time() < imported + 60
            time.sleep(0.02)
        yield "imports", imported - began
        yield "start, after the imports", time.time() - imported
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        assert program, f"none of {', '.join(PROGRAMS)} is installed"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            yield from Person(page, project, passages).actions()
            browser.close()
    finally:
        server.terminate()
        server.wait()


def answers() -> bool:
    """Whether the page is served."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}", timeout=2).close()
    except OSError:
        return False
    return True


class Person:
    """Somebody with a browser and a stop watch."""

    def __init__(self, page: Any, project: Path, passages: int) -> None:
        self.page, self.project, self.passages = page, project, passages
        self.taken: dict[str, float] = {}

    @contextmanager
    def timed(self, action: str) -> Iterator[None]:
        """From the click, first in the block, to what is waited for, last in it."""
        self.page.wait_for_timeout(1_500)  # what the last action set off has ended
        began = time.monotonic()
        yield
        self.taken[action] = time.monotonic() - began

    def seen(self, kind: str, text: str | re.Pattern[str]) -> None:
        """Wait for a visible element of a kind with a text.

        Looking at every element of the page would take longer than what is timed.
        """
        self.page.locator(kind).filter(has_text=text, visible=True).first.wait_for()

    def tab(self, name: str) -> None:
        """Another tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def option(self, label: str, value: str) -> Any:
        """A dropdown's option, found by typing it."""
        box = self.page.get_by_label(label, exact=True).locator("visible=true").first
        box.fill("")
        box.press_sequentially(value)
        option = self.page.get_by_role("option", name=value, exact=True).first
        option.wait_for()
        return option

    def open_row(self) -> None:
        """A click on a row of the table in sight."""
        self.page.locator(".rows tbody tr").locator("visible=true").nth(3).click()

    def actions(self) -> Iterator[tuple[str, float]]:
        """Every tab but the chat, whose model takes what it takes."""
        page = self.page
        with self.timed("page"):
            page.goto(f"http://127.0.0.1:{PORT}")
            self.seen("p.note", "as the recipe has it")
        option = self.option("Recipe", "runs/run-0007/recipe.yaml")
        with self.timed("recipe: another"):
            option.click()
            self.seen("pre", "train.py runs/run-0007/recipe.yaml")
        with self.timed("recipe: a key"):
            page.get_by_label(re.compile(r"^\s*name\s+the run")).first.fill("other")
            page.keyboard.press("Tab")
            self.seen("pre", "--name=other")
        self.tab("Run")
        option = self.option("Run", "large")
        with self.timed("run: another, its stages and curves"):
            option.click()
            page.locator("p.state").get_by_text("large").wait_for()
        self.data()
        self.results()
        self.search()
        yield from self.taken.items()

    def data(self) -> None:
        """Passages, a page on, words, a row."""
        page = self.page
        self.tab("Data")
        option = self.option("Show", "synthetic queries")
        with self.timed("data: synthetic queries"):
            option.click()
            self.seen("p.note", "1 to 15 of 1,000")
        with self.timed("data: a query beside its passage"):
            self.open_row()
            self.seen("p.note", "the passage it was written about")
        option = self.option("Show", "passages")
        with self.timed("data: passages"):
            option.click()
            self.seen("p.note", f"1 to 15 of {self.passages:,}")
        with self.timed("data: a page on"):
            page.get_by_role("button", name="on →").click()
            self.seen("p.note", f"16 to 30 of {self.passages:,}")
        with self.timed("data: words"):
            page.get_by_label("That hold").fill("word7")
            page.get_by_label("That hold").press("Enter")
            self.seen("p.note", re.compile(r"1 to 15 of \d+,\d+$"))
        with self.timed("data: a row"):
            self.open_row()
            page.locator("article.first").wait_for()

    def results(self) -> None:
        """The table of runs, sorted and filtered; two compared; queries won and lost."""
        page = self.page
        self.tab("Results")
        self.seen(".sorts td", "large")
        make_small(self.project, "new-one", 0)
        with self.timed("results: refresh"):
            page.get_by_role("button", name="Refresh").click()
            self.seen(".sorts td", "new-one")
        with self.timed("results: filter"):
            page.get_by_placeholder("Filter...").first.fill("run-0123")
            self.seen(".sorts td", "run-0123")
            page.locator(".sorts td").get_by_text("new-one").wait_for(state="hidden")
        page.get_by_placeholder("Filter...").first.fill("")
        page.get_by_role("button", name="Compare two runs").click()
        self.option("first", "large").click()
        option = self.option("second", "run-0042")
        with self.timed("results: compare"):
            option.click()
            self.seen("p.note", "test queries, paired")
        page.get_by_role("button", name="Queries won and lost").click()
        option = self.option("by", "map@5")
        with self.timed("results: queries won and lost"):
            option.click()
            page.wait_for_function(
                "before => { const now = document.querySelectorAll('.sorts p.note')[1];"
                " return now && now.parentElement.innerText !== before }",
                arg=page.locator(".sorts").nth(1).inner_text(),
            )

    def search(self) -> None:
        """A query, before and after what it needs is loaded; a vote."""
        page = self.page
        self.tab("Search")
        ask = page.get_by_role("button", name="Search", exact=True)
        for action in ("search: the first, with loading", "search"):
            page.get_by_label("Query", exact=True).fill(f"word{len(action)} word3 word1")
            before = self.first_hit()
            with self.timed(action):
                ask.click()
                page.wait_for_function(
                    "before => { const now = document.querySelectorAll('article.hit');"
                    " return now.length >= 10 && now[0].innerText !== before }",
                    arg=before,
                    timeout=120_000,
                )
        with self.timed("search: a vote"):
            page.get_by_role("button", name="relevant", exact=True).first.click()
            page.locator("button.vote[aria-pressed=true]").first.wait_for()

    def first_hit(self) -> str:
        """What stands first now."""
        hits = self.page.locator("article.hit")
        return str(hits.first.inner_text()) if hits.count() else ""


if __name__ == "__main__":
    main()
