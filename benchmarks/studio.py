"""How long the studio takes over each action, with many runs and a large corpus.

    python benchmarks/studio.py [--runs 500] [--passages 100000]

One run over random passages is trained with small untrained models; its results, recipe and log are
copied for all the others. A real Chromium then acts as a user would. Each time is measured from the
click to the end of the frame that shows its outcome. The time to start excludes the imports, which
are measured separately.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from memory import settings, texts, write_model
from playwright.sync_api import sync_playwright
from rich.table import Table
from transformers import BertForSequenceClassification, BertModel

from tercet.core.console import console

ROOT = Path(__file__).parent.parent
TOKEN = os.environ.setdefault("TERCET_STUDIO_TOKEN", "of-the-benchmark")
PORT = 7899
COPIED = ("recipe.yaml", "metrics.json", "resources.json", "evaluation", "studio")
SERVE = """
import time
from pathlib import Path
from tercet.studio.server import serve
print(time.time(), flush=True)
serve(Path())
"""
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Make the runs, open the studio, and show the table of times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--passages", type=int, default=100_000)
    options = parser.parse_args()
    if options.runs < 150 or options.passages < 10_000:
        parser.error("it needs an unlisted run, and a word in thousands of passages")
    with tempfile.TemporaryDirectory() as at:
        project = Path(at).resolve()
        make_large(project, options.passages)
        for number in range(options.runs - 1):
            make_small(project, f"run-{number:04}", number)
        seconds = dict(times(project, options.passages, options.runs))
    title = f"{options.runs:,} runs, {options.passages:,} passages"
    table = Table("action", "seconds", title=title)
    for action, took in seconds.items():
        table.add_row(action, f"{took:.2f}")
    console.print(table)
    print(json.dumps({"runs": options.runs, "passages": options.passages, "seconds": seconds}))


def make_large(project: Path, passages: int) -> None:
    """A finished run over the large corpus, in a folder with the layout of a checkout."""
    for name in ("train.py", "eval.py"):
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
    with log.open("wb") as output:
        subprocess.run(command, cwd=project, check=True, stdout=output, stderr=output)
    ahead = time.time() + 86_400
    os.utime(project / "runs" / "large", (ahead, ahead))  # the run that changed last


def make_small(project: Path, name: str, number: int) -> None:
    """A copy of the files of the large run that the tables read."""
    large, run = project / "runs" / "large", project / "runs" / name
    run.mkdir()
    for part in COPIED:
        copy = shutil.copytree if (large / part).is_dir() else shutil.copy
        if (large / part).exists():
            copy(large / part, run / part)
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: large", f"name: {name}", 1))
    report = json.loads((run / "metrics.json").read_text())
    report["settings"] |= {"name": name, "training.learning_rate": number * 1e-6}
    (run / "metrics.json").write_text(json.dumps(report))


def times(project: Path, passages: int, runs: int) -> Iterator[tuple[str, float]]:
    """(action, seconds) of every action on the page."""
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
            yield from Person(page, project, passages, runs).actions()
            browser.close()
    finally:
        server.terminate()
        server.wait()


def answers() -> bool:
    """Whether the page is served."""
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=2).close()
    except OSError:
        return False
    return True


#: Times from the first input event to the end of the frame that shows the awaited outcome.
STOPWATCH = """
window.seen = (kind, text) => [...document.querySelectorAll(kind)].some(
  each => new RegExp(text).test(each.textContent) && each.checkVisibility());
window.value = label => document.querySelector(`input[aria-label="${label}"]`)?.value;
window.text = kind => document.querySelector(kind)?.textContent ?? "";
for (const kind of ["pointerdown", "keydown", "input"])
  addEventListener(kind, event => window.began ??= event.timeStamp, true);
