"""Passages and the vectors that an index holds of them -> a query encoder of that index's space.

Whatever made the vectors need not be at hand. A linear map of a local model's query vectors is
found in two steps: in closed form from the passages' vectors (`closed_form`), then by how a few
words of a passage rank the passages (`word_ranking`). What is open in the first, and whether the
second is kept, is chosen by how well words of passages held out find their passage.
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
#: Words of a span that stands for a query.
_SHORTEST, _LONGEST = 3, 30
#: Ridge penalties, as parts of the mean variance of a dimension.
_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Parts of the way from *back* to *onto*.
_WEIGHTS = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)
#: Passages whose words rank them, and spans of each.
_RANKED, _SPANS = 16_384, 4
_HELD_OUT, _MOST_HELD_OUT = 0.05, 1_000
_SEARCHED = 20_000  # passages that spans are to find theirs among


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

    They are float32 [len(contents), dimension], compared by `similarity`; `passages` of them, a
    seeded sample, are read. Returns counts, what was chosen, and `mrr`, how well spans of held-out
    passages find theirs: with it, with what closed form came to, and with each part of that alone;
    the same spans chose them. Raises InputError for too few passages, and for vectors that are not
    finite.
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
    asked = encoder.encode(_spans(contents, held_out, (seed,)), "query").astype(np.float64)
    among = known(rows[:_SEARCHED])  # those held out come first

    def mrr(found: Map) -> float:
        scores = found(asked) @ among.T
        own = scores[np.arange(count), np.arange(count)]
        # Equal scores, and what is no number, count against the map.
        return float(np.mean(1 / (~(scores < own[:, None])).sum(axis=1)))

    back = _best(mrr, {p: read.moments.back(p) for p in _PENALTIES})
    onto = _best(mrr, {p: read.moments.onto(p) for p in _PENALTIES})
    mixed = _best(mrr, {w: between(back.map, onto.map, w) for w in _WEIGHTS})
    spans = [text for n in range(_SPANS) for text in _spans(contents, others[:_RANKED], (seed, n))]
    drawn = encoder.encode(spans, "query", show_progress="reading words of passages")
    texts = [*np.split(drawn, _SPANS), read.asked]
    refined = refine(
        mixed.map, Ranked(texts, read.told, read.stored), seed=seed, device=encoder.device
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
        "mrr": best.figure,
        "mrr_closed_form": mixed.figure,
        "mrr_back": back.figure,
        "mrr_onto": onto.figure,
    }


class _Stored:
    """The stored vectors of passages: of unit length where cosine compares them."""

    def __init__(self, vectors: Vectors, similarity: Similarity) -> None:
        self._vectors, self._similarity = vectors, similarity

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float64 [rows, dimension]. Raises InputError for one that is not finite."""
        found = np.asarray(self._vectors[rows], np.float64)
        if not np.isfinite(found).all():
            raise InputError("stored vectors of passages are not finite: make them again")
        if self._similarity == "dot":
            return found
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), TINY)


@dataclass
class _Read:
    """The passages as the map is found from: all in sums, the first _RANKED in vectors as well."""

    moments: Moments
    asked: np.ndarray
    told: np.ndarray
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
        asked = told = encoder.encode(texts, "query", show_progress="reading passages")
        if not alike:
            told = encoder.encode(texts, "passage", show_progress="embedding passages")
        moments.asked.add(asked.astype(np.float64), y)
        moments.told.add(told.astype(np.float64), y)
        if start < _RANKED:
            kept.append((asked, told, y.astype(np.float32)))
    return _Read(moments, *(np.concatenate(each)[:_RANKED] for each in zip(*kept, strict=True)))


def _spans(contents: Sequence[str], rows: np.ndarray, seed: tuple[int, ...]) -> list[str]:
    """A few words of each passage."""
    return [words(contents[row], np.random.default_rng((*seed, row))) for row in rows.tolist()]


@dataclass(frozen=True)
class _Best:
    map: Map
    number: float
    figure: float


def _best(figure: Callable[[Map], float], maps: dict[float, Map]) -> _Best:
    """The map of the highest figure, of equals the first, with its number and that figure."""
    figures = {number: figure(found) for number, found in maps.items()}
    number = max(figures, key=lambda each: figures[each])
    return _Best(maps[number], number, figures[number])


def words(text: str, random: np.random.Generator) -> str:
    """_SHORTEST to _LONGEST words of a text that follow one another; all of a text that has fewer."""
    split = text.split()
    count = int(random.integers(_SHORTEST, _LONGEST + 1))
    if len(split) <= count:
        return text
    first = int(random.integers(len(split) - count + 1))
    return " ".join(split[first : first + count])
