"""Atomic file writes, JSON files and SHA-256 digests."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, Literal, TypeVar, get_args, get_origin, get_type_hints

from tercet.core.console import console
from tercet.core.disk import writing
from tercet.core.environment import written
from tercet.core.processes import is_main_process
from tercet.core.schema import InputError

#: Hex SHA-256 of the files that this process has read, by what tells that they are as they were.
_READ: dict[tuple[int, ...], str] = {}
#: Nanoseconds after which a file system's clock tells a later write from the one before.
_TICK = 50_000_000
Value = TypeVar("Value")
_said: set[Path] = set()  # damaged files that were told


def slug(name: str) -> str:
    """The name with "_" for characters that a file name should not have."""
    return re.sub(r"[^\w.+-]+", "_", name)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, which a process reads once while the file stays as it is."""
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        key = (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        if key in _READ:
            return _READ[key]
        settled = time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _TICK
        found = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if settled and after.st_ctime_ns == before.st_ctime_ns:
        _READ[key] = found
    return found


def weights_digest(folder: Path) -> str:
    """Hex SHA-256 of a model folder's weights, its .safetensors files one after the other.

    Of a model in one file it is that file's own. Raises InputError for a folder without weights.
    """
    files = sorted(
        (file.relative_to(folder).as_posix(), file)
        for file in folder.rglob("*.safetensors")
        if file.name != "space.safetensors" and not file.relative_to(folder).match("checkpoint-*/*")
    )
    if not files:
        raise InputError(f"{folder} holds no model: there is no .safetensors file")
    whole = hashlib.sha256()
    for _, path in files:
        with path.open("rb") as file_:
            while block := file_.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically and durably."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file that is synced and renamed to `path` at the end of the block.

    Raises OSError naming `path` if the disk is full or fails.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # the first process has synced and moved it
            sync_folder(path.parent)


def share(folder: Path) -> None:
    """Give the files below a folder its permissions to read and write: those of the umask.

    safetensors writes files that their owner alone can read.
    """
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(folder.stat().st_mode & 0o666)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, texts from environment variables as the recipe has them."""
    write_file(path, (json.dumps(written(value), indent=2, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises InputError naming the file if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path} is damaged: remove {path.parent} to make it again") from None


def kept(path: Path, read: Callable[[Any], Value]) -> Value | None:
    """What `read` makes of a JSON file that a run keeps for itself; None if there is none.

    A file that is damaged, or of another version, is said once and counts as none: it is written
    again. `read` raises TypeError and its kin for what it does not know, as `typed` does.
    """
    try:
        return read(read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (InputError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        if path not in _said and is_main_process():
            _said.add(path)
            console.warn(f"{path} is damaged, or of another version: left out, and written again")
        return None


def typed(kind: type[Value], value: Any) -> Value:
    """A dataclass of a JSON object. Raises TypeError unless each field's value is of its kind."""
    for name, hint in get_type_hints(kind).items():
        if name in value and not _is_of(hint, value[name]):
            raise TypeError(f"{name} {value[name]!r} is of another kind")
    return kind(**value)


def _is_of(hint: Any, value: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_is_of(one, value) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, get_origin(hint) or hint)


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that renames in it survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
