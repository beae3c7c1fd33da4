"""A program that is killed at a write in a stage of a run, or a little after.

`install` reads what to do from the environment, as JSON in SOAK:

- `run`: the run's folder; `log`: a file that gets a line for each event, `STAGE PATH`;
- `at`: [the line of an event, seconds after it], or null to kill nothing;
- `whom`: "group" (this process's), "launcher", "rank 0" or "rank 1" of a launch, or "all".
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: Events of Python that change a folder, and the argument with the path that there is afterwards.
_CHANGES = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.truncate": 0}
#: Files of a run that are written when its stages are made.
_REPORT = ("report.md", "metrics.json", "README.md")


def install() -> None:
    """Watch this process's events, in the first process of a launch."""
    given = json.loads(os.environ.get("SOAK", "null"))
    if given and os.environ.get("RANK", "0") == "0":
        sys.addaudithook(_Watch(given))


def stage_of(path: str, run: str, *, reads: bool) -> str | None:
    """The stage of a file of a run: "evaluation", or "eval" for what `tercet eval` does."""
    if not path.startswith(run + "/"):
        return None
    first = path[len(run) + 1 :].partition("/")[0].removesuffix(".tmp")
    if reads:
        return "eval"
    if first.startswith("scratch-"):
        return None  # of an evaluation, by a name of its own
    if first in _REPORT:
        return "report"
    return None if "." in first.removesuffix(".partial") else first.removesuffix(".partial")


class _Watch:
    def __init__(self, given: dict[str, Any]) -> None:
        self._run, self._whom = given["run"], given["whom"]
        self._at, self._reads = given["at"], bool(given.get("reads"))
        self._log = os.open(given["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._busy = threading.local()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if getattr(self._busy, "now", False):
            return
        place = self._place(event, arguments)
        if place is None:
            return
        path = os.fspath(place)
        stage = stage_of(path if isinstance(path, str) else "", self._run, reads=self._reads)
        if stage is None:
            return
        self._busy.now = True
        try:
            self._happened(stage, path)
        finally:
            self._busy.now = False

    def _place(self, event: str, arguments: tuple[Any, ...]) -> Any:
        if event == "open":
            path, _, flags = arguments
            wanted = self._reads or bool((flags or 0) & _WRITES)
            return path if wanted and isinstance(path, str | os.PathLike) else None
        return arguments[_CHANGES[event]] if event in _CHANGES else None

    def _happened(self, stage: str, path: str) -> None:
        line = f"{stage} {path[len(self._run) + 1 :]}"
        os.write(self._log, f"{line}\n".encode())
        if self._at and line == self._at[0]:
            if not self._at[1]:
                self._kill()
            threading.Thread(target=self._later, daemon=True).start()

    def _later(self) -> None:
        time.sleep(self._at[1])
        self._kill()

    def _kill(self) -> None:
        os.write(self._log, b"killed\n")
        launcher = os.getppid()
        whom = {"rank 0": [os.getpid()], "launcher": [launcher], "rank 1": [], "all": [launcher]}
        if self._whom == "group":
            os.killpg(os.getpgid(0), signal.SIGKILL)
        mine = os.getpid()
        ranks = [each.pid for each in psutil.Process(launcher).children() if each.pid != mine]
        victims = whom[self._whom] + (ranks if self._whom in ("rank 1", "all") else [])
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        if self._whom == "all":
            os.kill(mine, signal.SIGKILL)


def sitecustomize(folder: Path) -> None:
    """Write a module that Python imports at its start, which installs the watch."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\n"
    (folder / "sitecustomize.py").write_text(text + "import kills\nkills.install()\n")
