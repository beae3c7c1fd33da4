"""Optional dependencies: `pip install 'tercet[EXTRA]'`."""

from __future__ import annotations

import importlib.util

from tercet.core.schema import InputError


def missing(package: str, extra: str) -> InputError:
    """The error for a package that is not installed, with the extra that brings it."""
    return InputError(f"{package} is not installed: pip install 'tercet[{extra}]'")


def check_installed(*packages: str, extra: str | None = None) -> None:
    """Raise InputError for the first package that is not installed; its extra has its name.

    Another extra's name is given as `extra`.
    """
    for package in packages:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:  # a folder of that name is no package
            raise missing(package, extra or package)
