"""A linear map of query vectors into an index's space, in closed form, from pairs of vectors.

It mixes two ridge regressions over passages, of which both the local model's vector and the
index's stored vector are known:

- *onto* predicts the stored vector from the local one. A query is mapped to where a passage with
  the same meaning would lie: it fits the index's space, but treats queries as passages.
- *back* predicts the local vector from the stored one, Av + b. The local model compares queries
  with passages well in its own space, and q · (Av + b) = (Aᵀq) · v + q · b: so searching the index
  with Aᵀq ranks passages by the local model's scores. It fits queries, but knows of the index only
  what the local model sees.

Why mix them: both solve one least-squares problem, whose target scores of a text with all passages
are a mixture of the local model's scores and those of the stored vector of the text's passage. It
is an anchor like that of the margins in training. Ridge penalties are needed because dimensions
are correlated and passages may be few.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

TINY = 1e-12  # lower bound of lengths and variances in denominators


@dataclass(frozen=True)
class Map:
    """Maps query vectors q to qW + b: `weight` float64 [in, out], `bias` float64 [out]."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Map [queries, in] to [queries, out]."""
        return np.asarray(vectors @ self.weight + self.bias)


@dataclass
class _Pairs:
    """Sums over pairs of vectors x and y, for means and covariances in one pass."""

    count: int = 0
    x: Any = 0.0
    y: Any = 0.0
    xx: Any = 0.0
    xy: Any = 0.0
    yy: Any = 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Add pairs of rows."""
        self.count += len(x)
        self.x, self.y = self.x + x.sum(axis=0), self.y + y.sum(axis=0)
        self.xx, self.xy, self.yy = self.xx + x.T @ x, self.xy + x.T @ y, self.yy + y.T @ y

    @property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """The means of x and of y."""
        return self.x / self.count, self.y / self.count

    def covariances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The covariances of x with x, x with y, and y with y."""
        x, y = self.means
        return (
            self.xx / self.count - np.outer(x, x),
            self.xy / self.count - np.outer(x, y),
            self.yy / self.count - np.outer(y, y),
        )


@dataclass
class Moments:
    """The moments for both regressions: x is the local model's vector, y the stored one.

    In `as_queries` x encodes the passages as queries, in `as_passages` as passages.
    """

    as_queries: _Pairs = field(default_factory=_Pairs)
    as_passages: _Pairs = field(default_factory=_Pairs)

    @cached_property
    def _query_axes(self) -> tuple[np.ndarray, np.ndarray]:
        return _axes(self.as_queries.covariances()[0])

    @cached_property
    def _stored_axes(self) -> tuple[np.ndarray, np.ndarray]:
        return _axes(self.as_passages.covariances()[2])

    def onto(self, penalty: float) -> Map:
        """Fit the stored vector to the local one, with this ridge penalty.

        Ridge shrinks its predictions towards the mean vector; they are rescaled to the variance of
        the stored vectors, or the mean would weigh too much in every search.
        """
        (x, y), (xx, xy, yy) = self.as_queries.means, self.as_queries.covariances()
        weight = _ridge(self._query_axes, xy, penalty)
        predicted = float(np.trace(weight.T @ xx @ weight))
        weight = weight * np.sqrt(max(float(np.trace(yy)), 0.0) / max(predicted, TINY))
        return Map(weight, y - x @ weight)

    def back(self, penalty: float) -> Map:
        """Fit the local vector to the stored one, and transpose the map.

        It is rescaled so that mapped vectors are, on average, as long as stored ones, and so
        comparable with those of `onto`.
        """
        _, xy, yy = self.as_passages.covariances()
        weight = _ridge(self._stored_axes, xy.T, penalty).T
        x, y = self.as_passages.means
        length = float(np.trace(weight.T @ (self.as_passages.xx / self.as_passages.count) @ weight))
        stored = max(float(np.trace(yy)), 0.0) + float(y @ y)
        return Map(weight * np.sqrt(stored / max(length, TINY)), np.zeros_like(y))


def _axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.linalg.eigh(covariance)
    return found.eigenvalues, found.eigenvectors


def _ridge(axes: tuple[np.ndarray, np.ndarray], xy: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression weights [in, out] from covariances; constant dimensions get weight 0.

    `axes` are the eigenvalues and eigenvectors of the covariance of x. They serve all penalties.
    """
    values, vectors = axes
    ridged = values.clip(min=0) + penalty * max(float(values.mean()), TINY)
    return np.asarray(vectors @ ((vectors.T @ xy) / ridged[:, None]))


def between(back: Map, onto: Map, weight: float) -> Map:
    """The mixture of both maps, with `weight` of `onto`."""
    return Map(
        (1 - weight) * back.weight + weight * onto.weight,
        (1 - weight) * back.bias + weight * onto.bias,
    )
