"""Runs as separate processes: started, watched and stopped, whether or not a page is open."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil

from tercet.config.loading import load_recipe
from tercet.config.recipe import Recipe
from tercet.core.console import LINE_SECONDS
from tercet.core.files import kept, typed, write_json
from tercet.core.schema import InputError
from tercet.reports.report import Comparison
from tercet.retrieval.significance import Interval
from tercet.studio.places import Places, check_name

_FOLDER, _PROCESS, _LOG, _STOPPED = "studio", "process.json", "log.txt", "stopped"
#: Seconds between two lines of progress in the log, in place of a terminal's bar.
_EVERY = "1"
_PATIENCE = 20.0  # seconds between the interrupt and the kill
_TAIL, _END = 200_000, 20_000  # bytes read from the log: to show it, to find a failure
_FAILURE = re.compile("^(error:|Traceback)", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

State = Literal["running", "finished", "failed", "stopped", "begun"]


@dataclass(frozen=True)
class Process:
    """A started process; its start time tells it from a later process with the same number."""

    pid: int
    created: float
    command: list[str]


def start(places: Places, name: str, recipe: str, options: Sequence[str], command: str) -> Process:
    """Start `tercet COMMAND RECIPE OPTIONS` for run `name`, in a session of its own.

    The process outlives the studio. Raises InputError while the run is at work.
    """
    assert command in ("adapt", "eval", "forecast", "audit")
    run = places.runs / check_name(name, "a run")
    if run.is_symlink() or (running := find(run)):
        raise InputError(f"run {name} is at work already" if running else f"{run} is a link")
    (run / _FOLDER).mkdir(parents=True, exist_ok=True)
    (run / _FOLDER / _STOPPED).unlink(missing_ok=True)
    words = [command, recipe, *options]
    with (run / _FOLDER / _LOG).open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "tercet", *words],
            cwd=places.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {LINE_SECONDS: _EVERY, "TQDM_DISABLE": "1"},
        )
    _children.append(child)
    process = Process(child.pid, psutil.Process(child.pid).create_time(), ["tercet", *words])
    write_json(run / _FOLDER / _PROCESS, asdict(process))
    return process


#: Polled, so that a finished child does not stay a zombie and count as running.
_children: list[subprocess.Popen[bytes]] = []


def read_process(run: Path) -> Process | None:
    """The process that the studio started last for a run, if any."""
    return kept(run / _FOLDER / _PROCESS, partial(typed, Process))


def find(run: Path) -> psutil.Process | None:
    """The process at work on a run; on Linux also one that the studio did not start."""
    for child in _children:
        child.poll()
    known = read_process(run)
    if known and (process := _alive(known.pid, known.created)):
        return process
    holder = _holder(run / ".lock")
    process = _alive(holder) if holder else None
    return process if process and _has_open(process, run / ".lock") else None


def _alive(pid: int, created: float | None = None) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        same = created is None or abs(process.create_time() - created) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OverflowError, ValueError, psutil.Error):  # those of what is no process's number
        return None


def _holder(lock: Path) -> int | None:
    """The process id that holds a file lock, found without taking the lock from the run."""
    try:
        inode = lock.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if (
            f":{inode} " in line
            and " WRITE " in line
            and (found := re.search(r" WRITE +(\d+)", line))
        ):
            return int(found[1])
    return None


def _has_open(process: psutil.Process, path: Path) -> bool:
    """Whether a process has a file open: inode numbers repeat across file systems."""
    try:
        return any(Path(file.path) == path for file in process.open_files())
    except psutil.Error:
        return False


def recipe_of(run: Path, options: Sequence[str] = ()) -> Recipe:
    """The recipe of a run. Raises InputError if the folder is a copy of another run."""
    recipe = load_recipe(run / "recipe.yaml", options)
    if recipe.folder.resolve() != run:
        raise InputError(
            f"{run.name} is a copy of run {recipe.name}, whose recipe it has: "
            f"change `name` in its recipe.yaml to {run.name}"
        )
    return recipe


def stop(run: Path) -> None:
    """End a run as Ctrl-C would, so that the same command resumes it."""
    process = find(run)
    if process is None:
        return
    if (run / _FOLDER).is_dir():
        (run / _FOLDER / _STOPPED).touch()
    for one in [*process.children(recursive=True), process]:
        _send(one, signal.SIGINT)
    gone, alive = psutil.wait_procs([process], timeout=_PATIENCE)
    for one in [*(child for each in alive for child in each.children(recursive=True)), *alive]:
        _send(one, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_PATIENCE)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        pass  # it ended meanwhile


def state(run: Path) -> State:
    """Whether a run is at work, and if not, how it ended."""
    if find(run):
        return "running"
    # A failure of the last process outweighs what an earlier one finished.
    if _failed(run, _extent(run / _FOLDER / _LOG)):
        return "stopped" if (run / _FOLDER / _STOPPED).exists() else "failed"
    if (run / "evaluation" / "manifest.json").exists():
        return "finished"
    return "begun" if not (run / _FOLDER / _PROCESS).exists() else "stopped"


@functools.lru_cache(maxsize=4096)
def _failed(run: Path, extent: tuple[int, int] | None) -> bool:
    """Whether a run's log ends in a failure; read again when its `extent` changes."""
    return bool(extent and _FAILURE.search(_end_of_log(run, _END)))


