"""Models in another form, made once, kept, found again by what they were made of."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder(form: str) -> Path:
    """Where models in a form are kept: $TERCET_CACHE/<form>, or ~/.cache/tercet/<form>."""
    root = os.environ.get("TERCET_CACHE") or "~/.cache/tercet"
    return Path(root).expanduser() / form


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make`, which is given another name for it, unless it is there already.

    It gets its own name once it is whole, so that a run that is killed leaves nothing half made.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix="unfinished-"))
    try:
        make(unfinished)
        unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process was quicker
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
