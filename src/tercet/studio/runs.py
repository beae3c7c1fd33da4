"""Runs as processes of their own: begun, watched and stopped, whether or not a page is open."""

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
from pathlib import Path
from typing import Any, Literal

import psutil

from tercet.config.loading import load_recipe
from tercet.config.recipe import Recipe
from tercet.core.console import LINE_SECONDS
from tercet.core.files import read_json, write_json
from tercet.core.schema import InputError
from tercet.studio.places import Places, check_name

FOLDER, PROCESS, LOG, STOPPED = "studio", "process.json", "log.txt", "stopped"
#: Seconds between two lines of progress, where a terminal would have a bar.
_EVERY = "1"
_PATIENCE = 20.0  # seconds that a run has to end by itself
_TAIL, _END = 200_000, 20_000  # bytes of the log that are read: to show it, to see how it ended
_FAILURE = re.compile("^(error:|Traceback)", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

State = Literal["running", "finished", "failed", "stopped", "begun"]
PROGRAMS = ("train.py", "eval.py")


@dataclass(frozen=True)
class Process:
    """What was started: enough to know the process again among later ones of its number."""

    pid: int
    created: float
    command: list[str]


def start(places: Places, name: str, recipe: str, options: Sequence[str], program: str) -> Process:
    """Begin `python PROGRAM RECIPE OPTIONS` for run `name`; it outlives whoever began it.

    Raises InputError while the run is at work.
    """
    assert program in PROGRAMS
    run = places.runs / check_name(name, "a run")
    if run.is_symlink() or (running := find(run)):
        raise InputError(f"run {name} is at work already" if running else f"{run} is a link")
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    (run / FOLDER / STOPPED).unlink(missing_ok=True)
    command = [sys.executable, program, recipe, *options]
    with (run / FOLDER / LOG).open("wb") as log:
        child = subprocess.Popen(
            command,
            cwd=places.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {LINE_SECONDS: _EVERY, "TQDM_DISABLE": "1"},
        )
    _children.append(child)
    process = Process(child.pid, psutil.Process(child.pid).create_time(), ["python", *command[1:]])
    write_json(run / FOLDER / PROCESS, asdict(process))
    return process


#: So that those that ended are waited for, and are not taken for running ones.
_children: list[subprocess.Popen[bytes]] = []


def read_process(run: Path) -> Process | None:
    """What the studio started last in a run's folder."""
    try:
        return Process(**read_json(run / FOLDER / PROCESS))
    except (FileNotFoundError, TypeError, InputError):
        return None


def find(run: Path) -> psutil.Process | None:
    """The process at work in a run's folder, if the studio started it; on Linux, whoever did."""
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
    except psutil.Error:
        return None


def _holder(lock: Path) -> int | None:
    """Who holds a lock on a file, without trying to take it, which might be in a run's way."""
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
    """Whether a process has a file open: another file system may have a file of that number too."""
    try:
        return any(Path(file.path) == path for file in process.open_files())
    except psutil.Error:
        return False


def recipe_of(run: Path, options: Sequence[str] = ()) -> Recipe:
    """The recipe that a run was made with. Raises InputError where the folder is another's copy."""
    recipe = load_recipe(run / "recipe.yaml", options)
    if recipe.folder.resolve() != run:
        raise InputError(
            f"{run.name} is a copy of run {recipe.name}, whose recipe it has: "
            f"change `name` in its recipe.yaml to {run.name}"
        )
    return recipe


def stop(run: Path) -> None:
    """End a run as Ctrl-C would, so that the same command goes on where it was."""
    process = find(run)
    if process is None:
        return
    if (run / FOLDER).is_dir():
        (run / FOLDER / STOPPED).touch()
    for one in [*process.children(recursive=True), process]:
        _tell(one, signal.SIGINT)
    gone, alive = psutil.wait_procs([process], timeout=_PATIENCE)
    for one in [*(child for each in alive for child in each.children(recursive=True)), *alive]:
        _tell(one, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_PATIENCE)


def _tell(process: psutil.Process, what: signal.Signals) -> None:
    try:
        process.send_signal(what)
    except psutil.Error:
        pass  # it ended meanwhile


def state(run: Path) -> State:
    """How a run stands."""
    if find(run):
        return "running"
    # A failure of what was started last says more than what an earlier one had finished.
    if _failed(run, _extent(run / FOLDER / LOG)):
        return "stopped" if (run / FOLDER / STOPPED).exists() else "failed"
    if (run / "evaluation" / "manifest.json").exists():
        return "finished"
    return "begun" if not (run / FOLDER / PROCESS).exists() else "stopped"


@functools.lru_cache(maxsize=4096)
def _failed(run: Path, extent: tuple[int, int] | None) -> bool:
    """Whether a run's log ends in a failure; read again when its `extent` is another."""
    return bool(extent and _FAILURE.search(_end_of_log(run, _END)))


def _extent(path: Path) -> tuple[int, int] | None:
    """A file's time and size, other ones when it was written; None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def tail(run: Path) -> list[str]:
    """The last lines of the log, without control characters; of each bar's, the last one alone."""
    return [*_collapsed(_ESCAPES.sub("", _end_of_log(run, _TAIL)).splitlines())]


def _end_of_log(run: Path, most: int) -> str:
    """The log's last bytes; none where there is no log."""
    try:
        with (run / FOLDER / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _collapsed(lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        what = PROGRESS.match(line)
        if what and following.startswith(f"  {what['what']}: "):
            continue
        line = line.rpartition("\r")[2]
        shown = line.isprintable()
        yield line if shown else "".join(c for c in line if c.isprintable() or c == "\t")


PROGRESS = re.compile(
    r"  (?P<what>[^:]+): (?P<done>[\d,]+)(?: of (?P<total>[\d,]+))? (?P<unit>[a-z ]+), "
    r"(?P<rate>[\d,.e+-]+)/s(?:, left (?P<left>[\d:]+|\?))?$"
)


def report_of(run: Path) -> Mapping[str, Any]:
    """A finished run's report, as `metrics.json` has it; empty where there is none."""
    path = run / "metrics.json"
    try:
        return _read_report(path, _extent(path))
    except (FileNotFoundError, InputError):  # a damaged one is none, and spoils no table
        return {}


@functools.lru_cache(maxsize=4096)
def _read_report(path: Path, extent: tuple[int, int] | None) -> dict[str, Any]:
    """A table of hundreds of runs reads each once, and again when its `extent` is another."""
    return dict(read_json(path))


def changed(run: Path) -> str:
    """When something changed in a run's folder: local time, which sorts as text."""
    return datetime.fromtimestamp(run.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
