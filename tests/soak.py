"""Kills runs at random moments, resumes them, and compares them with runs that nobody killed.

    make soak N=100

runs `python tests/soak.py RECIPE KILLS KILLS_OF_TWO SEED`, by `test_soak.py`, which makes the
recipe. A cycle is one run: it is started again and again, each start is killed by SIGKILL at a
write of a stage that is drawn, or up to a third of a second after it; at last one is left to its
end. Then `tercet eval` is killed while it works, and left to its end. What came out is compared
with two uninterrupted runs, in every file and value in which these two are equal: times differ.
Files that no uninterrupted run leaves, files in the temporary folder and processes are counted.

A start takes no imports: it is a fork of this process, which has the libraries loaded. Two ranks
are started by `accelerate launch` as users do; there the launcher, one rank or all are killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.append(str(Path(__file__).parent / "support"))
import kills

ROOT = Path(__file__).parents[1]
#: Of a run's files, those that tell how it went: times, and what a resumed run does again. The
#: launcher of torch keeps empty folders for logs, which it leaves when it is killed.
_HISTORY = ("resources.json", "curves.jsonl", ".lock", "mixtures.json", "tensorboard/")
_HISTORY += ("tmp/torchelastic_",)
#: Of JSON files, values that are measured anew, and what the Trainer logs of the training loss: its
#: mean since the last log, of which a resumed run has the steps since its checkpoint alone.
_TIMES = re.compile(
    r"/(seconds|per_second|p50|p95|p99|gigaflops_\w+|finished)(/|$)|^/log_history/\d+/loss$"
)
_LAUNCH = ("-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file")
_WHOM = ("launcher", "rank 0", "rank 1", "all")
_LATEST, _PATIENCE = 0.3, 60.0  # seconds after an event; to wait for processes to end
_KILLED_IN = 0.75  # of a cycle's stages


@dataclass
class Soak:
    """The folder of all runs, and what has been found."""

    recipe: Path
    random: random.Random
    folder: Path = field(init=False)
    landed: Counter[str] = field(default_factory=Counter)
    of_two: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    started: int = 0

    def __post_init__(self) -> None:
        self.folder = self.recipe.parent / "soak"
        kills.sitecustomize(self.folder / "site")

    def start(self, cycle: Path, program: str, at: Any, *, ranks: int) -> tuple[int, list[str]]:
        """Run a program in a cycle's folder; return its exit code and the lines of its events."""
        run, log = cycle / "runs" / "soaked", cycle / "events.log"
        log.unlink(missing_ok=True)
        whom = self.random.choice(_WHOM) if ranks > 1 else "group"
        watch = {"run": str(run), "log": str(log), "at": at, "whom": whom}
        watch["reads"] = program == "eval.py"
        given = [str(ROOT / program), str(self.recipe), "--runs_dir", str(cycle / "runs")]
        path = os.pathsep.join((str(self.folder / "site"), os.environ.get("PYTHONPATH", "")))
        environment = {"SOAK": json.dumps(watch), "TMPDIR": str(cycle / "tmp"), "PYTHONPATH": path}
        (cycle / "tmp").mkdir(parents=True, exist_ok=True)
        self.started += 1
        with (cycle / "output.log").open("a") as output:
            print(f"=== {program} {at} {whom}", file=output, flush=True)
            work = _launch if ranks > 1 else _fork
            code = work(given, os.environ | environment, output)
        self._wait(cycle)
        return code, log.read_text().splitlines() if log.exists() else []

    def _wait(self, cycle: Path) -> None:
        """Wait for all processes of a cycle to end; those that do not are leftovers."""
        deadline = time.monotonic() + _PATIENCE
        while (left := list(_processes(cycle))) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            self.leftovers.append(f"process {' '.join(process.cmdline())[:200]}")
            process.kill()

    def uninterrupted(self, name: str, ranks: int) -> tuple[Path, dict[str, list[list[str]]]]:
        """A run that nobody kills, and its events by program and stage."""
        cycle = self.folder / name
        events = {}
        for program in ("train.py", "eval.py"):
            own = ranks if program == "train.py" else 1
            code, lines = self.start(cycle, program, None, ranks=own)
            assert code == 0, (cycle / "output.log").read_text()[-3000:]
            events[program] = lines
        return cycle, events

    def cycle(self, number: int, ranks: int, events: dict[str, list[str]], most: int) -> Path:
        """A run that is killed at most so often, and left to its end."""
        cycle = self.folder / f"cycle-{number}-{ranks}"
        for program, lines in events.items():
            own = ranks if program == "train.py" else 1
            for line in self._moments(lines, most):
                most -= self._kill(cycle, program, line, own)
            code, _ = self.start(cycle, program, None, ranks=own)
            if code:
                tail = (cycle / "output.log").read_text()[-2000:]
                self.differences.append(f"{cycle.name}: {program} ended with {code}: {tail}")
        return cycle

    def _moments(self, lines: list[str], most: int) -> list[str]:
        """Draw events, one of each of some stages, in the order in which they happen."""
        order = {line: place for place, line in reversed([*enumerate(lines)])}
        by_stage: dict[str, list[str]] = {}
        for line in order:
            by_stage.setdefault(line.partition(" ")[0], []).append(line)
        wanted = [stage for stage in sorted(by_stage) if self.random.random() < _KILLED_IN]
        wanted = ["eval", "eval"] if "eval" in by_stage else wanted
        drawn = self.random.sample(wanted, min(most, len(wanted)))
        return sorted((self.random.choice(by_stage[stage]) for stage in drawn), key=order.get)

    def _kill(self, cycle: Path, program: str, line: str, ranks: int) -> bool:
        late = self.random.choice((0, 0, self.random.uniform(0, _LATEST)))
        code, lines = self.start(cycle, program, [line, late], ranks=ranks)
        if "killed" not in lines:
            if code:
                tail = (cycle / "output.log").read_text()[-2000:]
                self.differences.append(f"{cycle.name}: {program} ended with {code}: {tail}")
            return False
        last = next(each for each in reversed(lines) if each != "killed")
        where = last.partition(" ")[0]
        self.landed[where] += 1
        self.of_two[where] += ranks > 1
        print(f"{cycle.name} {program}: killed {late:.2f} s after {line}, at {last}", flush=True)
        return True

    def compare(self, cycle: Path, expected: dict[str, str], names: set[str]) -> None:
        """Count what differs from the uninterrupted runs, and what they do not leave."""
        found = facts(cycle)
        for name, value in expected.items():
            if found.get(name) != value:
                self.differences.append(f"{cycle.name}: {name}: {value} {found.get(name)}")
        self.leftovers += [f"{cycle.name}: {name}" for name in sorted(left(cycle) - names)]


