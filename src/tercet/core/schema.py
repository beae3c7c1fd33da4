"""The types and protocols that all packages share. Imports the standard library and `text`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from tercet.core.text import message_line

if TYPE_CHECKING:
    import numpy as np

    from tercet.core.mapped import Vectors


class InputError(Exception):
    """An error in the user's input. The message is one line: the place, the fault, the remedy.

    Programs print it without a traceback and exit with `exit_code`.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        """The message may quote what is wrong: line breaks and controls in it are replaced."""
        super().__init__(message_line(message))


class Diverged(InputError):
    """A loss, gradient, target, score or weight that is no number, or is infinite.

    `row` is the position of what it is of among those that were asked for, if that is known.
    """

    exit_code = 4

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class UnsupportedVectors(InputError):
    """Valid vectors that this kind of index cannot hold; another kind can."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A unit of retrieval."""

    id: str
    title: str
    text: str

    @property
    def contents(self) -> str:
        """Title and text joined by a space, as every model and index reads them."""
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Query:
    """A question, keyword or claim to search for.

    `own` is the number of passages with its id, or of the document with its id, that are the query
    itself: no ranking that is measured holds them. If `parts` is not 0, its judgements name
    documents of at most so many passages: each counts by its best.
    """

    id: str
    text: str
    own: int = 0
    parts: int = 0


def document_of(passage: str) -> str:
    """The document that a passage is a part of: ID of ID#3; its own id if it is none."""
    return passage.rpartition("#")[0] or passage


#: Relevance judgements: query id -> passage id -> grade. A grade above zero is relevant.
Qrels = Mapping[str, Mapping[str, int]]

#: Passages of one query, best first: (passage id, score).
Ranking = Sequence[tuple[str, float]]

#: Rankings by query id. A query without results may be missing.
Run = Mapping[str, Ranking]


@dataclass(frozen=True, slots=True)
class Size:
    """Memory and disk use of an index in bytes; None if unknown."""

    memory: int | None
    disk: int | None
    #: How the sizes were estimated if they were not measured; reports print it.
    note: str = ""


class PassageSource(Protocol):
    """A source of passages."""

    def identity(self) -> str:
        """Digest of the input: equal digests mean equal passages."""
        ...

    def passages(self) -> Iterator[tuple[str, Passage]]:
        """Each passage with its place (file and line), for messages."""
        ...


@runtime_checkable
class Source(PassageSource, Protocol):
    """A source of a corpus: passages, and what is judged."""

    def queries(self) -> Iterator[tuple[str, Query]]:
        """Each judged query with its place; none without judgements."""
        ...

    def judgements(self) -> Iterator[tuple[str, str, str, str, int]]:
        """Each judgement: (place, split, query id, passage id, grade)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelStamp:
    """What tells the model of stored vectors from every other, and encodes queries for them."""

    #: SHA-256 of its weights (`core.files.weights_digest`); empty if nobody knows the model.
    model: str = ""
    #: Its Hub name, or where its folder was.
    model_name: str = ""
    #: The model that it was adapted from.
    base: str = ""
    #: The run that made it.
    run: str = ""
    dimensions: int = 0
    #: "cosine" (vectors have unit length) or "dot".
    similarity: str = ""
    #: What stands before a query's text.
    query_prompt: str = ""


class Encoder(Protocol):
    """Encodes texts as vectors whose dot product is the similarity (unit vectors for cosine)."""

    @property
    def name(self) -> str:
        """Name in reports."""
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
    """Writes synthetic queries about passages."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        """Up to `per_passage` queries for each passage; equal arguments give equal queries."""
        ...


class Teacher(Protocol):
    """A cross-encoder: scores a query and a passage together."""

    @property
    def name(self) -> str:
        """Name in reports."""
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
        """Replace the contents of the index with vectors, float32 [len(ids), dimension].

        Raises InputError for duplicate ids, a wrong shape, and a vector that is zero or not finite;
        UnsupportedVectors for valid vectors that this kind of index cannot hold.
        """
        ...

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """The k nearest passages of each query vector, float32 [queries, dimension], best first.

        Equal scores are ordered by passage id, the larger first, as in trec_eval.
        """
        ...

    def size(self) -> Size:
        """Memory and disk use, vectors included."""
        ...

    def discard(self) -> None:
        """Free the index, on its server too; it cannot be searched afterwards."""
        ...


@runtime_checkable
class ServedIndex(Index, Protocol):
    """An index on a server: it outlives the process, and clients search it by an alias."""

    def drop_leftovers(self) -> list[str]:
        """Delete the indexes that killed runs of the same owner left, and return their names."""
        ...

    def publish(self, alias: str, model: ModelStamp) -> None:
        """Point `alias` at this index, and record the model of its vectors."""
        ...

    def serves(
        self, alias: str, count: int, sample: Callable[[], tuple[Sequence[str], np.ndarray]]
    ) -> bool:
        """Whether the server has an index of so many passages under `alias`.

        `sample` gives ids with their vectors, float32 [ids, dimension], which it must hold. An
        index that somebody else put there is taken as it is.
        """
        ...


class Retriever(Protocol):
    """Searches by the text of a query: an encoder with an index, or BM25."""

    @property
    def name(self) -> str:
        """Name in reports and in the columns of candidates."""
        ...

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """The k best passages of each query, best first."""
        ...


class Graded(NamedTuple):
    """Graded rankings, of which metrics are functions; no grade is below zero, zero is none."""

    #: int64 [queries, depth]: grades as ranked. Ranks below the last relevant passage are cut.
    found: np.ndarray
    #: int64 [queries, depth]: grades of a perfect ranking, cut as `found`.
    ideal: np.ndarray
    #: int64 [queries]: number of relevant passages.
    relevant: np.ndarray

    def hits(self, k: int) -> np.ndarray:
        """Whether each of the first k ranks holds a relevant passage: bool [queries, at most k]."""
        return self.found[:, :k] > 0


class Metric(Protocol):
    """A measure of rankings."""

    def __call__(self, graded: Graded, k: int) -> np.ndarray:
        """float64 [queries]: the value of each query's first k passages, the larger the better."""
        ...
