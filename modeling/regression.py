"""Passages and the vectors that an index holds of them -> a query encoder of that index's space.

Whatever made the vectors need not be at hand. A linear map of a local model's query vectors is
found in closed form; it has two parts, each a ridge regression over passages with known vectors:

- *onto*: from the local model's vector of a passage to the stored one. It knows the space: where a
  passage that says what the query says would lie.
- *back*: from the stored vector of a passage to the local model's. What comes back is compared with
  queries as the local model compares, and as q · (Av + b) = (Aᵀq) · v + q · b, the transposed map
  takes queries to where they ask the index so. It knows what queries look like.

Both are the answer to one least-squares problem, in which the wanted scores of a text with all
passages lie between those that the local model gives and those of the stored vector of its passage:
an anchor, as that of the margins that are learnt afterwards. How far between, and how much is
penalised, is chosen by how well a few words of passages held out find their passage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tercet.mapped import BLOCK, Vectors
from tercet.modeling.encoder import BiEncoder
from tercet.modeling.st_files import Similarity
from tercet.schema import InputError

FEWEST = 20  # passages
#: Words of a span that stands for a query.
SHORTEST, LONGEST = 3, 30
#: Ridge penalties, as parts of the mean variance of a dimension.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Parts of the way from *back* to *onto*.
WEIGHTS = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)
_HELD_OUT, _MOST_HELD_OUT = 0.05, 1_000
_SEARCHED = 20_000  # passages that spans are to find theirs among
_TINY = 1e-12


@dataclass(frozen=True)
class Map:
    """Query vectors q to qW + b: `weight` float64 [in, out], `bias` float64 [out]."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """[queries, out]."""
        return np.asarray(vectors @ self.weight + self.bias)


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
    passages find theirs with it, with *back* and with *onto* alone. Raises InputError for too few
    passages, and for vectors that are not finite.
    """
    rows = np.random.default_rng(seed).permutation(len(contents))[:passages]
    if len(rows) < FEWEST:
        raise InputError(
            f"{len(rows)} passages are too few to learn their vectors from: {FEWEST} are needed"
        )
    count = max(1, min(_MOST_HELD_OUT, round(_HELD_OUT * len(rows))))
    held_out, read = rows[:count], rows[count:]
    known = Stored(vectors, similarity)
    moments = _moments(encoder, contents, read, known)
    spans = [words(contents[row], np.random.default_rng((seed, row))) for row in held_out.tolist()]
    asked = encoder.encode(spans, "query").astype(np.float64)
    among = known(rows[: max(_SEARCHED, count)])  # those held out come first

    def mrr(found: Map) -> float:
        scores = found(asked) @ among.T
        own = scores[np.arange(count), np.arange(count)]
        return float(np.mean(1 / (1 + (scores > own[:, None]).sum(axis=1))))

    back, back_penalty = _best(mrr, {p: moments.back(p) for p in PENALTIES})
    onto, onto_penalty = _best(mrr, {p: moments.onto(p) for p in PENALTIES})
    mixed, weight = _best(mrr, {w: _between(back, onto, w) for w in WEIGHTS})
    encoder.project(mixed.weight.T.astype(np.float32), mixed.bias.astype(np.float32), similarity)
    return {
        "passages": len(rows),
        "held_out": count,
        "weight": weight,
        "back_penalty": back_penalty,
        "onto_penalty": onto_penalty,
        "mrr": mrr(mixed),
        "mrr_back": mrr(back),
        "mrr_onto": mrr(onto),
    }


class Stored:
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
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), _TINY)


@dataclass
class _Pairs:
    """Sums over pairs of vectors x and y, from which means and covariances follow."""

    count: int = 0
    x: Any = 0.0
    y: Any = 0.0
    xx: Any = 0.0
    xy: Any = 0.0
    yy: Any = 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        self.count += len(x)
        self.x, self.y = self.x + x.sum(axis=0), self.y + y.sum(axis=0)
        self.xx, self.xy, self.yy = self.xx + x.T @ x, self.xy + x.T @ y, self.yy + y.T @ y

    @property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        return self.x / self.count, self.y / self.count

    def covariances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Those of x with x, x with y, y with y."""
        x, y = self.means
        return (
            self.xx / self.count - np.outer(x, x),
            self.xy / self.count - np.outer(x, y),
            self.yy / self.count - np.outer(y, y),
        )


@dataclass
class _Moments:
    """What both regressions need of the passages: x is the local model's vector, y the stored one.

    `asked` has the local model's vectors as queries, `told` as passages.
    """

    asked: _Pairs = field(default_factory=_Pairs)
    told: _Pairs = field(default_factory=_Pairs)

    def onto(self, penalty: float) -> Map:
        """The stored vector of a passage that says what a query says.

        A ridge shrinks what it predicts; that is undone, or the mean vector would count too much.
        """
        (x, y), (xx, xy, yy) = self.asked.means, self.asked.covariances()
        weight = _ridge(xx, xy, penalty)
        predicted = float(np.trace(weight.T @ xx @ weight))
        weight = weight * np.sqrt(np.trace(yy) / max(predicted, _TINY))
        return Map(weight, y - x @ weight)

    def back(self, penalty: float) -> Map:
        """Where a query asks the stored vectors as it would ask the local model's.

        As long as stored vectors are, on average over passages.
        """
        _, xy, yy = self.told.covariances()
        weight = _ridge(yy, xy.T, penalty).T
        x, y = self.told.means
        length = float(np.trace(weight.T @ (self.told.xx / self.told.count) @ weight))
        stored = float(np.trace(yy) + y @ y)
        return Map(weight * np.sqrt(stored / max(length, _TINY)), np.zeros_like(y))


def _moments(
    encoder: BiEncoder, contents: Sequence[str], rows: np.ndarray, stored: Stored
) -> _Moments:
    moments, config = _Moments(), encoder.config
    alike = (config.query_prompt, config.query_max_length) == (
        config.passage_prompt,
        config.max_length,
    )
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        texts, y = [contents[row] for row in block.tolist()], stored(block)
        x = encoder.encode(texts, "query", show_progress="reading passages").astype(np.float64)
        moments.asked.add(x, y)
        if not alike:
            x = encoder.encode(texts, "passage", show_progress="embedding passages")
        moments.told.add(x.astype(np.float64), y)
    return moments


def _ridge(xx: np.ndarray, xy: np.ndarray, penalty: float) -> np.ndarray:
    """[in, out], from covariances; a dimension that does not vary is mapped to nothing."""
    values, axes = np.linalg.eigh(xx)
    ridged = values.clip(min=0) + penalty * max(float(values.mean()), _TINY)
    return np.asarray(axes @ ((axes.T @ xy) / ridged[:, None]))


def _between(back: Map, onto: Map, weight: float) -> Map:
    return Map(
        (1 - weight) * back.weight + weight * onto.weight,
        (1 - weight) * back.bias + weight * onto.bias,
    )


def _best(figure: Callable[[Map], float], maps: dict[float, Map]) -> tuple[Map, float]:
    """The map of the highest figure, of equals the first, and its number."""
    best = max(maps, key=lambda number: figure(maps[number]))
    return maps[best], best


def words(text: str, random: np.random.Generator) -> str:
    """SHORTEST to LONGEST words of a text that follow one another; all of a text that has fewer."""
    split = text.split()
    count = int(random.integers(SHORTEST, LONGEST + 1))
    if len(split) <= count:
        return text
    first = int(random.integers(len(split) - count + 1))
    return " ".join(split[first : first + count])
