"""One border to each library: whatever its call raises becomes one line, an InputError.

No list of exception classes stands here: a list misses those of the next release.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tercet.core.disk import code_of
from tercet.core.schema import InputError
from tercet.core.text import excerpt

#: Failures of a disk, which say nothing of what was read from it.
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS)
#: Failures of the machine.
_OF_MACHINE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
#: Of RuntimeErrors: torch's on a CPU, and those of libraries in C++.
_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "std::bad_alloc")
#: Messages of these are fragments, as the key that is missing: the class's name is part of it.
_TERSE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError)
_LONGEST = 300  # characters of a library's line


@contextmanager
def border(
    what: str, advice: str = "", *, kind: type[InputError] = InputError, known: bool = True
) -> Iterator[None]:
    """Turn what the block raises into a `kind` of one line: `what`, the library's line, `advice`.

    An InputError passes, as do failures outside: of memory, of a disk. Unless `known`, the error's
    class is named.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not _of_library(error):
            raise
        raise kind(f"{what}: {reason(error, known=known)}{advice}") from error


def reason(error: BaseException, *, known: bool = True) -> str:
    """The first line of a library's message, with the class's name where that says too little."""
    lines = (line.strip() for line in str(error).splitlines())
    first = excerpt(next(filter(None, lines), ""), _LONGEST)
    name = type(error).__name__
    if not first:
        return name
    return f"{name}: {first}" if isinstance(error, _TERSE) or not known else first


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the machine or of its GPU does not suffice."""
    # torch is imported in `modeling` alone, and has a class of its own for GPUs alone.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OF_MEMORY)


def _of_library(error: BaseException) -> bool:
    """Whether an error says what is wrong with what was read or asked for."""
    if not isinstance(error, Exception):
        return type(error).__name__ == "PanicException"  # of libraries in Rust
    if is_out_of_memory(error):
        return False
    if isinstance(error, OSError) and error.errno in _OF_MACHINE:
        return False
    return code_of(error) not in _OF_DISK
