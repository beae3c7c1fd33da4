"""The user's cache: models that were fetched or converted, corpora, vectors that were paid for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tercet.core.disk import writing
from tercet.core.files import share


def cache_folder(form: str) -> Path:
    """Return the cache of one `form`: $TERCET_CACHE/<form>, or ~/.cache/tercet/<form>."""
    root = os.environ.get("TERCET_CACHE") or "~/.cache/tercet"
    return Path(root).expanduser() / form


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`; if it does not exist, `make` fills a temporary one, which is then renamed.

    A killed run therefore leaves no unfinished `folder`.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.parent / f"unfinished-{uuid4().hex}"
    unfinished.mkdir()  # with the umask's permissions, which mkdtemp's folders do not have
    try:
        with writing(folder):
            make(unfinished)
            share(unfinished)
            unfinished.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
