"""The vocabulary: the nouns that every room speaks, and the protocols that its verbs keep.

Nothing here imports more than the standard library, so any module may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from tercet.core.mapped import Vectors


class InputError(Exception):
    """Something the user gave is wrong: the message is one line, names the place, says what to do.

    Programs print it without a traceback and exit with code 2.
    """


class UnsupportedVectors(InputError):
    """An index cannot hold these vectors, though nothing is wrong with them: another one can."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A unit of retrieval."""

    id: str
    title: str
    text: str

    @property
    def contents(self) -> str:
        """Title and text joined by a space: what every model and index sees."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Query:
    """A question, keyword or claim that a user may type."""

    id: str
    text: str


#: Judgements: query id -> passage id -> grade. A grade above zero is relevant.
Qrels = Mapping[str, Mapping[str, int]]

#: One query's result: (passage id, score), a larger score is a better match.
Ranking = Sequence[tuple[str, float]]

#: Results by query id. A query may be missing: it found nothing.
Run = Mapping[str, Ranking]


@dataclass(frozen=True, slots=True)
class Size:
    """What an index takes, in bytes; None where it cannot be told."""

    memory: int | None
    disk: int | None
    #: How the figures were had, where they were not measured: shown with them.
    note: str = ""


class Encoder(Protocol):
    """Texts to vectors whose dot product is the similarity (unit vectors where that is cosine)."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given."""
        ...


class Generator(Protocol):
    """Passages to the queries that they might answer."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        """Up to `per_passage` queries for each passage; equal arguments give equal queries."""
        ...


class Teacher(Protocol):
    """Scores a query and a passage together, as a cross-encoder does."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """int64 [len(pairs)]: tokens of each pair after truncation, for sorting by length."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """float32 [len(pairs)] raw logits of (query, passage) pairs: any real number."""
        ...


class Index(Protocol):
    """Vectors under passage ids, searched by dot product."""

    def build(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Hold exactly these vectors, float32 [len(ids), dimension], replacing any before them.

        Raises InputError for duplicate ids, a wrong shape, a vector that is not finite or is zero;
        and Unfit for vectors that are well, but not for this kind of index.
        """
        ...

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """The k best of each query vector, float32 [queries, dimension], best first.

        Equal scores are ordered by passage id, the larger first, as trec_eval does.
        """
        ...

    def size(self) -> Size:
        """What it takes, vectors included, as built."""
        ...

    def discard(self) -> None:
        """Free what the index holds, on its server too; it cannot be searched any more."""
        ...

    def drop_leftovers(self) -> list[str]:
        """Free what a killed run of the same owner left on a server, and name it."""
        ...

    def publish(self, alias: str) -> None:
        """Let `alias` name this index from now on, where indexes have names."""
        ...

    def serves(self, alias: str) -> bool:
        """Whether `alias` names an index, or need not, where indexes have no names."""
        ...


class Retriever(Protocol):
    """Query texts to rankings: an encoder with an index, or BM25."""

    @property
    def name(self) -> str:
        """What reports and candidate columns call it."""
        ...

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """The k best passages of each query, best first."""
        ...
