"""The processes of a launch, and the lock of a run's folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tercet.core.disk import code_of, remove_scratch, scratch_in, writing
from tercet.core.schema import InputError


def process() -> tuple[int, int]:
    """This process's rank in a launch, and how many there are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the first, or only, process of a launch."""
    return process()[0] == 0


def command_line() -> list[str]:
    """The words of this process's command: `tercet ...`, or `python program.py ...`."""
    program, *given = sys.argv
    if program in ("", "-c") or "ipykernel" in sys.modules:
        return ["python"]
    if Path(program).name in ("tercet", "__main__.py"):
        return ["tercet", *given]
    return ["python", program, *given]


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the same folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock a run's folder against a second run; remove it at the end if nothing was made.

    Within the block scratch files are made there, and a disk's fault names at least the folder.
    Raises InputError if another process holds the lock.
    """
    with _locked(run), scratch_in(run), writing(run):
        yield


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    if not is_main_process():
        yield
        return
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    lock = FileLock(run / ".lock")
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        remove_scratch(run)
    except Timeout:
        raise InputError(f"{run} is in use by another run: wait for it, or set --name") from None
    except OSError as error:
        if code_of(error):  # of a full disk, or one that fails
            raise
        raise InputError(f"{run} cannot be written ({error.strerror}): set --runs_dir") from None
    try:
        yield
    finally:
        if made and {p.name for p in run.iterdir()} <= {".lock"}:
            (run / ".lock").unlink(missing_ok=True)
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
        lock.release()
