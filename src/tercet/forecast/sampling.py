"""Sampled queries and their candidate lists, from which a forecast estimates the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tercet.core.schema import Passage
from tercet.forecast.throughput import Found

_BATCHES = 50  # simulated batches


@dataclass(frozen=True)
class Draws:
    """Pairs of query and passage; `own` has the characters of each query's source passage."""

    pairs: list[tuple[str, str]]
    own: np.ndarray

    def mean(self, lengths: np.ndarray, characters: float) -> float:
        """The mean of the pairs' `lengths`, corrected by a control variate.

        By chance the sampled queries are about shorter or longer passages than average, and so are
        their candidates. The mean length in `characters` of all passages is known: the regression
        on it removes that part of the sampling error.
        """
        apart = self.own - self.own.mean()
        slope = float(apart @ lengths) / max(float(apart @ apart), 1.0)
        return float(lengths.mean()) + slope * (characters - float(self.own.mean()))


@dataclass(frozen=True)
class Lists:
    """Sampled queries, each with its source passage, and the rankings found for them.

    A list has the query's source passage and `candidates` others, divided among the retrievers by
    share. `found` has the same queries in the same order.
    """

    queries: list[tuple[str, Passage]]
    found: Sequence[Found]
    candidates: int

    def scored(self, count: int, seed: int) -> Draws:
        """Draw pairs as the teacher scores them, in random order."""
        return self._draws(count, seed, 1 / (self.candidates + 1))

    def trained_on(self, negatives: int, count: int, seed: int) -> Draws:
        """Draw pairs as training reads them, in random order."""
        return self._draws(count, seed, 1 / (negatives + 1))

    def drawn(self, negatives: int, seed: int) -> list[list[Passage]]:
        """Each query's source passage and up to `negatives` different candidates."""
        random = np.random.default_rng(seed)
        lists = []
        for row, (_, source) in enumerate(self.queries):
            picks = {source.id: source}
            for _ in range(4 * negatives):
                other = self._pick(row, random)
                if other and len(picks) <= negatives:
                    picks[other.id] = other
            lists.append(list(picks.values()))
        return lists

    def _draws(self, count: int, seed: int, source_share: float) -> Draws:
        """Draw each query about equally often, with its source passage or a candidate."""
        random = np.random.default_rng(seed)
        rows = np.resize(random.permutation(len(self.queries)), count)
        pairs, own = [], []
        for row in rows.tolist():
            query, passage = self.queries[row]
            other = self._pick(row, random) if random.random() > source_share else None
            pairs.append((query, (other or passage).contents))
            own.append(len(passage.contents))
        return Draws(pairs, np.array(own, np.float64))

    def _pick(self, row: int, random: np.random.Generator) -> Passage | None:
        """A random candidate of a list; None if nothing was found.

        If a retriever found fewer than its share, the others fill its places.
        """
        weights = np.array([f.share * len(f.rankings[row]) / f.reach for f in self.found])
        if not weights.any():
            return None
        ranking = self.found[random.choice(len(weights), p=weights / weights.sum())].rankings[row]
        return ranking[random.integers(len(ranking))]

    def passages_a_batch(self, queries: int, negatives: int, seed: int) -> float:
        """Expected number of different passages in a batch of `queries`.

        The mean over simulated batches of the sampled queries. Repetitions found in a sample of the
        passages are scaled up to all of them. A sample with less than one expected candidate per
        list says nothing about shared candidates and is ignored.
        """
        random, size = np.random.default_rng(seed), min(queries, len(self.queries))
        repeated = [
            self._repeated(random.choice(len(self.queries), size, replace=False), negatives)
            for _ in range(_BATCHES)
        ]
        return queries * (1 + negatives - float(np.mean(repeated)) / size)

    def _repeated(self, batch: np.ndarray, negatives: int) -> float:
        """Expected number of passages drawn for a query that an earlier query drew too."""
        # The probability that no query so far draws a passage.
        undrawn = {self.queries[row][1].id: 0.0 for row in batch}
        own, repeated, seen_draws = float(len(batch) - len(undrawn)), 0.0, 0.0
        for each in sorted(self.found, key=lambda found: -found.part):
            expected = self._in_sample(each)
            if expected < 1:
                continue
            chance = min(1.0, expected / each.reach) * negatives / self.candidates
            before, draws = dict(undrawn), 0.0
            for row in batch:
                draws += chance * len(each.rankings[row])
                for passage in each.rankings[row]:
                    undrawn[passage.id] = undrawn.get(passage.id, 1.0) * (1 - chance)
            seen = {p.id for row in batch for p in each.rankings[row]}
            new = sum(before.get(name, 1.0) - undrawn[name] for name in seen)
            repeated += (draws - new) / each.part
            seen_draws += draws / each.part
        # Candidates below the rankings are assumed to repeat as often as those in them.
        return own + repeated * len(batch) * negatives / seen_draws if seen_draws else own

    def _in_sample(self, found: Found) -> float:
        """Expected candidates per list within the sample that a retriever searched."""
        return self.candidates * found.share / sum(f.share for f in self.found) * found.part
