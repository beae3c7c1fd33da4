"""Programs of the checkout: in this process, in one of their own, or killed at moments of a run.

    programs.py FOLDER MOMENTS PROGRAM [ARGUMENT...]

is what `killed_at` starts.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
Finished = subprocess.CompletedProcess[str]


def run_program(name: str, *arguments: object, **environment: str) -> Finished:
    """Run a program as a shell would."""
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    given = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=given)


def run_here(name: str, *arguments: object, **environment: str) -> Finished:
    """Run a program in this process, which has its libraries loaded; an exception is the test's."""
    command = [str(ROOT / name), *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", command),
        patch.dict(os.environ, environment),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Finished(command, code, out.getvalue(), err.getvalue())


def made(output: str) -> list[str]:
    """The stages that a program says it made, in order."""
    return [line.split()[1].rstrip(":") for line in output.splitlines() if line.startswith("make ")]


def manifests(run: Path) -> dict[str, dict[str, Any]]:
    """Every stage's manifest."""
    return {path.parent.name: json.loads(path.read_text()) for path in run.glob("*/manifest.json")}


def hashes(run: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of every file of every stage."""
    return {
        stage: {name: entry["sha256"] for name, entry in manifest["files"].items()}
        for stage, manifest in manifests(run).items()
    }


def last_checkpoint(run: Path) -> Path:
    """The checkpoint of the most steps."""
    return max(run.glob("training/checkpoint-*"), key=lambda path: int(path.name[11:]))


def killed_at(
    moments: list[str], run: Path, log: Path, name: str, *arguments: object, **environment: str
) -> None:
    """Start a program once for each moment, and kill it when such a file is there.

    A moment is a pattern of files in the run's folder. The program goes on where the last was
    killed; one that ends before its moment is left at that, and the log does not have its line
    "killed at MOMENT".
    """
    command = [sys.executable, __file__, str(run), json.dumps(moments), name, *map(str, arguments)]
    with log.open("a") as file:
        given = os.environ | environment
        subprocess.run(command, stdout=file, stderr=file, env=given, timeout=600, check=True)


def _kill_at_moments(run: Path, moments: list[str], name: str, arguments: list[str]) -> None:
    sys.argv = [str(ROOT / name), *arguments]
    for module in ("tercet.sharing.model_card", "tercet.evaluation.experiment"):
        importlib.import_module(module)  # every fork has its libraries, and no more
    for moment in moments:
        child = os.fork()
        if not child:
            _run_and_exit(sys.argv[0])
        while not any(run.glob(moment)):
            if os.waitpid(child, os.WNOHANG)[0]:
                break
            time.sleep(0.002)
        else:
            os.kill(child, signal.SIGKILL)
            if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
                print(f"killed at {moment}", flush=True)


def _run_and_exit(program: str) -> None:
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _kill_at_moments(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], sys.argv[4:])
