"""BM25: retrieval by shared terms, the baseline that a dense retriever has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np
import Stemmer
from bm25s import stopwords

from tercet.core.schema import InputError, Passage, Ranking
from tercet.retrieval.latency import phase
from tercet.retrieval.postings import Postings
from tercet.retrieval.validation import check_ids, check_k, in_order

_AT_ONCE = 2_048  # passages whose terms are in memory


class BM25Retriever:
    """A `Retriever` that scores as Lucene's BM25 does, over titles and texts together.

    Terms are runs of two or more letters or digits, in lower case, less the language's stop words,
    stemmed by Snowball. Languages that bm25s has no stop words for keep all their words; None
    neither drops nor stems any. The defaults of `k1` and `b` are Anserini's.

    The index is in files without names; `ids` are the passages', where they are at hand.

    Raises InputError for a language without a stemmer, for duplicate ids and for no passages.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        k1: float = 0.9,
        b: float = 0.4,
        language: str | None = "english",
        ids: Sequence[str] | None = None,
    ) -> None:
        if language is not None and language not in Stemmer.algorithms():
            raise InputError(
                f"BM25 has no stemmer for language {language!r}: "
                f"choose one of {', '.join(Stemmer.algorithms())}, or none"
            )
        self._stemmer = Stemmer.Stemmer(language) if language is not None else None
        self._stop_words = _stop_words(language)
        self._ids = [passage.id for passage in passages] if ids is None else ids
        check_ids(self._ids)
        starts = range(0, len(passages), _AT_ONCE)
        blocks = (self._terms([p.contents for p in passages[i : i + _AT_ONCE]]) for i in starts)
        self._postings = Postings(blocks, k1, b)

    @property
    def name(self) -> str:
        """What reports and candidate columns call it."""
        return "bm25"

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`; a passage that shares no term with the query is not returned."""
        check_k(k)
        with phase("search"):
            return [self._best(terms, k) for terms in self._terms(queries)]

    def _terms(self, texts: Sequence[str]) -> list[list[str]]:
        return bm25s.tokenize(
            list(texts),
            stopwords=self._stop_words,
            stemmer=self._stemmer,
            return_ids=False,
            show_progress=False,
        )

    def _best(self, terms: list[str], k: int) -> Ranking:
        scores = self._postings.scores(terms)
        floor = np.partition(scores, -k)[-k] if k < len(scores) else 0
        positions = np.flatnonzero((scores > 0) & (scores >= floor))
        found = positions.tolist()
        return in_order([(self._ids[i], float(scores[i])) for i in found], k)


def _stop_words(language: str | None) -> list[str]:
    if language is None:
        return []
    suffix = "EN" if language == "english" else language.upper()
    return list(getattr(stopwords, f"STOPWORDS_{suffix}", ()))
