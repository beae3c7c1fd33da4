"""What stands for a whole run in its forecast: sampled queries and their lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet.calibration import Found
from tercet.schema import Passage

_BATCHES = 50  # batches that the number of different passages is a mean over


@dataclass(frozen=True)
class Lists:
    """Sampled queries, each with the passage that it is about, and what was found for them.

    A list has the query's own passage and `candidates` others, in which the retrievers have their
    shares. `found` is of the same queries in the same order.
    """

    queries: list[tuple[str, Passage]]
    found: Sequence[Found]
    candidates: int

    def _weights(self, row: int) -> list[float]:
        return [each.share if each.rankings[row] else 0.0 for each in self.found]

    def _pick(self, row: int, random: np.random.Generator) -> Passage | None:
        """One of a list's candidates; None where nothing was found."""
        weights = np.array(self._weights(row))
        if not weights.any():
            return None
        ranking = self.found[random.choice(len(weights), p=weights / weights.sum())].rankings[row]
        return ranking[random.integers(len(ranking))]

    def pairs(self, count: int, seed: int) -> list[tuple[str, str]]:
        """Seeded draws among all pairs of query and passage, in random order."""
        random = np.random.default_rng(seed)
        rows = np.resize(random.permutation(len(self.queries)), count)
        pairs = []
        for row in rows.tolist():
            query, own = self.queries[row]
            other = self._pick(row, random) if random.random() * (self.candidates + 1) > 1 else None
            pairs.append((query, (other or own).contents))
        return pairs

    def drawn(self, negatives: int, seed: int) -> list[list[Passage]]:
        """Each query's own passage, and up to so many different ones of its candidates."""
        random = np.random.default_rng(seed)
        lists = []
        for row, (_, own) in enumerate(self.queries):
            picks = {own.id: own}
            for _ in range(4 * negatives):
                other = self._pick(row, random)
                if other and len(picks) <= negatives:
                    picks[other.id] = other
            lists.append(list(picks.values()))
        return lists

    def passages_a_batch(self, queries: int, negatives: int, seed: int) -> float:
        """Different passages that so many queries with so many negatives each are expected to have.

        Reckoned over seeded batches of the sampled queries. Of what a retriever found in a sample
        of the passages, each stands for as many as were not in it.
        """
        random, size = np.random.default_rng(seed), min(queries, len(self.queries))
        found = [
            self._different(random.choice(len(self.queries), size, replace=False), negatives)
            for _ in range(_BATCHES)
        ]
        return float(np.mean(found)) * queries / size

    def _different(self, batch: np.ndarray, negatives: int) -> float:
        """Passages that these queries are expected to draw, each counted once."""
        own = {self.queries[row][1].id for row in batch}
        #: The chance that nobody in the batch draws a passage, by what was looked at so far.
        nobody = dict.fromkeys(own, 0.0)
        different = float(len(own))
        for each in sorted(self.found, key=lambda found: -found.part):
            chance = self._stands_for(each) * negatives / self.candidates
            before = dict(nobody)
            for row in batch:
                for passage in each.rankings[row]:
                    nobody[passage.id] = nobody.get(passage.id, 1.0) * (1 - chance)
            seen = {p.id for row in batch for p in each.rankings[row]}
            new = sum(before.get(name, 1.0) - nobody[name] for name in seen)
            different += new / each.part
        return different

    def _stands_for(self, found: Found) -> float:
        """Candidates among all passages for which one that was found in the sample stands.

        Times its part of the passages: below one where even the first was too many.
        """
        reach = max((len(ranking) for ranking in found.rankings), default=0)
        shares = sum(each.share for each in self.found)
        wanted = self.candidates * found.share / shares * found.part
        return min(1.0, wanted / reach) if reach else 0.0
