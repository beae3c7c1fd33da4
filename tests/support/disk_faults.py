"""Disks that fail at a chosen write: a library that is preloaded into the programs of a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fork_server
import pytest
from programs import ROOT, Finished, hashes
from recipes import tiny_recipe

from tercet.core.artifacts import existing

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


@dataclass(frozen=True)
class Place:
    """A tiny recipe, and programs on a disk that fails; each run is named."""

    recipe: Path
    programs: Programs

    def start(
        self,
        name: str,
        program: str = "train.py",
        fault: Fault | None = None,
        more: Sequence[str] = (),
    ) -> Finished:
        """Start a program on the run of a name, with a fault of its disk."""
        run = self.run(name)
        log = self.recipe.with_name(f"{name}.log")
        log.unlink(missing_ok=True)
        given = (self.recipe, "--name", name, *more)
        return self.programs.run(program, *given, on=run, fault=fault or Fault(), log=log)

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.recipe.parent / "runs" / name

    def calls(self, name: str) -> list[tuple[str, str]]:
        """The calls of the last start: their name and file."""
        lines = self.recipe.with_name(f"{name}.log").read_text().splitlines()
        return [(line.split(" ")[1], line.split(" ", 2)[2]) for line in lines]


@contextmanager
def place_in(folder: Path, corpus: Path, model: Path, teacher: Path) -> Iterator[Place]:
    """A place whose run "whole" was made and evaluated without faults; `logs` has its calls."""
    recipe = tiny_recipe(
        folder,
        corpus=corpus,
        queries={"shard_passages": 16},
        teacher={"name": teacher, "shard_pairs": 128, "student_weight": 0.5},
        model=model,
        index={"backend": "faiss", "factory": "IVF{lists},SQ8", "on_disk": True},
        triplets={"negatives_per_query": 3},
        training={"num_train_epochs": 1, "learning_rate": 1e-3},
        evaluation={"interpolation_steps": 1, "latency_queries": 0},
    )
    with programs_on_a_failing_disk(folder / "programs") as programs:
        place = Place(recipe, programs)
        for program in ("train.py", "eval.py"):
            whole = place.start("whole", program)
            assert whole.returncode == 0, whole.stderr
            (folder / "whole.log").rename(folder / f"{program}.log")
        yield place


def check_failure(place: Place, name: str, fault: Fault, result: Finished) -> None:
    """One line and exit code 1; every artefact that was finished is whole."""
    said = f"{fault}: {result.returncode} {result.stderr}"
    assert result.returncode == 1, said
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, said
    assert str(place.run(name).name) in result.stderr, f"{said} names no file"
    assert "run the same command again" in result.stderr, said
    for manifest in place.run(name).rglob("manifest.json"):
        if ".partial" not in str(manifest):
            artifact = existing(manifest.parent)
            assert artifact
            artifact.verify()


def check_end(place: Place, name: str) -> None:
    """The same bytes as the run without faults, and nothing that should not be there."""
    assert hashes(place.run(name)) == hashes(place.run("whole"))
    left = [path.name for path in place.run(name).rglob("*")]
    stray = [n for n in left if re.search(r"\.tmp$|\.partial$|\.old$|^scratch-|^_aside$|^sums$", n)]
    assert not stray
