"""Disks that are full or fail: named in one line, and met before what they would spoil.

Libraries raise errors of their own for a write that fails, often without the file. `writing` turns
them into an OSError that names it, and `told` into a line for who reads it. Space that is going to
be mapped is reserved first: where a mapped file has holes, a full disk ends the process by SIGBUS.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tercet.core.text import bytes_text

#: Scratch files in a run's folder begin with it; the run's next start removes what is left.
SCRATCH = "scratch-"
#: errno -> what has happened, and what to do.
_FAULTS = {
    errno.ENOSPC: ("the disk is full", "make room"),
    errno.EDQUOT: ("the quota of disk space is used up", "remove files or have it raised"),
    errno.EFBIG: ("files may not become that large there", "see `ulimit -f`, or move the folder"),
    errno.EIO: ("the disk failed (input/output error)", "check it"),
    errno.ESTALE: ("the network file system lost it (stale file handle)", "mount it again"),
    errno.EROFS: ("the file system is read-only", "make it writable"),
    errno.EINVAL: ("its file system refused the call (invalid argument)", "move the folder"),
}
_THEN = "then run the same command again"
#: Texts of libraries' errors; torch and numpy do not say why a write failed.
_TEXTS = {
    "database or disk is full": errno.ENOSPC,
    "disk i/o error": errno.EIO,
    "attempt to write a readonly database": errno.EROFS,
} | {os.strerror(code).lower(): code for code in _FAULTS if code != errno.EINVAL}
_NUMBERED = re.compile(r"(?:os error|\[errno) (\d{1,5})\b", re.IGNORECASE)
_SILENT = re.compile(
    r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+|\d+ requested and \d+ written"
)
_REFUSES_TO_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV)
_ZEROS = bytes(1 << 20)


class NoRoom(OSError):
    """A disk is too full for what is going to be written."""


def code_of(error: BaseException, place: Path | None = None) -> int | None:
    """The errno of a disk's fault, whichever library raises it; None for any other error.

    Where the library does not say, it is that of a full disk if `place` is on one.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _FAULTS else None
    text = str(error)
    if found := _NUMBERED.search(text):
        return code if (code := int(found[1])) in _FAULTS else None
    if _SILENT.search(text):
        return errno.ENOSPC if place and free_space(place) < len(_ZEROS) else errno.EIO
    return next((code for part, code in _TEXTS.items() if part in text.lower()), None)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk's fault within the block into an OSError that names `path`, or a file of it."""
    try:
        yield
    except Exception as error:  # libraries' errors share no narrower base
        code = code_of(error, path)
        if code is None or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def told(error: BaseException) -> str | None:
    """A disk's fault, or that of a file, in one line: the file, what happened, and what to do.

    None for an error of another kind.
    """
    code = code_of(error)
    if not isinstance(error, OSError):
        text = " ".join(str(error).split())
        return None if code is None else f"{text}: {_FAULTS[code][1]}, {_THEN}"
    if code is None and error.filename is None:
        return None
    cause, advice = _FAULTS.get(code or 0, (error.strerror, "mend that"))
    if isinstance(error, NoRoom):
        cause = error.strerror
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}{cause}: {advice}, {_THEN}"


def free_space(place: Path) -> int:
    """Bytes that are free on the disk of a path, or of the nearest folder above it that exists."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def check_room(place: Path, needed: int, what: str) -> None:
    """Raise NoRoom unless `needed` bytes are free there; `what` takes them."""
    if (free := free_space(place)) < needed:
        why = f"{what} takes {bytes_text(needed)}, and the disk has {bytes_text(free)} left"
        raise NoRoom(errno.ENOSPC, why, str(place))


def reserve(file: IO[bytes], size: int) -> None:
    """Give an empty file `size` bytes that are the disk's own. Raises OSError if it lacks them."""
    try:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as error:
        if error.errno not in _REFUSES_TO_RESERVE:
            raise
    for start in range(0, size, len(_ZEROS)):
        file.write(_ZEROS[: size - start])
    file.flush()
    file.seek(0)


_scratch: list[Path] = []


@contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Within the block, scratch files are made in `folder`."""
    _scratch.append(folder)
    try:
        yield
    finally:
        _scratch.remove(folder)


def scratch_folder() -> Path:
    """The folder for scratch files: that of the run at work, else the system's."""
    return _scratch[-1] if _scratch else Path(tempfile.gettempdir())


def remove_scratch(folder: Path) -> None:
    """Remove the scratch that a killed process left in a folder."""
    for left in folder.glob(f"{SCRATCH}*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
