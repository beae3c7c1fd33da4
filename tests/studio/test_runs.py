"""Run folders that are damaged, copied, or locked by other processes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tercet.core.schema import InputError
from tercet.studio import runs
from tercet.studio.compare import as_csv, results


def test_a_damaged_file_does_not_break_the_table(tmp_path: Path) -> None:
    for name in ("whole", "damaged"):
        (tmp_path / name / "studio").mkdir(parents=True)
    for file in ("metrics.json", "studio/process.json"):
        (tmp_path / "damaged" / file).write_text('{"sett')
    found = results([tmp_path / "whole", tmp_path / "damaged"])
    assert [row[:2] for row in found] == [["whole", "begun"], ["damaged", "stopped"]]
    assert as_csv([tmp_path / "damaged"]).strip() == ""


def test_a_report_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"command": "one"}')
    assert runs.report_of(tmp_path) == {"command": "one"}
    path.write_text('{"command": "two"}')
    os.utime(path, ns=(1, 1))
    assert runs.report_of(tmp_path) == {"command": "two"}


def test_a_failure_in_the_log_counts_until_the_log_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "studio"
    folder.mkdir()
    (folder / "process.json").write_text('{"pid": 0, "created": 0, "command": []}')
    log = folder / "log.txt"
    for line, state in (("make  corpus\n", "stopped"), ("error: no such file\n", "failed")):
        log.write_text(log.read_text() + line if log.exists() else line)
        assert runs.state(tmp_path) == state
    (folder / "stopped").touch()
    assert runs.state(tmp_path) == "stopped"  # it failed because it was stopped
    (folder / "stopped").unlink()
    log.write_text("make  corpus: new\n")
    assert runs.state(tmp_path) == "stopped"
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "manifest.json").write_text("{}")
    assert runs.state(tmp_path) == "finished"
    log.write_text("Traceback (most recent call last):\n")
    assert runs.state(tmp_path) == "failed"


def test_a_copy_of_a_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "copied"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.yaml").write_text(
            "{name: first, runs_dir: runs, corpus: {path: corpus}}"
        )
    assert runs.recipe_of(tmp_path / "runs" / "first").name == "first"
    with pytest.raises(InputError, match="copied is a copy of run first"):
        runs.recipe_of(tmp_path / "runs" / "copied")


def test_the_process_that_holds_a_runs_lock_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.find(tmp_path) is None
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = runs.find(tmp_path)
        assert found and found.pid == os.getpid()
        # The inode number of a file on another file system: its holder does not have this one open.
        monkeypatch.setattr(runs, "_holder", lambda lock: os.getppid())
        assert runs.find(tmp_path) is None
    assert runs.state(tmp_path) == "begun"
