"""Queries without a model: salient spans of passages, for keyword and topic search."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet.core.schema import Passage

_URL, _UNBROKEN = re.compile(r"https?://\S+"), re.compile(r"\S+")
_DOMAIN = re.compile(r"\.\w+")
_CLAUSE = re.compile(r"[^\w\s'’&+#/-]+|[\n\r]+|\s[-–—|/]+\s")
_WORD = re.compile(r"[^\W_][\w'’&+#/-]*")

_MAX_WORDS = 3
# A common word is in more than this fraction of the passages, and in more than _FEW of them.
_COMMON, _FEW = 0.02, 10
_HALF_POSITION = 12  # the word position at which a span's weight is halved
_ENOUGH = 50_000  # passages whose words are counted, to limit memory


@dataclass(frozen=True)
class _Span:
    text: str
    words: tuple[str, ...]
    start: int


class SpanGenerator:
    """Samples spans of one to three words, in favour of rare words and early positions.

    Rarity is the mean inverse document frequency of the words, so that longer spans are not
    favoured. Position counts because the title comes first. A span does not begin or end with a
    common word.
    """

    name = "spans"
    identity = "spans"

    def __init__(self, corpus: Sequence[str]) -> None:
        self._frequency: Counter[str] = Counter()
        self._size = 0
        for row in range(0, len(corpus), 1 + len(corpus) // _ENOUGH):
            self._size += 1
            words = {word for span in _spans(corpus[row], 1) for word in span.words}
            self._frequency.update(words)

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        """Up to `per_passage` different spans per passage; none if all its words are common."""
        return [self._draw(passage, per_passage, seed) for passage in passages]

    def _draw(self, passage: Passage, count: int, seed: int) -> list[str]:
        spans = {
            " ".join(span.words): span
            for span in reversed(_spans(passage.contents, _MAX_WORDS))
            if not self._is_common(span.words[0]) and not self._is_common(span.words[-1])
        }
        if not spans:
            return []
        # In a tiny corpus a word may be in all passages and have weight zero.
        weights = np.array([max(self._weight(span), 1e-9) for span in spans.values()])
        key = f"{seed}\0{passage.id}".encode()
        random = np.random.default_rng(list(hashlib.sha256(key).digest()[:16]))
        count = min(count, len(spans))
        chosen = random.choice(len(spans), count, replace=False, p=weights / weights.sum())
        texts = [span.text for span in spans.values()]
        return [texts[i] for i in chosen]

    def _is_common(self, word: str) -> bool:
        limit = max(_FEW, _COMMON * self._size)
        return len(word) < 2 or word.isdecimal() or self._frequency[word] > limit

    def _weight(self, span: _Span) -> float:
        rarity = [math.log((self._size + 1) / (self._frequency[word] + 1)) for word in span.words]
        return sum(rarity) / len(rarity) / (1 + span.start / _HALF_POSITION)


def _spans(text: str, longest: int) -> list[_Span]:
    """Runs of up to `longest` words within a clause, with the position of their first word."""
    spans, place = [], 0
    for clause in _CLAUSE.split(_without_addresses(text)):
        words = list(_WORD.finditer(clause))
        for i in range(len(words)):
            for n in range(1, min(longest, len(words) - i) + 1):
                run = words[i : i + n]
                lowered = tuple(word.group().lower() for word in run)
                spans.append(_Span(clause[run[0].start() : run[-1].end()], lowered, place + i))
        place += len(words)
    return spans


def _without_addresses(text: str) -> str:
    """The text with " . " for its URLs and email addresses, in time linear in its length."""
    if "@" in text:
        return _UNBROKEN.sub(lambda found: _without_address(found[0]), text)
    return _URL.sub(" . ", text)


def _without_address(unbroken: str) -> str:
    """As `_without_addresses`, of a text without blanks.

    An email address begins where the text does, and ends at its last dot before a letter.
    """
    if "@" not in unbroken or _URL.match(unbroken):
        return _URL.sub(" . ", unbroken)
    ends = list(_DOMAIN.finditer(unbroken))
    if not ends or not 0 < unbroken.find("@", 1) < ends[-1].start() - 1:
        return _URL.sub(" . ", unbroken)
    return " . " + _URL.sub(" . ", unbroken[ends[-1].end() :])
