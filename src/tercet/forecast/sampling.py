"""What stands for a whole run in its forecast: sampled queries and their lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet.core.schema import Passage
from tercet.forecast.timing import Found

_BATCHES = 50  # batches that the number of different passages is a mean over


@dataclass(frozen=True)
class Draws:
    """Pairs of a query and a passage; `own` are the characters of each query's own passage."""

    pairs: list[tuple[str, str]]
    own: np.ndarray

    def mean(self, lengths: np.ndarray, characters: float) -> float:
        """The mean of the pairs' `lengths`, were own passages as long as the corpus's on average.

        A few queries are about shorter or longer passages than most by chance, and so are their
        candidates: that part of the chance is known, and taken out (a control variate).
        """
        apart = self.own - self.own.mean()
        slope = float(apart @ lengths) / max(float(apart @ apart), 1.0)
        return float(lengths.mean()) + slope * (characters - float(self.own.mean()))


@dataclass(frozen=True)
class Lists:
    """Sampled queries, each with the passage that it is about, and what was found for them.

    A list has the query's own passage and `candidates` others, in which the retrievers have their
    shares. `found` is of the same queries in the same order.
    """

    queries: list[tuple[str, Passage]]
    found: Sequence[Found]
    candidates: int

    def scored(self, count: int, seed: int) -> Draws:
        """Seeded draws among all pairs of query and passage, in random order."""
        return self._draws(count, seed, 1 / (self.candidates + 1))

    def trained_on(self, negatives: int, count: int, seed: int) -> Draws:
        """Seeded draws among the passages that training reads, with their queries."""
        return self._draws(count, seed, 1 / (negatives + 1))

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

    def _draws(self, count: int, seed: int, own_part: float) -> Draws:
        """Rows of queries, all about as often, each with its own passage or a candidate."""
        random = np.random.default_rng(seed)
        rows = np.resize(random.permutation(len(self.queries)), count)
        pairs, own = [], []
        for row in rows.tolist():
            query, passage = self.queries[row]
            other = self._pick(row, random) if random.random() > own_part else None
            pairs.append((query, (other or passage).contents))
            own.append(len(passage.contents))
        return Draws(pairs, np.array(own, np.float64))

    def _pick(self, row: int, random: np.random.Generator) -> Passage | None:
        """One of a list's candidates; None where nothing was found.

        A retriever that found fewer than its share leaves places to the others.
        """
        weights = np.array([f.share * len(f.rankings[row]) / f.reach for f in self.found])
        if not weights.any():
            return None
        ranking = self.found[random.choice(len(weights), p=weights / weights.sum())].rankings[row]
        return ranking[random.integers(len(ranking))]

    def passages_a_batch(self, queries: int, negatives: int, seed: int) -> float:
        """Different passages that so many queries with so many negatives each are expected to have.

        Reckoned over seeded batches of the sampled queries. Of what a retriever found in a sample
        of the passages, each stands for as many as were not in it; where the sample is so thin that
        it has less than one of a list's candidates, it tells nothing of who shares them.
        """
        random, size = np.random.default_rng(seed), min(queries, len(self.queries))
        repeated = [
            self._repeated(random.choice(len(self.queries), size, replace=False), negatives)
            for _ in range(_BATCHES)
        ]
        return queries * (1 + negatives - float(np.mean(repeated)) / size)

    def _repeated(self, batch: np.ndarray, negatives: int) -> float:
        """Passages drawn for these queries that are expected to have been drawn for one before."""
        #: The chance that nobody in the batch draws a passage, by what was looked at so far.
        nobody = {self.queries[row][1].id: 0.0 for row in batch}
        own, repeated, seen_draws = float(len(batch) - len(nobody)), 0.0, 0.0
        for each in sorted(self.found, key=lambda found: -found.part):
            expected = self._in_sample(each)
            if expected < 1:
                continue
            chance = min(1.0, expected / each.reach) * negatives / self.candidates
            before, draws = dict(nobody), 0.0
            for row in batch:
                draws += chance * len(each.rankings[row])
                for passage in each.rankings[row]:
                    nobody[passage.id] = nobody.get(passage.id, 1.0) * (1 - chance)
            seen = {p.id for row in batch for p in each.rankings[row]}
            new = sum(before.get(name, 1.0) - nobody[name] for name in seen)
            repeated += (draws - new) / each.part
            seen_draws += draws / each.part
        # Draws that no ranking shows are of candidates further down: taken to be as those seen.
        return own + repeated * len(batch) * negatives / seen_draws if seen_draws else own

    def _in_sample(self, found: Found) -> float:
        """A retriever's candidates of one list that are expected in the passages it searched."""
        return self.candidates * found.share / sum(f.share for f in self.found) * found.part