def left(cycle: Path) -> set[str]:
    """The files and folders of a cycle, but those that tell how it went."""
    places = [*(cycle / "runs").rglob("*"), *(cycle / "tmp").rglob("*")]
    names = {place.relative_to(cycle).as_posix() for place in places}
    return {name for name in names if not any(part in name for part in _HISTORY)}


def facts(cycle: Path) -> dict[str, str]:
    """The SHA-256 of each file, and each value of a JSON file, by place."""
    known: dict[str, str] = {}
    for name in sorted(left(cycle)):
        file = cycle / name
        if not file.is_file() or not name.startswith("runs/"):
            continue
        if file.suffix == ".json":
            leaves = _leaves(json.loads(file.read_text()))
            known |= {f"{name}#{key}": value for key, value in leaves if not _TIMES.search(key)}
        else:
            known[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return known


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from _leaves(inner, f"{place}/{key}")
    else:
        yield place, repr(value)


def _processes(cycle: Path) -> Iterator[psutil.Process]:
    """Other processes that work in a cycle's folder."""
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("TMPDIR") == str(cycle / "tmp")
            if ours and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def _launch(given: list[str], environment: dict[str, str], output: Any) -> int:
    command = [sys.executable, *_LAUNCH, str(ROOT / "accelerate_config.yaml"), *given]
    with subprocess.Popen(
        command, env=environment, stdout=output, stderr=output, start_new_session=True
    ) as started:
        return started.wait()


def _fork(given: list[str], environment: dict[str, str], output: Any) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setsid()
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, code = given, 0
    kills.install()
    try:
        runpy.run_path(given[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


def main(recipe: str, wanted: str, wanted_of_two: str, seed: str) -> int:
    """Soak until there were that many kills, of one and of two ranks; 1 if anything is wrong."""
    import tercet.commands.adapt
    import tercet.evaluation.experiment
    import tercet.reports.page.page
    import tercet.sharing.model_card  # noqa: F401

    soak = Soak(Path(recipe), random.Random(int(seed)))
    begun, compared, number = time.monotonic(), Counter[int](), 0
    for ranks, enough in ((2, int(wanted_of_two)), (1, int(wanted))):
        if not enough:
            continue
        (first, events), (second, _) = (soak.uninterrupted(f"{ranks}-{x}", ranks) for x in "ab")
        same = dict(facts(first).items() & facts(second).items())
        other = {name.partition("#")[0] for name in facts(first).keys() - same.keys()}
        print(f"{ranks} ranks: {len(same)} files and values compared; of times: {sorted(other)}")
        names = left(first) | left(second)
        while sum(soak.of_two.values() if ranks > 1 else soak.landed.values()) < enough:
            done = sum(soak.of_two.values() if ranks > 1 else soak.landed.values())
            cycle = soak.cycle(number := number + 1, ranks, events, enough - done)
            soak.compare(cycle, same, names)
            compared[ranks] += 1
            shutil.rmtree(cycle) if not soak.differences else None
    print(f"{sum(soak.landed.values())} kills, {sum(soak.of_two.values())} of them of two ranks")
    for stage, count in soak.landed.most_common():
        print(f"  {stage:<12}{count:>4}{soak.of_two[stage]:>4} of two ranks")
    minutes = (time.monotonic() - begun) / 60
    print(f"{soak.started} starts, {sum(compared.values())} whole cycles, {minutes:.1f} min")
    print(f"{len(soak.differences)} differences, {len(soak.leftovers)} leftovers")
    for line in [*soak.differences, *soak.leftovers]:
        print(f"  {line}")
    return int(bool(soak.differences or soak.leftovers))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
