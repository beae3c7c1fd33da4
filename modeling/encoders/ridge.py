"""A linear map of query vectors into an index's space, in closed form, from pairs of vectors.

It has two parts, each a ridge regression over passages with known vectors:

- *onto*: from the local model's vector of a passage to the stored one. It knows the space: where a
  passage that says what the query says would lie.
- *back*: from the stored vector of a passage to the local model's. What comes back is compared with
  queries as the local model compares, and as q · (Av + b) = (Aᵀq) · v + q · b, the transposed map
  takes queries to where they ask the index so. It knows what queries look like.

Both are the answer to one least-squares problem, in which the wanted scores of a text with all
passages lie between those that the local model gives and those of the stored vector of its passage:
an anchor, as that of the margins that are learnt afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

TINY = 1e-12  # no length or variance is divided by less


@dataclass(frozen=True)
class Map:
    """Query vectors q to qW + b: `weight` float64 [in, out], `bias` float64 [out]."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """[queries, out]."""
        return np.asarray(vectors @ self.weight + self.bias)


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
        """Take in pairs of rows."""
        self.count += len(x)
        self.x, self.y = self.x + x.sum(axis=0), self.y + y.sum(axis=0)
        self.xx, self.xy, self.yy = self.xx + x.T @ x, self.xy + x.T @ y, self.yy + y.T @ y

    @property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of x and of y."""
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
class Moments:
    """What both regressions need of the passages: x is the local model's vector, y the stored one.

    `asked` has the local model's vectors as queries, `told` as passages.
    """

    asked: _Pairs = field(default_factory=_Pairs)
    told: _Pairs = field(default_factory=_Pairs)

    @cached_property
    def _asked_axes(self) -> tuple[np.ndarray, np.ndarray]:
        return _axes(self.asked.covariances()[0])

    @cached_property
    def _stored_axes(self) -> tuple[np.ndarray, np.ndarray]:
        return _axes(self.told.covariances()[2])

    def onto(self, penalty: float) -> Map:
        """The stored vector of a passage that says what a query says.

        A ridge shrinks what it predicts; that is undone, or the mean vector would count too much.
        """
        (x, y), (xx, xy, yy) = self.asked.means, self.asked.covariances()
        weight = _ridge(self._asked_axes, xy, penalty)
        predicted = float(np.trace(weight.T @ xx @ weight))
        weight = weight * np.sqrt(max(float(np.trace(yy)), 0.0) / max(predicted, TINY))
        return Map(weight, y - x @ weight)

    def back(self, penalty: float) -> Map:
        """Where a query asks the stored vectors as it would ask the local model's.

        As long as stored vectors are, on average over passages.
        """
        _, xy, yy = self.told.covariances()
        weight = _ridge(self._stored_axes, xy.T, penalty).T
        x, y = self.told.means
        length = float(np.trace(weight.T @ (self.told.xx / self.told.count) @ weight))
        stored = max(float(np.trace(yy)), 0.0) + float(y @ y)
        return Map(weight * np.sqrt(stored / max(length, TINY)), np.zeros_like(y))


def _axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.linalg.eigh(covariance)
    return found.eigenvalues, found.eigenvectors


def _ridge(axes: tuple[np.ndarray, np.ndarray], xy: np.ndarray, penalty: float) -> np.ndarray:
    """[in, out], from covariances; a dimension that does not vary is mapped to nothing.

    `axes` are the variances of x along the axes of its covariance, and these axes.
    """
    values, vectors = axes
    ridged = values.clip(min=0) + penalty * max(float(values.mean()), TINY)
    return np.asarray(vectors @ ((vectors.T @ xy) / ridged[:, None]))


def between(back: Map, onto: Map, weight: float) -> Map:
    """`weight` of the way from one to the other."""
    return Map(
        (1 - weight) * back.weight + weight * onto.weight,
        (1 - weight) * back.bias + weight * onto.bias,
    )
