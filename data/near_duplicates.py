"""Near duplicates of judged queries: training on them would be training on the test set.

Texts are compared by their sets of character trigrams. Two with a Jaccard index of at least
`SHARED` are near duplicates, such as "Graph databases?" and "graph database", or "climate change is
real" and "is climate change real".
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

#: Jaccard index of trigrams from which texts are near duplicates.
SHARED = 0.75


def normalised(text: str) -> str:
    """The words of a text, without case, punctuation, width variants and extra spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(c if _is_of_word(c) else " " for c in folded).split())


def _is_of_word(character: str) -> bool:
    """Letters, marks (the vowels of Hindi and Thai) and numbers; C, C++ and C# are three."""
    return character in "+#_" or unicodedata.category(character)[0] in "LMN"


def pieces(text: str) -> set[str]:
    """The character trigrams of the normalised text with a blank at each end."""
    padded = f" {normalised(text)} "
    return {padded[i : i + 3] for i in range(max(1, len(padded) - 2))}


class NearDuplicates:
    """Tests whether a text is a near duplicate of any given text, without comparing all pairs.

    It is exact: near duplicates share one of their few rarest trigrams (prefix filtering, Chaudhuri
    et al. 2006), and only those are looked up.
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
        """The rarest trigrams, so many that near duplicates share at least one of them."""
        rarest = sorted(found, key=lambda piece: (self._frequency[piece], piece))
        return rarest[: len(found) - math.ceil(self.shared * len(found) - 1e-9) + 1]
