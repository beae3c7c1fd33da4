"""What the processes of a launch tell each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from tercet.core.processes import is_main_process, process
from tercet.core.schema import InputError


def from_first_process(work: Callable[[], Any]) -> Any:
    """What `work` returns in the first process, in all of them: a live source answers each anew.

    Raises InputError or RuntimeError in every process, with its message, if it fails.
    """
    if process()[1] == 1:
        return work()
    error, value = _attempt(work) if is_main_process() else (None, None)
    results = _share((error, value))
    _raise_first([error for error, _ in results])
    return results[0][1]


def _share(value: Any) -> list[Any]:
    """Every process's value, in all of them, in order of rank."""
    PartialState(cpu=not torch.cuda.is_available())  # whoever comes first says what they are on
    return list(gather_object([value]))


def _attempt(work: Callable[[], Any]) -> tuple[tuple[bool, str] | None, Any]:
    """((whether the user's input is at fault, message), None) if the work fails, or its result."""
    try:
        return None, work()
    except Exception as error:
        if process()[1] == 1:
            raise
        return (isinstance(error, InputError), f"{type(error).__name__}: {error}"), None


def _raise_first(errors: Sequence[tuple[bool, str] | None]) -> None:
    for rank, error in enumerate(errors):
        if error:
            kind = InputError if error[0] else RuntimeError
            raise kind(f"process {rank} failed: {error[1]}")
