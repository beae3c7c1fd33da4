"""Runs a parser on mutated inputs, each in a child that may hang, swell or be killed by a library.

An input must be read, or refused by an `InputError` of one line. A fault is told with its seed and
number: `FUZZ_SEED=0 FUZZ_CASE=17 pytest tests/fuzz -k TARGET` does it again alone.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz_mutations import Shape, mutated

from tercet.core.schema import InputError
from tercet.core.text import LONGEST_MESSAGE, is_control

#: Seconds that an input may take, and after which a child that does not react is killed.
PATIENCE, LAST_PATIENCE = 20, 60
_SWELLS = 2 << 30  # bytes
COUNT = int(os.environ.get("FUZZ", "0"))
_SEED = int(os.environ.get("FUZZ_SEED", "0"))
_CASE = os.environ.get("FUZZ_CASE")


@dataclass(frozen=True)
class Target:
    """A parser: valid inputs of one shape, each with a hint for `read`, which gets the bytes."""

    name: str
    seeds: Sequence[tuple[str, bytes]]
    read: Callable[[str, bytes], Any]
    shape: Shape = "text"

    @property
    def valid(self) -> list[int]:
        """Numbers of the inputs that are not mutated, but for those with a hint of not."""
        return [-1 - i for i, (hint, _) in enumerate(self.seeds) if not hint.startswith("not ")]

    def case(self, number: int) -> tuple[str, bytes]:
        """An input of this seed and number; below 0 it is a valid one."""
        if number < 0:
            return self.seeds[-1 - number]
        random = Random(f"{_SEED}/{self.name}/{number}")
        hint, data = random.choice(self.seeds)
        return hint, mutated(data, random, self.shape)


@dataclass
class Outcome:
    """How many inputs were read and refused; and the faults, one of a kind with its number."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, int] = field(default_factory=dict)


class _TooLong(BaseException):
    """The input takes longer than `PATIENCE`."""


def fuzz(target: Target, count: int) -> Outcome:
    """Read `count` mutated inputs, or those that the environment asks for."""
    numbers = [int(_CASE)] if _CASE else [*target.valid, *range(COUNT or count)]
    outcome = Outcome()
    while numbers:
        done = _in_child(target, numbers, outcome)
        numbers = numbers[done:]
    told = ", ".join(f"{number:,} {what}" for what, number in sorted(outcome.counts.items()))
    print(f"\nfuzz {target.name}: {told}, seed {_SEED}", flush=True)
    for kind, number in outcome.faults.items():
        print(f"  FUZZ_CASE={number} of {target.name}: {kind}", flush=True)
    return outcome


def _in_child(target: Target, numbers: Sequence[int], outcome: Outcome) -> int:
    """Read inputs in a child until it ends; returns how many were tried."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _work(target, numbers, writing)
        finally:  # not by exit: what threads of the parent's libraries left is no longer there
            os._exit(0)
    os.close(writing)
    done, rest = 0, b""
    while True:
        ready, _, _ = select.select([reading], [], [], LAST_PATIENCE)
        block = os.read(reading, 1 << 16) if ready else b""
        if not ready:
            os.kill(child, signal.SIGKILL)
        if not block:
            break
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            what, kind = json.loads(line)
            _note(outcome, what, kind, numbers[done])
            done += 1
    os.close(reading)
    _, status = os.waitpid(child, 0)
    if done < len(numbers):
        kind = f"ended the process: {status}" if os.WIFSIGNALED(status) or status else "hangs"
        _note(outcome, "fault", kind, numbers[done])
        done += 1
    return done


def _note(outcome: Outcome, what: str, kind: str, number: int) -> None:
    if number >= 0 or what == "fault":
        outcome.counts[what] += 1
    if what == "fault":
        outcome.faults.setdefault(kind, number)


def _work(target: Target, numbers: Sequence[int], writing: int) -> None:
    quiet = os.open(os.devnull, os.O_RDWR)
    if not _CASE:
        for each in (1, 2):
            os.dup2(quiet, each)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115

    # Threads of the parent's torch and tokenizers are not here, and would be waited for.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)

    def too_long(*_: object) -> None:
        raise _TooLong

    signal.signal(signal.SIGALRM, too_long)
    for number in numbers:
        what, kind = _tried(target, number)
        os.write(writing, json.dumps([what, kind]).encode() + b"\n")


def _tried(target: Target, number: int) -> tuple[str, str]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(PATIENCE)
    try:
        hint, data = target.case(number)
        if _CASE:
            print(hint, repr(data[:2000]), flush=True)
        target.read(hint, data)
        found = ("read", "")
    except InputError as error:
        found = _judged(str(error)) if number >= 0 else ("fault", f"valid, and refused: {error}")
    except _TooLong as error:
        found = ("fault", f"takes longer than {PATIENCE} s, at {_place(error)}")
    except BaseException as error:
        if _CASE:
            traceback.print_exc()
        found = ("fault", f"{type(error).__name__} {str(error)[:80]!r} at {_place(error)}")
    finally:
        signal.alarm(0)
    swollen = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return ("fault", "takes gigabytes of memory") if swollen > _SWELLS else found


def _judged(message: str) -> tuple[str, str]:
    one = len(message.splitlines()) == 1 and not any(map(is_control, message))
    if not one or len(message) > LONGEST_MESSAGE or "Traceback" in message:
        return "fault", f"a message that is not one short line: {message[:300]!r}"
    if _CASE:
        print(message)
    return "refused", ""


def _place(error: BaseException) -> str:
    """Where in the product an error was raised, innermost, and where at all."""
    frames = traceback.extract_tb(error.__traceback__)
    root = str(Path(__file__).parents[1])
    ours = [f for f in frames if "/tercet/" in f.filename and not f.filename.startswith(root)]
    at = ours[-1] if ours else frames[-1]
    return f"{Path(at.filename).name}:{at.lineno} {at.name}"
