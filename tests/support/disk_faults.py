"""Disks that fail at a chosen write: a library that is preloaded into the programs of a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fork_server
import pytest
from programs import ROOT, Finished

_SOURCE = Path(__file__).with_name("failing_writes.c")


@dataclass(frozen=True)
class Fault:
    """The n-th call that fails, with an errno; n 0 is none.

    Only calls of files with `part` in their path below the run's folder count, and of one kind of
    `call`. A `sticky` fault stays: all that follow fail, too.
    """

    n: int = 0
    code: int = 0
    sticky: bool = False
    part: str = "/"
    call: str = "any"


@dataclass(frozen=True)
class Programs:
    """Programs of the checkout, on a disk that fails where it is told to."""

    folder: Path

    def run(self, name: str, *arguments: object, on: Path, fault: Fault, log: Path) -> Finished:
        """Run a program; the log gets a line a call: its number, its name, its file."""
        f = fault
        asked = f"{on}|{f.part}|{f.call}|{f.n}|{f.code}|{int(f.sticky)}|{log}"
        command = [str(self.folder / "python"), str(ROOT / name), *map(str, arguments)]
        given = os.environ | {"FAIL_AT": asked, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=given)


@contextmanager
def programs_on_a_failing_disk(folder: Path) -> Iterator[Programs]:
    """Serve the programs in `folder`; skips the test where nothing compiles C for Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler, to preload a library")
    folder.mkdir()
    library, address = folder / "failing_writes.so", folder / "server"
    flags = ["-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run([compiler, *flags], check=True)
    fork_server.programs_in(folder, address)
    command = [sys.executable, fork_server.__file__, str(address)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"LD_PRELOAD": str(library)},
    ) as server:
        assert server.stdin and server.stdout
        assert server.stdout.readline() == b"ready\n"
        yield Programs(folder)
        server.stdin.close()
