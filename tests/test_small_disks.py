"""Whole runs on small disks that are filled before each stage: 64 MB, 256 MB, and a quota."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disk_faults import Fault, Place, check_end, check_failure, place_in
from rich.console import Console
from rich.table import Table

from tercet.core.disk import free_space

pytestmark = [pytest.mark.long, pytest.mark.fault("a full disk")]
#: A stage, as `--until` names it, and the part of the room of its files that is left to it.
STAGES = {
    "corpus": 0.0,
    "embeddings": 0.5,
    "queries": 0.7,
    "negatives": 0.0,
    "scores": 0.6,
    "triplets": 0.5,
    "targets": 0.0,
    "model": 0.3,
    "evaluation": 0.5,
}
_PAGE = 4_096
#: TERCET_EVERY_DISK takes all three.
DISKS = ["64m", "256m", "quota"] if "TERCET_EVERY_DISK" in os.environ else ["64m"]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("small")
    with place_in(folder, tiny_beir_path, tiny_encoder_path, tiny_cross_encoder_path) as place:
        yield place


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[bool]:
    """A disk in memory of this size; False where mounting is not allowed."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    is_mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, left: int) -> Iterator[None]:
    """Only `left` bytes are free on the disk."""
    fill = disk / "fill"
    with fill.open("wb") as file:
        file.truncate()
        while (room := free_space(disk) - left) >= _PAGE:
            file.write(bytes(min(room, 1 << 20) // _PAGE * _PAGE))
            file.flush()
    try:
        yield
    finally:
        fill.unlink()


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_that_is_full_in_each_stage(place: Place, disk: str) -> None:
    """Each stage meets the end of the disk; there is room again; the bytes are the same."""
    name, rows = f"on_{disk}", []
    run = place.run(name)
    with mounted(run, "64m" if disk == "quota" else disk) as is_mounted:
        for stage, share in STAGES.items():
            if is_mounted and disk != "quota":
                left = int(share * _size(place.run("whole") / stage)) // _PAGE * _PAGE
                with filled(run, left):
                    result = place.start(name)
                check_failure(place, name, Fault(code=errno.ENOSPC), result)
            else:
                code = errno.EDQUOT if disk == "quota" else errno.ENOSPC
                part = "/training/checkpoint-" if stage == "model" else f"/{stage}.partial/"
                fault = Fault(3, code, True, part)
                result = place.start(name, fault=fault)
                check_failure(place, name, fault, result)
            rows.append((stage, result.returncode, result.stderr.strip()))
            mended = place.start(name, more=["--until", stage])
            assert mended.returncode == 0, mended.stderr
        assert place.start(name).returncode == 0
        rows.append(("eval.py", *_evaluated_on_a_full(run, place, is_mounted and disk != "quota")))
        check_end(place, name)
        rows.append(("all, again", 0, "the same bytes, no stray file"))
    table = Table("Stage", "Exit code", f"Line on stderr ({disk})", title=disk)
    for row in rows:
        table.add_row(*(re.sub(r"/\S*/runs/", "runs/", str(cell)) for cell in row))
    Console(width=200).print(table)


def _evaluated_on_a_full(run: Path, place: Place, is_small: bool) -> tuple[int, str]:
    """What eval.py says on the full disk; then it has room."""
    if is_small:
        with filled(run, 2 * _PAGE):
            result = place.start(run.name, "eval.py")
        check_failure(place, run.name, Fault(code=errno.ENOSPC), result)
    else:
        fault = Fault(1, errno.EDQUOT, True, "/rankings/", "write")
        result = place.start(run.name, "eval.py", fault)
        check_failure(place, run.name, fault, result)
    again = place.start(run.name, "eval.py")
    assert again.returncode == 0, again.stderr
    return result.returncode, result.stderr.strip()


def _size(folder: Path) -> int:
    """Bytes of a stage's files in whole pages; of a model also its checkpoints."""
    places = [folder, folder.with_name("training")] if folder.name == "model" else [folder]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return sum(-(-file.stat().st_size // _PAGE) * _PAGE for file in files)
