"""Retrievers: dense and reranked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tercet.core.schema import Encoder, Index, Ranking, Retriever, Teacher
from tercet.core.text import as_texts
from tercet.retrieval.latency import phase, phase_once
from tercet.retrieval.validation import check_k, in_order


class DenseRetriever:
    """A `Retriever` of an encoder and an index of that encoder's passage vectors.

    `name` is its name in reports, by default the encoder's. It returns at most `top_k` passages.
    """

    def __init__(
        self, encoder: Encoder, index: Index, name: str | None = None, top_k: int | None = None
    ) -> None:
        self._top_k = top_k
        self._encoder = encoder
        self._index = index
        self._name = name

    @property
    def name(self) -> str:
        """Its name in reports and candidate columns."""
        return self._encoder.name if self._name is None else self._name

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`."""
        queries = as_texts(queries)
        key = id(self._encoder), tuple(queries)
        vectors = phase_once("encode", key, lambda: self._encoder.encode_queries(queries))
        with phase("search"):
            return self._index.search(vectors, min(k, self._top_k or k))

    def close(self) -> None:
        """Free the index; a collection on a server is kept."""
        self._index.discard()


#: Passage ids -> texts by id.
_Texts = Callable[[Iterable[str]], Mapping[str, str]]


class RerankedRetriever:
    """A `Retriever` that reorders another's first `depth` passages by a cross-encoder's scores.

    Passages below that depth follow in their original order. `texts` maps passage ids to texts.
    """

    def __init__(
        self,
        retriever: Retriever,
        teacher: Teacher,
        texts: _Texts,
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
        """Its name in reports."""
        return self._name or f"{self._retriever.name} reranked"

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`; below `depth` each passage scores 1 less than the one before."""
        check_k(k)
        queries = as_texts(queries)
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
        # Each pair once, sorted: the scores of a quantised teacher depend slightly on the batch and
        # must not depend on the order of queries.
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
