"""How well-known models pool and compare, for folders whose files leave it out."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

Similarity = Literal["dot", "cosine"]

#: Pooling and similarity by patterns of names, the first that fits. The files take precedence.
_KNOWN: dict[str, tuple[str, Similarity]] = {
    "*tas-b*": ("cls", "dot"),
    "*tasb*": ("cls", "dot"),
    "*co-condenser*": ("cls", "dot"),
    "*contriever*": ("mean", "dot"),
    "msmarco-*-dot-*": ("mean", "dot"),
    "multi-qa-*-dot-*": ("cls", "dot"),
    "multi-qa-*-cos-*": ("mean", "cosine"),
    "msmarco-*": ("mean", "cosine"),
    "all-minilm-*": ("mean", "cosine"),
    "all-mpnet-*": ("mean", "cosine"),
    "all-distilroberta-*": ("mean", "cosine"),
    "paraphrase-*": ("mean", "cosine"),
    "e5-mistral-*": ("lasttoken", "cosine"),
    "e5-*": ("mean", "cosine"),
    "multilingual-e5-*": ("mean", "cosine"),
    "bge-*": ("cls", "cosine"),
    "snowflake-arctic-embed-*": ("cls", "cosine"),
    "mxbai-embed-large-*": ("cls", "cosine"),
    "qwen3-embedding-*": ("lasttoken", "cosine"),
}


def known_as(name: str) -> tuple[str, Similarity] | None:
    """Pooling and similarity of a model by its folder's or Hub name, or None."""
    last = Path(name).name.lower()
    return next((value for end, value in _KNOWN.items() if fnmatch(last, end)), None)
