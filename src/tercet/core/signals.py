"""Signals that end a program: it stops as by Ctrl-C, and training saves a checkpoint first."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent dies


class Interrupted(BaseException):
    """Another signal than Ctrl-C's has asked the program to end.

    `code` is the exit code, as a shell gives it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.name, self.code = signal.Signals(number).name, 128 + number


class _State:
    """Whether a signal waits for the end of a step, and which has come."""

    deferred = False
    pending: int | None = None


def _end(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Interrupted(number)


@contextmanager
def handled() -> Iterator[None]:
    """Raise Interrupted at SIGTERM and SIGHUP, and KeyboardInterrupt at SIGINT.

    A signal that is ignored stays ignored. Child processes that inherit this end as they would
    without it.
    """
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif _State.deferred and _State.pending is None:
            _State.pending = number
        else:  # nothing to wait for, or asked twice
            raise _end(number)

    before = {}
    try:
        for number in _ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    except ValueError:  # not in the main thread, where Python handles none
        pass
    try:
        yield
    finally:
        _State.deferred, _State.pending = False, None
        for number, handler in before.items():
            signal.signal(number, handler)


def defer() -> None:
    """From here on a first signal waits for `stop_if_asked`; a second one stops at once."""
    _State.deferred = True


def asked() -> bool:
    """Whether a signal waits."""
    return _State.pending is not None


def stop_if_asked() -> None:
    """Defer no longer, and raise what a signal that waits raises."""
    _State.deferred = False
    number, _State.pending = _State.pending, None
    if number is not None:
        raise _end(number)


def end_with_parent() -> None:
    """Get SIGTERM when the parent process dies: a killed launcher leaves no process at work.

    Linux alone has this.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
