"""BM25, the lexical baseline."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bm25s
import numpy as np
import Stemmer
from bm25s import stopwords

from tercet.core.disk import reserve, scratch_folder
from tercet.core.schema import InputError, Passage, Ranking
from tercet.core.text import as_texts
from tercet.retrieval.latency import phase
from tercet.retrieval.validation import check_ids, check_k, in_order

_PASSAGES_AT_ONCE = 2_048  # passages whose terms are in memory at a time
_POSTINGS_AT_ONCE = 1 << 18  # postings that are sorted at a time


class BM25Retriever:
    """A `Retriever` with Lucene's BM25 over titles and texts; a `Teacher` by its scores of pairs.

    Terms are runs of two or more letters or digits in lower case, without the language's stop
    words, stemmed by Snowball. No stop words are removed for languages that bm25s has none for;
    language None neither removes nor stems. The defaults of `k1` and `b` are Anserini's.

    Postings are in anonymous files. `ids` are the ids of the passages, if the caller has them.

    Raises InputError for a language without a stemmer, duplicate ids and no passages.
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
        starts = range(0, len(passages), _PASSAGES_AT_ONCE)
        blocks = (
            self._terms([p.contents for p in passages[i : i + _PASSAGES_AT_ONCE]]) for i in starts
        )
        self._postings = _Postings(blocks, k1, b)

    @property
    def name(self) -> str:
        """Name in reports and in the columns of candidates."""
        return "bm25"

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`; passages that share no term with the query are not returned."""
        check_k(k)
        with phase("search"):
            return [self._best(terms, k) for terms in self._terms(as_texts(queries))]

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """int64 [len(pairs)]: 1 each, so that the pairs of a query stay together."""
        return np.ones(len(pairs), dtype=np.int64)

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """float32 [len(pairs)] scores of (query, text) pairs; of passages those of a search."""
        if not pairs:
            return np.zeros(0, np.float32)
        queries, texts = (self._once(side) for side in zip(*pairs, strict=True))
        counts = {text: Counter(terms) for text, terms in texts.items()}
        scores = [self._postings.score(queries[query], counts[text]) for query, text in pairs]
        return np.array(scores, np.float32)

    def _once(self, texts: Iterable[str]) -> dict[str, list[str]]:
        """The terms of each different text."""
        texts = list(dict.fromkeys(texts))
        return dict(zip(texts, self._terms(texts), strict=True))

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


class _Postings:
    """BM25 weights of terms in passages, as an inverted index in anonymous files.

    In memory are the terms, and a few bytes per passage.
    """

    def __init__(self, blocks: Iterable[Sequence[Sequence[str]]], k1: float, b: float) -> None:
        """`blocks` hold the passages in order, each a list of terms."""
        self._k1, self._b, self._mean = k1, b, 0.0
        self._numbers: dict[str, int] = {}
        lengths: list[np.ndarray] = []
        found = tempfile.TemporaryFile(dir=scratch_folder())
        documents = 0
        for block in blocks:
            lengths.append(np.array([len(terms) for terms in block], np.float32))
            found.write(self._of(block, documents).tobytes())
            documents += len(block)
        self.passages = documents
        self._length = np.concatenate([*lengths, np.zeros(0, np.float32)])
        rows = found.tell() // 12
        self._ends = np.zeros(len(self._numbers), np.int64)
        self._rarity = np.zeros(len(self._numbers))
        # An empty file cannot be mapped.
        if rows:
            postings = np.memmap(found, np.int32, "r", shape=(rows, 3))
            self._arrange(postings, k1, b)

    def _of(self, block: Sequence[Sequence[str]], first: int) -> np.ndarray:
        """int32 [postings, 3] of a block: term, passage, frequency."""
        numbers = self._numbers
        terms = np.array([numbers.setdefault(t, len(numbers)) for doc in block for t in doc], int)
        passages = np.repeat(np.arange(len(block)), [len(doc) for doc in block])
        size = max(1, len(numbers))
        keys, counts = np.unique(passages * size + terms, return_counts=True)
        return np.stack([keys % size, first + keys // size, counts], axis=1).astype(np.int32)

    def _arrange(self, postings: np.ndarray, k1: float, b: float) -> None:
        """Sort the postings by term and compute their weights."""
        blocks = [
            postings[i : i + _POSTINGS_AT_ONCE] for i in range(0, len(postings), _POSTINGS_AT_ONCE)
        ]
        frequency = np.zeros(len(self._numbers), np.int64)
        for block in blocks:
            frequency += np.bincount(block[:, 0], minlength=len(frequency))
        self._ends = np.cumsum(frequency)
        rarity = np.log(1 + (self.passages - frequency + 0.5) / (frequency + 0.5))
        self._rarity, self._mean = rarity, float(self._length.mean(dtype=np.float64))
        share = self._length / np.float64(self._mean)
        self._held = _scratch(np.int32, len(postings))
        self._weights = _scratch(np.float32, len(postings))
        free = self._ends - frequency
        for block in blocks:
            block = block[np.argsort(block[:, 0], kind="stable")]
            term, passage, count = block.T
            firsts = np.flatnonzero(np.diff(term, prepend=-1))
            sizes = np.diff(firsts, append=len(term))
            places = free[term] + np.arange(len(term)) - np.repeat(firsts, sizes)
            self._held[places] = passage
            saturated = count / (count + k1 * (1 - b + b * share[passage].astype(np.float64)))
            self._weights[places] = rarity[term] * saturated
            free[term[firsts]] += sizes

    def scores(self, terms: Iterable[str]) -> np.ndarray:
        """float32 [passages]: sums of the terms' weights; repeated terms count repeatedly."""
        scores = np.zeros(self.passages, np.float32)
        for term in terms:
            number = self._numbers.get(term)
            if number is not None:
                here = slice(self._ends[number - 1] if number else 0, self._ends[number])
                scores[self._held[here]] += self._weights[here]
        return scores

    def score(self, query: Iterable[str], text: Mapping[str, int]) -> np.float32:
        """The score of a text with so many of each term; of a passage that of `scores`."""
        score, share = np.float32(0), sum(text.values()) / (self._mean or 1)
        least = self._k1 * (1 - self._b + self._b * share)
        for term in query:
            number, count = self._numbers.get(term), text.get(term)
            if number is not None and count:
                score += np.float32(float(self._rarity[number]) * (count / (count + least)))
        return score


def _scratch(dtype: Any, size: int) -> np.memmap:
    file = tempfile.TemporaryFile(dir=scratch_folder())
    reserve(file, size * np.dtype(dtype).itemsize)
    return np.memmap(file, dtype, "r+", shape=(size,))
