"""Queries that say nearly what a judged query says: training on them would be training on the test.

Texts are compared by their sets of three-letter pieces. Two whose sets share `SHARED` of all their
pieces are near duplicates, as "Graph databases?" and "graph database" are, or "climate change is
real" and "is climate change real".
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

#: Part of two texts' pieces, counted together, that near duplicates share (Jaccard's index).
SHARED = 0.75


def normalised(text: str) -> str:
    """A text by its words alone, whatever case, punctuation, width and space."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(c if _is_of_word(c) else " " for c in folded).split())


def _is_of_word(character: str) -> bool:
    """Letters, marks (the vowels of Hindi and Thai) and numbers; C, C++ and C# are three."""
    return character in "+#_" or unicodedata.category(character)[0] in "LMN"


def pieces(text: str) -> set[str]:
    """The three-letter pieces of a text's words, its ends marked by a blank."""
    padded = f" {normalised(text)} "
    return {padded[i : i + 3] for i in range(max(1, len(padded) - 2))}


class NearDuplicates:
    """Finds out whether a text is near any of those given, without comparing it with each.

    Exact, not hashed: two sets that share so much share one of their few rarest pieces (prefix
    filtering, Chaudhuri et al. 2006), which alone are looked up.
    """

    def __init__(self, texts: Iterable[str], shared: float = SHARED) -> None:
        self.shared = shared
        self._sets = [found for text in texts if (found := pieces(text)) != {" " * 2}]
        self._frequency = Counter(piece for found in self._sets for piece in found)
        self._with: dict[str, list[int]] = defaultdict(list)
        for number, found in enumerate(self._sets):
            for piece in self._rarest(found):
                self._with[piece].append(number)

    def __contains__(self, text: str) -> bool:
        found = pieces(text)
        candidates = {n for piece in self._rarest(found) for n in self._with.get(piece, ())}
        return any(
            len(found & other) >= self.shared * len(found | other)
            for other in map(self._sets.__getitem__, candidates)
        )

    def _rarest(self, found: set[str]) -> list[str]:
        """As many as at least one must be shared of."""
        rarest = sorted(found, key=lambda piece: (self._frequency[piece], piece))
        return rarest[: len(found) - math.ceil(self.shared * len(found) - 1e-9) + 1]
