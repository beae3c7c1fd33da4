"""Whether a path that names nothing here may be the name of a dataset on the Hub."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
#: Suffixes of files: what ends so is a path, though it names nothing.
_SUFFIXES = re.compile(
    r"\.(jsonl?|ndjson|csv|tsv|txt|parquet|xlsx?|ods|qrels?|topics|xml|sgml|gz|zip|tar|bz2|xz|zst"
    r"|md|markdown|html?|pdf|docx?|arrow|feather|pkl|db|sqlite|ya?ml)$",
    re.IGNORECASE,
)


def is_hub_name(path: str) -> bool:
    """Whether it may be a dataset's name: OWNER/NAME or NAME, no file's, in no folder of here."""
    if not _NAME.fullmatch(path) or _SUFFIXES.search(path):
        return False
    owner, slash, _ = path.partition("/")
    return not (slash and Path(owner).is_dir())
