"""The faults that tests bring about on purpose, and the table that `make faults` prints of them.

A test of one says so: `@pytest.mark.fault("a killed teacher")`. Without pytest's `--faults` the
marker does nothing; with it, only marked tests run, and a fault without a passing test fails.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from rich.console import Console
from rich.table import Table

#: Name -> what is expected of Tercet.
FAULTS = {
    # kills
    "a killed writer of queries": "The next start resumes, and its shards are the same bytes.",
    "a killed search for negatives": "The next start resumes, and its shards are the same bytes.",
    "a killed teacher": "The same bytes, and no more than a shard is scored again.",
    "a killed encoder or index": "The same vectors; an index finds what exact search finds.",
    "a killed training": "Mid-epoch, fp32 and bf16, 1 and 2 processes: the same weights.",
    "a killed checkpoint": "What is partial is put aside with a line; the one before is used.",
    "a resume that changed": "Other data or settings need --restart; other processes go on.",
    "soak": "Kills at random moments leave the same bytes and nothing else.",
    "signals": "A checkpoint within a step, a line, exit code 143, 129 or 130, no orphans.",
    # artifacts and disks
    "a damaged artifact": "A cut or changed shard is refused by name, whoever reads it.",
    "a full disk": "One line, exit code 1; what was whole stays whole; no stray file.",
    "failing writes": "ENOSPC, EDQUOT, EIO, ESTALE and EINVAL of any write: one line.",
    "damaged bookkeeping": "Rewritten, or one line that names the file.",
    "what is hashed is what is read": "No file is opened that the model's digest leaves out.",
    "precision of a resume": "What was measured first is kept; a partial step never mixes.",
    "two runs in one folder": "The second is refused.",
    # numbers
    "a score that is no number": "Refused where it is written; training stops within a step.",
    "divergence": "Exit code 4, the queries' ids, the last checkpoint.",
    "a vector that is no number": "Refused by its passage's id, in every index.",
    "other dimensions": "Refused before the first write.",
    "an index that does not find": "Refused or mended, never ranked upside down.",
    # Weaviate
    "a Weaviate that dies": "Bounded retries; the import resumes; else one line by its deadline.",
    "objects that fail": "Every id that failed is listed, and the exit code is not 0.",
    "a read-only, busy or slow server": "Waited for until its deadline, then resumable.",
    "no permission": "Said without the key.",
    "a collection that is being indexed": "Awaited before it is measured.",
    "collections as teams have them": "Tenants, long texts, property kinds, parts without vectors.",
    # APIs
    "an API under load": "Retry-After is obeyed; what is paid is kept; the budget holds.",
    "an API's wrong answer": "A wrong count, order or dimension is refused.",
    "no W&B": "Training completes without it.",
    # inputs
    "malformed input": "The file and line are named, and nothing partial is kept.",
    "ids that are no text": "Numbers and empty ids follow one rule.",
    "duplicate ids": "Equal texts are merged and counted; others are refused.",
    "empty and endless texts": "Dropped or truncated, and counted.",
    "judgements of unknown ids": "Counted; a query without an answer scores 0.",
    "ties and another order": "The metrics are the same.",
    "test queries in training": "Dropped and counted, as are negatives of a positive's text.",
    "memory that ends": "Batches are halved, with the same scores; never a score of 0.",
    "fuzz": "Mutated inputs end in one line, never in a traceback.",
    "a library's own errors": "Met before the work, in one line.",
    # security
    "code in a model": "Refused, and not run.",
    "secrets": "In no log, manifest, traceback or upload.",
    "the studio from elsewhere": "Other origins, paths and hosts are refused.",
    "instructions in a document": "Text, escaped, and nothing is done.",
    "terminal escapes and formulas": "Neutralised wherever they are shown.",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", action="store_true", help="the tests of faults, and their table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("fault"):
            if not marker.args or set(marker.args) - set(FAULTS):
                raise pytest.UsageError(f"{item.nodeid}: a fault of tests/support/faults.py")
    if config.getoption("faults"):
        others = [item for item in items if not any(item.iter_markers("fault"))]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if any(item.iter_markers("fault"))]


def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Leave the faults' names on each report, which may come from another process."""
    for marker in item.iter_markers("fault"):
        item.user_properties += [("fault", name) for name in marker.args]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print a row a fault."""
    if not config.getoption("faults"):
        return
    results: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome in ("passed", "skipped", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            for key, name in getattr(report, "user_properties", ()):
                if key == "fault":
                    results[name][report.nodeid] = outcome
    table = Table("Fault", "Expected", "Tests", "Result", show_lines=False)
    for name, expected in FAULTS.items():
        outcomes = results.get(name, {})
        bad = [test for test, outcome in outcomes.items() if outcome != "passed"]
        files = sorted({test.split("::")[0].removeprefix("tests/") for test in outcomes})
        verdict = "passed" if outcomes and not bad else ", ".join(bad) or "no test"
        table.add_row(name, expected, f"{len(outcomes)} in {', '.join(files)}", verdict)
    Console(width=160).print(table)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A fault that no selected test brings about fails the session."""
    if session.config.getoption("faults") and not hasattr(session.config, "workerinput"):
        markers = [marker for item in session.items for marker in item.iter_markers("fault")]
        named = {name for marker in markers for name in marker.args}
        if session.items and set(FAULTS) - named:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
