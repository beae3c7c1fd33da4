"""Values and errors shared between the processes of a launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from tercet.core.processes import is_main_process, process
from tercet.core.schema import Diverged, InputError

#: An error of another process: its exit code and its message.
Told = tuple[int, str]

_KINDS: dict[int, type[Exception]] = {kind.exit_code: kind for kind in (InputError, Diverged)}


def from_first_process(work: Callable[[], Any]) -> Any:
    """Run `work` in the first process and return its result in all of them.

    Work that depends on time or on a server would differ between processes.
    Raises InputError or RuntimeError in every process, with its message, if it fails.
    """
    if process()[1] == 1:
        return work()
    error, value = attempt(work) if is_main_process() else (None, None)
    results = share((error, value))
    raise_first([error for error, _ in results])
    return results[0][1]


def share(value: Any) -> list[Any]:
    """Return every process's value, in order of rank, in all of them."""
    PartialState(cpu=not torch.cuda.is_available())  # the first call fixes the device
    return list(gather_object([value]))


def attempt(work: Callable[[], Any]) -> tuple[Told | None, Any]:
    """Return the error and the result of `work`, one of which is None.

    In a single process errors are raised as they are.
    """
    try:
        return None, work()
    except Exception as error:
        if process()[1] == 1:
            raise
        return (getattr(error, "exit_code", 1), f"{type(error).__name__}: {error}"), None


def raise_first(errors: Sequence[Told | None]) -> None:
    """Raise the first error of `attempt` among the processes', in order of rank."""
    for rank, error in enumerate(errors):
        if error:
            kind = _KINDS.get(error[0], RuntimeError)
            raise kind(f"process {rank} failed: {error[1]}")
