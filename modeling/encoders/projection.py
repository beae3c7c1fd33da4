"""Passages and an index's vectors of them -> a query encoder for that index.

The model that made the vectors is not needed: it may be closed or retired. A local model's query
vectors are mapped into the index's space by a linear projection, found in two steps:

1. In closed form, by ridge regression on pairs of vectors of the same passage (`ridge.py`).
2. By gradient descent on how a few words of a passage rank the passages (`ranking.py`), which
   starts from the first.

There are no queries yet, so spans of a few words stand for them. Spans of held-out passages choose
the penalties and the mixture of the first step, and whether the second is kept, by how high they
rank their own passage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tercet.core.mapped import BLOCK, Vectors
from tercet.core.schema import InputError
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.encoders.ranking import Ranked, refine
from tercet.modeling.encoders.ridge import TINY, Map, Moments, between
from tercet.modeling.encoders.st_format import Similarity

_FEWEST = 20  # passages
#: Words of a span that stands for a query, at least and at most.
_SHORTEST, _LONGEST = 3, 30
#: Ridge penalties to choose from, relative to the mean variance of a dimension.
_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Weights of *onto* in its mixture with *back* (see `ridge.py`) to choose from.
_WEIGHTS = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)
#: Passages used in the second step, and spans of each.
_RANKED, _SPANS = 16_384, 4
_HELD_OUT, _MOST_HELD_OUT = 0.05, 1_000
_SEARCHED = 20_000  # passages that held-out spans search


def regress(
    encoder: BiEncoder,
    contents: Sequence[str],
    vectors: Vectors,
    *,
    similarity: Similarity,
    passages: int,
    seed: int,
) -> dict[str, float]:
    """Give `encoder` a projection of its query vectors into the space of `vectors`, in place.

    `vectors` are float32 [len(contents), dimension], compared by `similarity`; a seeded sample of
    `passages` of them is used. Returns counts, the choices, and the MRR of held-out spans: of the
    result (`mrr`), of the closed form, and of each of its two parts. The same spans made the
    choices, so these values are optimistic. Raises InputError for too few passages and for vectors
    that are not finite.
    """
    rows = np.random.default_rng(seed).permutation(len(contents))[:passages]
    if len(rows) < _FEWEST:
        raise InputError(
            f"{len(rows)} passages are too few to learn their vectors from: {_FEWEST} are needed"
        )
    count = max(1, min(_MOST_HELD_OUT, round(_HELD_OUT * len(rows))))
    held_out, others = rows[:count], rows[count:]
    known = _Stored(vectors, similarity)
    read = _read(encoder, contents, others, known)
    as_queries = encoder.encode(_spans(contents, held_out, (seed,)), "query").astype(np.float64)
    among = known(rows[:_SEARCHED])  # the held-out passages come first

    def mrr(found: Map) -> float:
        scores = found(as_queries) @ among.T
        own = scores[np.arange(count), np.arange(count)]
        # Ties and NaN count against the map.
        return float(np.mean(1 / (~(scores < own[:, None])).sum(axis=1)))

    back = _best(mrr, {p: read.moments.back(p) for p in _PENALTIES})
    onto = _best(mrr, {p: read.moments.onto(p) for p in _PENALTIES})
    mixed = _best(mrr, {w: between(back.map, onto.map, w) for w in _WEIGHTS})
    spans = [text for n in range(_SPANS) for text in _spans(contents, others[:_RANKED], (seed, n))]
    drawn = encoder.encode(spans, "query", show_progress="reading words of passages")
    texts = [*np.split(drawn, _SPANS), read.as_queries]
    refined = refine(
        mixed.map, Ranked(texts, read.as_passages, read.stored), seed=seed, device=encoder.device
    )
    best = _best(mrr, {0.0: mixed.map, 1.0: refined})
    encoder.project(
        best.map.weight.T.astype(np.float32), best.map.bias.astype(np.float32), similarity
    )
    return {
        "passages": len(rows),
        "held_out": count,
        "weight": mixed.number,
        "back_penalty": back.number,
        "onto_penalty": onto.number,
        "refined": best.number,
        "mrr": best.score,
        "mrr_closed_form": mixed.score,
        "mrr_back": back.score,
        "mrr_onto": onto.score,
    }


class _Stored:
    """The stored vectors of passages, normalised if they compare by cosine."""

    def __init__(self, vectors: Vectors, similarity: Similarity) -> None:
        self._vectors, self._similarity = vectors, similarity

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return float64 [rows, dimension]. Raises InputError if one is not finite."""
        found = np.asarray(self._vectors[rows], np.float64)
        if not np.isfinite(found).all():
            raise InputError("stored vectors of passages are not finite: make them again")
        if self._similarity == "dot":
            return found
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), TINY)


@dataclass
class _Read:
    """The passages that the map is fitted to: moments of all, vectors of the first _RANKED."""

    moments: Moments
    as_queries: np.ndarray
    as_passages: np.ndarray
    stored: np.ndarray


def _read(encoder: BiEncoder, contents: Sequence[str], rows: np.ndarray, stored: _Stored) -> _Read:
    moments, config = Moments(), encoder.config
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    alike = (config.query_prompt, config.query_max_length) == (
        config.passage_prompt,
        config.max_length,
    )
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        texts, y = [contents[row] for row in block.tolist()], stored(block)
        as_queries = as_passages = encoder.encode(texts, "query", show_progress="reading passages")
        if not alike:
            as_passages = encoder.encode(texts, "passage", show_progress="embedding passages")
        moments.as_queries.add(as_queries.astype(np.float64), y)
        moments.as_passages.add(as_passages.astype(np.float64), y)
        if start < _RANKED:
            kept.append((as_queries, as_passages, y.astype(np.float32)))
    return _Read(moments, *(np.concatenate(each)[:_RANKED] for each in zip(*kept, strict=True)))


def _spans(contents: Sequence[str], rows: np.ndarray, seed: tuple[int, ...]) -> list[str]:
    """Draw one span of each passage."""
    return [words(contents[row], np.random.default_rng((*seed, row))) for row in rows.tolist()]


@dataclass(frozen=True)
class _Best:
    map: Map
    number: float
    score: float


def _best(score: Callable[[Map], float], maps: dict[float, Map]) -> _Best:
    """Return the map with the highest `score`, the first among equals, with its key and value."""
    scores = {number: score(found) for number, found in maps.items()}
    number = max(scores, key=lambda each: scores[each])
    return _Best(maps[number], number, scores[number])


def words(text: str, random: np.random.Generator) -> str:
    """Draw _SHORTEST to _LONGEST consecutive words of a text; all of a shorter text."""
    split = text.split()
    count = int(random.integers(_SHORTEST, _LONGEST + 1))
    if len(split) <= count:
        return text
    first = int(random.integers(len(split) - count + 1))
    return " ".join(split[first : first + count])