window.arm = (shows, before) => {
  window.began = null;
  window.took = new Promise(done => {
    const look = () => {
      if (window.began === null || !shows(before)) return requestAnimationFrame(look);
      requestAnimationFrame(() => setTimeout(() => done(performance.now() - window.began)));
    };
    look();
  });
};
"""


class Person:
    """A user with a stopwatch."""

    def __init__(self, page: Any, project: Path, passages: int, runs: int) -> None:
        self.page, self.project, self.passages = page, project, passages
        self.names = [f"run-{number:04}" for number in range(runs - 1)]  # the last changed last
        self.taken: dict[str, float] = {}
        page.set_default_timeout(120_000)
        page.add_init_script(STOPWATCH)

    def timed(self, action: str, act: Callable[[], Any], shows: str, before: str = "") -> None:
        """Act, and time it until `shows`, JavaScript that may use `before`, is true."""
        self.page.wait_for_timeout(1_500)  # for the effects of the last action to end
        self.page.evaluate(f"before => arm(before => {shows}, before)", before)
        act()
        self.taken[action] = self.page.evaluate("window.took") / 1e3

    def tab(self, name: str) -> None:
        """Another tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def option(self, label: str, value: str) -> Callable[[], None]:
        """A click on a dropdown's option, which was found by typing it."""
        box = self.page.get_by_label(label, exact=True).locator("visible=true").first
        box.fill("")
        box.press_sequentially(value)
        option = self.page.get_by_role("option", name=value, exact=True).first
        option.wait_for()
        return lambda: option.click()

    def button(self, name: str) -> Callable[[], None]:
        """A click on a button."""
        button = self.page.get_by_role("button", name=name, exact=True).locator("visible=true")
        return lambda: button.first.click()

    def row(self) -> Callable[[], None]:
        """A click on a row of the table in sight."""
        row = self.page.locator(".rows tbody tr").locator("visible=true").nth(3)
        return lambda: row.click()

    def actions(self) -> Iterator[tuple[str, float]]:
        """Every tab but the chat, which is as slow as its model."""
        page = self.page
        page.goto(f"http://127.0.0.1:{PORT}/?token={TOKEN}")
        page.evaluate("arm(() => seen('p.note', 'as the recipe has it')), window.began = 0")
        self.taken["page"] = page.evaluate("window.took") / 1e3
        self.recipe()
        self.tab("Run")
        page.wait_for_function("seen('p.state', 'large')")  # it changed last, so it is chosen
        self.option("Run", self.names[-9])()
        page.wait_for_function(f"seen('p.state', '{self.names[-9]}')")
        whole = "seen('p.state', 'large') && seen('table.stages', 'evaluation.*done') && "
        whole += "document.querySelectorAll('svg .mark-line path').length >= 3"
        self.timed("run: another, its stages and curves", self.option("Run", "large"), whole)
        self.data()
        self.results()
        self.search()
        yield from self.taken.items()

    def recipe(self) -> None:
        """Another recipe; a key of it changed."""
        path = f"runs/{self.names[-9]}/recipe.yaml"
        self.timed("recipe: another", self.option("Recipe", path), f"seen('pre', '{path}')")
        name = self.page.get_by_label(re.compile(r"^\s*name\s+the run")).first
        name.fill("other")
        self.timed("recipe: a key", lambda: name.press("Tab"), "seen('pre', '--name=other')")

    def data(self) -> None:
        """Passages, a page on, words, a row."""
        self.tab("Data")
        kind = self.option("Show", "synthetic queries")
        self.timed("data: synthetic queries", kind, "seen('p.note', '1 to 15 of 1,000')")
        about = "seen('p.note', 'the passage it was written about')"
        self.timed("data: a query beside its passage", self.row(), about)
        kind, every = self.option("Show", "passages"), f"{self.passages:,}"
        self.timed("data: passages", kind, f"seen('p.note', '1 to 15 of {every}')")
        self.timed("data: a page on", self.button("on →"), f"seen('p.note', '16 to 30 of {every}')")
        words = self.page.get_by_label("That hold")
        words.fill("word7")
        those = r"seen('p.note', '1 to 15 of \\d+,\\d+$') && !seen('p.note', before)"
        self.timed("data: words", lambda: words.press("Enter"), those, every)
        self.timed("data: a row", self.row(), "seen('article.first', '')")

    def results(self) -> None:
        """The table of runs, sorted and filtered; two compared; queries won and lost."""
        page = self.page
        opened = "seen('.sorts td', 'large')"
        self.timed("results: the tab", lambda: self.tab("Results"), opened)
        make_small(self.project, "new-one", 0)
        self.timed(
            "results: refresh", self.button("Refresh"), "text('.sorts tbody').includes('new-one')"
        )
        words, old = page.get_by_placeholder("Filter...").first, self.names[123]
        found = f"seen('.sorts td', '{old}') && !seen('.sorts td', 'new-one')"
        self.timed("results: filter", lambda: words.fill(old), found)
        row = page.locator(".sorts tbody tr").locator("visible=true").first
        self.timed("results: a row chooses its run", row.click, f"value('Run') === '{old}'")
        words.fill("large")
        row.click()
        words.fill("")
        column = page.locator(".sorts th").first
        column.click()
        last = f"seen('.sorts tr:nth-child(1) td', '{self.names[-1]}')"
        self.timed("results: sort", column.click, last)
        page.get_by_role("button", name="Compare two runs").click()
        self.option("first", "large")()
        other = self.option("second", self.names[-8])
        self.timed("results: compare", other, "seen('p.note', 'test queries, paired')")
        page.get_by_role("button", name="Queries won and lost").click()
        by, lost = self.option("by", "map@5"), "document.querySelectorAll('.sorts')[1]?.textContent"
        before = page.evaluate(lost)
        self.timed("results: queries won and lost", by, f"{lost} !== before", before)

    def search(self) -> None:
        """A query, before and after what it needs is loaded; a vote."""
        self.tab("Search")
        found = "text('article.hit') !== before && seen('section:nth-child(2) article.hit', '')"
        for words in ("word31 word3", "word6 word1"):
            self.page.get_by_label("Query", exact=True).fill(words)
            if not (before := self.page.evaluate("text('article.hit')")):
                loading = "seen('p.note', '^loading ')"
                self.timed(
                    "search: the first, until the notice of loading", self.button("Search"), loading
                )
                self.page.wait_for_function(f"before => {found}", arg=before)
                now = self.page.evaluate("performance.now() - window.began")
                self.taken["search: the first, with loading"] = now / 1e3
            else:
                self.timed("search", self.button("Search"), found, before)
        self.timed(
            "search: a vote", self.button("relevant"), "seen('button.vote[aria-pressed=true]', '')"
        )


if __name__ == "__main__":
    main()