def _extent(path: Path) -> tuple[int, int] | None:
    """A file's modification time and size, which change when it is written; None if missing."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def tail(run: Path) -> list[str]:
    """The last lines of the log, without control characters, one line a progress bar."""
    return [*_collapsed(_ESCAPES.sub("", _end_of_log(run, _TAIL)).splitlines())]


def _end_of_log(run: Path, most: int) -> str:
    """The last bytes of the log as text; empty if there is no log."""
    try:
        with (run / _FOLDER / _LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _collapsed(lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        progress = PROGRESS.match(line)
        if progress and following.startswith(f"  {progress['label']}: "):
            continue
        line = line.rpartition("\r")[2]
        shown = line.isprintable()
        yield line if shown else "".join(c for c in line if c.isprintable() or c == "\t")


PROGRESS = re.compile(
    r"  (?P<label>[^:]+): (?P<done>[\d,]{1,25})(?: of (?P<total>[\d,]{1,25}))? (?P<unit>[a-z ]+), "
    r"(?P<rate>[\d,.e+-]+) [a-z ]+/s(?:, [\d,.e+-]+ tokens/s)?, [\d:]+ elapsed"
    r"(?:, (?P<left>[\d:]+|\?) left)?$"
)


def report_of(run: Path) -> Mapping[str, Any]:
    """The content of a finished run's `metrics.json`; empty if missing or damaged."""
    path = run / "metrics.json"
    try:
        return _read_report(path, _extent(path))
    except FileNotFoundError:
        return {}


@functools.lru_cache(maxsize=4096)
def _read_report(path: Path, extent: tuple[int, int] | None) -> dict[str, Any]:
    """Cached, as a table may list hundreds of runs; read again when the file changes."""
    return kept(path, _checked) or {}


def _checked(found: Any) -> dict[str, Any]:
    """A report. Raises TypeError and its kin for another JSON value, such as another version's."""
    report = {"command": found["command"], **found}
    lists = ("comparisons", "notes", "more")
    kinds = {str: ("verdict", "shipped", "command"), dict: ("settings", "seconds"), list: lists}
    for kind, names in kinds.items():
        if not all(isinstance(report.get(name, kind()), kind) for name in names):
            raise TypeError("no report")
    for each in report.get("comparisons", ()):
        typed(Comparison, each | {"interval": typed(Interval, each["interval"])})
    sum(report.get("seconds", {}).values())
    return report


def changed(run: Path) -> str:
    """When a run's folder changed: local time, as text that sorts."""
    return datetime.fromtimestamp(run.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
