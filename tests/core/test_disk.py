"""Disks that are full or fail: libraries' errors, room that is reserved, lines that are told."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from tokenizers import Tokenizer, models

from tercet.core.disk import NoRoom, check_room, free_space, reserve, told, writing
from tercet.core.files import write_file
from tercet.core.mapped import map_scratch, new_scratch
from tercet.core.processes import locked
from tercet.core.schema import InputError

pytestmark = pytest.mark.fault("a full disk")


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing more fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def in_sqlite(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE t (value BLOB)")
        db.execute("INSERT INTO t VALUES (?)", (bytes(1 << 20),))
        db.commit()


def in_arrow(file: Path) -> None:
    table = pa.table({"n": np.arange(100_000)})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def in_faiss(file: Path) -> None:
    index = faiss.IndexFlatIP(64)
    index.add(np.zeros((4_000, 64), np.float32))
    faiss.write_index(index, str(file))


def as_tokenizer(file: Path) -> None:
    words = {f"word{number}": number for number in range(20_000)}
    Tokenizer(models.WordLevel(words, "word0")).save(str(file))


WRITERS: dict[str, Callable[[Path], object]] = {
    "torch": lambda file: torch.save({"w": torch.zeros(100_000)}, file),
    "safetensors of torch": lambda file: safetensors.torch.save_file(
        {"w": torch.zeros(100_000)}, file
    ),
    "safetensors of numpy": lambda file: safetensors.numpy.save_file({"w": np.zeros(50_000)}, file),
    "arrow": in_arrow,
    "parquet": lambda file: pq.write_table(pa.table({"n": np.random.rand(100_000)}), file),
    "numpy": lambda file: np.save(file, np.zeros(100_000)),
    "sqlite": in_sqlite,
    "faiss": in_faiss,
    "tokenizers": as_tokenizer,
    "ours": lambda file: write_file(file, bytes(1 << 20)),
}


@pytest.mark.parametrize("library", WRITERS)
def test_whichever_library_cannot_write_the_line_names_the_file(
    library: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.npy"
    WRITERS[library](file)
    file.unlink()
    with full_after(20_000), pytest.raises(OSError) as caught, writing(file):
        WRITERS[library](file)
    line = told(caught.value)
    assert line and line.startswith(f"{file}"), line
    assert line.endswith("then run the same command again") and "\n" not in line


#: What libraries say of these; torch says only that it failed.
TEXTS = [
    (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), errno.EIO),
    (RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0"), errno.EIO),
    (RuntimeError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
    (RuntimeError("Disk quota exceeded (os error 122)"), errno.EDQUOT),
    (RuntimeError("process 1 failed: OSError: [Errno 116] Stale file handle: 'f'"), errno.ESTALE),
    (sqlite3.OperationalError("database or disk is full"), errno.ENOSPC),
    (sqlite3.OperationalError("disk I/O error"), errno.EIO),
    (OSError(errno.EINVAL, "Invalid argument"), errno.EINVAL),
]


@pytest.mark.parametrize(("error", "code"), TEXTS, ids=[str(text)[:40] for text, _ in TEXTS])
def test_the_cause_is_read_from_what_libraries_say(
    error: Exception, code: int, tmp_path: Path
) -> None:
    with pytest.raises(OSError) as caught, writing(tmp_path / "f"):
        raise error
    assert caught.value.errno == code and caught.value.filename == str(tmp_path / "f")
    assert told(error), "also where it reaches the command line as it is"


@pytest.mark.parametrize(
    "error", [ValueError("Invalid argument"), KeyError("x"), ConnectionResetError(104, "reset")]
)
def test_other_errors_stay_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, writing(tmp_path / "f"):
        raise error
    assert caught.value is error and told(error) is None


def test_a_file_that_is_named_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, writing(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "inner"))
    assert told(caught.value) == (
        f"{tmp_path / 'inner'}: the disk is full: make room, then run the same command again"
    )


def test_what_is_mapped_has_its_room_on_the_disk(tmp_path: Path) -> None:
    path = new_scratch(tmp_path, 4_096, 256)
    stat = path.stat()
    assert stat.st_size == 4 << 20 and stat.st_blocks * 512 >= stat.st_size, "it has holes"
    map_scratch(path, 4_096, 256)[:] = 1


def test_where_a_file_system_reserves_nothing_zeros_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(file: int, at: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    with (tmp_path / "f").open("w+b") as file:
        reserve(file, 3_000_001)
        assert file.tell() == 0
    stat = (tmp_path / "f").stat()
    assert stat.st_size == 3_000_001 and stat.st_blocks * 512 >= stat.st_size
    reserve(io.BytesIO(), 0)


def test_scratch_that_finds_no_room_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    with full_after(10_000), pytest.raises(OSError) as caught:
        new_scratch(tmp_path, 4_096, 256)
    assert str(tmp_path / "scratch-") in str(told(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "scratch-file").write_bytes(b"lists")
    (tmp_path / "scratch-folder").mkdir()
    (tmp_path / "scratch-folder" / "inner").touch()
    with locked(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_a_disk_without_room_is_told_before_the_work(tmp_path: Path) -> None:
    check_room(tmp_path / "not" / "made", 1, "a checkpoint")
    with pytest.raises(NoRoom) as caught:
        check_room(tmp_path / "not" / "made", 2 * free_space(tmp_path), "a checkpoint")
    line = str(told(caught.value))
    assert "a checkpoint takes" in line and "and the disk has" in line and "make room" in line


def test_a_folder_that_cannot_be_made_is_wrong_input_and_a_full_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="set --runs_dir"), locked(tmp_path / "file" / "run"):
        pass

    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "run"))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"), locked(tmp_path / "run"):
        pass
