"""A researcher's bookmarks with manual topics, from the archive of cherche 2.2.1 (MIT).

A passage is a bookmark: its title, and its comment with the arXiv summary. A query is the label of
a topic; the bookmarks with that topic are relevant.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tercet.core.cache import cache_folder
from tercet.core.files import digest, file_sha256
from tercet.core.schema import InputError, Passage, Query
from tercet.core.text import one_line

SHA256 = "7984a88f0bf9349cd08907baefc2527deaacea95d3acf5f4a1692896c507fe34"
_DEV_TOPICS = 366
_READING = 1  # increased when the same archive is read differently


class Bookmarks:
    """Reads the bookmarks from the archive, whose SHA-256 is checked."""

    def __init__(self, path: str) -> None:
        self.archive = Path(path)
        kept = cache_folder("corpora") / self.archive.name
        if not self.archive.exists() and kept.is_file():
            self.archive = kept
        if not self.archive.is_file():
            raise InputError(f"{path}: no such file (corpus.path): `tercet demo` brings it")
        if file_sha256(self.archive) != SHA256:
            raise InputError(f"{path}: not the archive of cherche 2.2.1 (its SHA-256 differs)")
        with tarfile.open(self.archive) as tar:
            self._documents = _member(tar, "docs.json")
            self._tags = _member(tar, "tags.json")

    def identity(self) -> str:
        """Digest of the archive and the reader's version."""
        return digest([SHA256, _READING])

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """Bookmarks in the archive's order, duplicates merged under the first one's URL."""
        for passage in self._merged():
            yield passage.id, passage

    def queries(self) -> Iterator[tuple[str, Query]]:
        """Labels of the topics with at least two passages."""
        for topic in self._topics():
            yield topic, Query(topic, self._tags[topic]["prefLabel"][0])

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Each topic's passages; the topics with the smallest hashes are the dev split."""
        topics = self._topics()
        by_hash = sorted(topics, key=lambda topic: hashlib.sha256(topic.encode()).hexdigest())
        dev = set(by_hash[:_DEV_TOPICS])
        for topic, passages in topics.items():
            for passage in passages:
                yield topic, "dev" if topic in dev else "test", topic, passage, 1

    def _merged(self) -> dict[Passage, set[str]]:
        """Passages with their topics."""
        topics: dict[tuple[str, str], set[str]] = defaultdict(set)
        first: dict[tuple[str, str], str] = {}
        for document in self._documents:
            title = one_line(document["title"])
            text = one_line(f"{document['comment']} {document['arxiv_summary']}")
            first.setdefault((title, text), document["document"])
            topics[title, text].update(document["tag"])
        return {Passage(first[key], *key): filed for key, filed in topics.items()}

    def _topics(self) -> dict[str, list[str]]:
        topics: dict[str, list[str]] = defaultdict(list)
        for passage, filed in self._merged().items():
            for topic in sorted(filed):
                if passage.contents:
                    topics[topic].append(passage.id)
        return {topic: passages for topic, passages in topics.items() if len(passages) >= 2}


def _member(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(f"cherche-2.2.1/cherche/data/semanlink/{name}")
    assert file, "the SHA-256 was checked"
    return json.load(file)
