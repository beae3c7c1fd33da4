"""A retriever's best passages, read again by a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tercet.core.schema import Ranking, Retriever, Teacher
from tercet.retrieval.latency import phase
from tercet.retrieval.validation import check_k, in_order

#: The texts of passages, by the ids that are asked for.
Texts = Callable[[Iterable[str]], Mapping[str, str]]


class RerankedRetriever:
    """A `Retriever` that puts another's first `depth` passages in the order of a teacher's scores.

    Those below keep their order, and follow. `texts` maps passage ids to what the teacher reads of
    them.
    """

    def __init__(
        self,
        retriever: Retriever,
        teacher: Teacher,
        texts: Texts,
        depth: int,
        name: str | None = None,
    ) -> None:
        self._retriever = retriever
        self._teacher = teacher
        self._texts = texts
        self._depth = depth
        self._name = name

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._name or f"{self._retriever.name} reranked"

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`; what is not reranked scores one less a rank than what is."""
        check_k(k)
        rankings = self._retriever.search(queries, max(k, self._depth))
        with phase("rerank"):
            texts = self._texts({p for ranking in rankings for p, _ in ranking[: self._depth]})
            scores = self._score(queries, rankings, texts)
            return [
                self._reorder(query, ranking, scores, texts)[:k]
                for query, ranking in zip(queries, rankings, strict=True)
            ]

    def _score(
        self, queries: Sequence[str], rankings: Sequence[Ranking], texts: Mapping[str, str]
    ) -> dict[tuple[str, str], float]:
        # Each pair once, and in an order of their own: a quantised teacher's scores depend a little
        # on what else is in a batch, and must not depend on the order of queries.
        pairs = sorted(
            {
                (query, texts[passage])
                for query, ranking in zip(queries, rankings, strict=True)
                for passage, _ in ranking[: self._depth]
            }
        )
        return dict(zip(pairs, self._teacher.score(pairs).tolist(), strict=True)) if pairs else {}

    def _reorder(
        self,
        query: str,
        ranking: Ranking,
        scores: Mapping[tuple[str, str], float],
        texts: Mapping[str, str],
    ) -> list[tuple[str, float]]:
        first = [(p, scores[query, texts[p]]) for p, _ in ranking[: self._depth]]
        best = list(in_order(first, len(first)))
        floor = best[-1][1] if best else 0.0
        rest = enumerate(ranking[self._depth :], 1)
        return best + [(p, float(np.float32(floor - place))) for place, (p, _) in rest]
