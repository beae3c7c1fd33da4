"""Rows of a dataset: streamed from the Hub, or from a folder that `datasets` wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError
from tercet.core.text import error_text
from tercet.data.sources.cells import Rows, is_wanted

_SAVED = ("state.json", "dataset_dict.json")  # files of `save_to_disk`: one split, or several
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubDataset:
    """A dataset by its Hub name, or in a folder."""

    def __init__(
        self,
        path: str,
        *,
        config: str | None = None,
        split: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.path, self.config, self.split, self.revision = path, config, split, revision

    @cached_property
    def identity(self) -> str:
        """Digest of a local folder's files, or the current commit of the revision."""
        if Path(self.path).is_dir():
            files = sorted(f for f in Path(self.path).rglob("*") if f.is_file())
            return digest([(f.relative_to(self.path).as_posix(), file_sha256(f)) for f in files])
        if self.revision and _COMMIT.fullmatch(self.revision):
            return self.revision
        with _refusing(self.path):
            return str(HfApi().dataset_info(self.path, revision=self.revision).sha)

    def rows(self, columns: Sequence[str] | None) -> Rows:
        """Stream the rows of the split with those of `columns` that it has; None: with all.

        The split may be unset if there is only one. Raises InputError for a missing dataset,
        configuration or split, and for a dataset that needs a loading script.
        """
        # The commit of the identity: the branch may have moved since.
        commit = None if Path(self.path).is_dir() else self.identity
        with _refusing(self.path):
            rows = _open(self.path, self.config, self.split, commit)
            known = [
                n for n in rows.column_names or () if columns is not None and is_wanted(n, columns)
            ]
            rows = rows.select_columns(known) if known else rows
            place = f"{self.path} {self.split}" if self.split else self.path
            for number, row in enumerate(rows, 1):
                yield f"{place}, row {number}", row


def _open(path: str, config: str | None, split: str | None, revision: str | None) -> Any:
    # `datasets` takes a second to import.
    from datasets import DatasetDict, load_dataset, load_from_disk

    if any((Path(path) / name).is_file() for name in _SAVED):
        saved = load_from_disk(path)
        splits = dict(saved) if isinstance(saved, DatasetDict) else {split: saved}
    else:
        splits = dict(load_dataset(path, config, revision=revision, streaming=True))
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split not in splits:
        there = ", ".join(map(str, splits))
        raise InputError(f"dataset {path}: no split {split!r}; there are {there}: give `split`")
    return splits[split]


@contextmanager
def _refusing(path: str) -> Iterator[None]:
    """Re-raise errors of the libraries as InputError in one line; InputErrors pass unchanged."""
    try:
        yield
    except InputError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise InputError(
            f"{path}: no such file or folder here, and as a dataset's name the Hub says {status}: "
            "is it one, and are you allowed to read it (HF_TOKEN)?"
        ) from None
    except Exception as error:  # many types, if the network is down
        here = "" if Path(path).exists() else "no such file or folder here, and as a "
        raise InputError(f"{path}: {here}dataset it cannot be read ({error_text(error)})") from None
