"""What eval.py found, as plain data: `metrics.json` is this, and every page and table shows it.

Times are milliseconds, sizes bytes, prices US dollars. Where a figure has `low` and `high`, they
are the ends of its 95% bootstrap interval over queries. None is what was not, or cannot be, told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tercet.retrieval.latency import Timing

#: The index that the others are held against.
EXACT = "exact"


@dataclass(frozen=True)
class Figure:
    """A mean over queries."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Build:
    """What an index cost."""

    seconds: float
    memory: int | None
    disk: int | None
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One system over one index. `refused` says why there is nothing else, where it could not be.

    `overlap` is the share of the exact index's ten best that this index found: recall@10 of the
    index, which tells what the index loses from what the model loses.
    """

    system: str
    index: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    overlap: float | None = None
    build: Build | None = None
    single: Timing | None = None
    batched: Timing | None = None
    refused: str = ""


@dataclass(frozen=True)
class SystemFacts:
    """A row of the table."""

    name: str
    kind: str
    description: str
    #: Whether it encodes no query of its own, so that its time holds no encoding.
    encoded_before: bool = False
    dimension: int | None = None
    dollars_per_1000_queries: float | None = None
    dollars_per_million_passages: float | None = None


@dataclass(frozen=True)
class IndexFacts:
    """A column of the table; what it stands for, such as an answer to IVF-PQ's need."""

    name: str
    description: str


@dataclass(frozen=True)
class Pair:
    """Two systems over the exact index, on the primary measure: `first` has the larger mean.

    `p` is of the paired randomisation test, `p_holm` corrected over all pairs. `detectable` is the
    smallest difference that so many queries show with 80% power. Wins are `first`'s.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    detectable: float
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True)
class Slice:
    """Some of the queries: the primary measure's mean, and the difference from the baseline's."""

    slice: str
    value: str
    queries: int
    system: str
    mean: float
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Hit:
    """A passage that was found, or should have been (rank None: not within the largest cut-off)."""

    rank: int | None
    id: str
    grade: int
    text: str


@dataclass(frozen=True)
class Change:
    """A query on which a system differs much from the baseline."""

    query_id: str
    query: str
    before: float
    after: float
    found_before: Sequence[Hit]
    found_after: Sequence[Hit]
    #: The best-judged passages, with their ranks by the system.
    relevant: Sequence[Hit]


@dataclass(frozen=True)
class Changes:
    """What a system gained and lost most, beside the baseline; and every query's difference."""

    system: str
    gained: Sequence[Change]
    lost: Sequence[Change]
    #: By query id: system minus baseline.
    differences: Mapping[str, float]


@dataclass(frozen=True)
class Forgetting:
    """Base and adapted on a collection that nothing was adapted to, on the primary measure."""

    collection: str
    queries: int
    before: float
    after: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Margins:
    """Positive minus candidate, of synthetic queries, teacher's on the scale of the student's."""

    edges: Sequence[float]
    teacher: Sequence[int]
    student: Sequence[int]
    scale: float


@dataclass(frozen=True)
class Results:
    """The experiment, whole."""

    title: str
    command: str
    finished: str
    corpus: str
    passages: int
    queries: int
    queries_are: str
    primary: str
    measures: Sequence[str]
    baseline: str
    systems: Sequence[SystemFacts]
    indexes: Sequence[IndexFacts]
    cells: Sequence[Cell]
    pairs: Sequence[Pair]
    slices: Sequence[Slice]
    changes: Sequence[Changes]
    #: Sentences that the figures must not be read without.
    notes: Sequence[str]
    forgetting: Forgetting | None = None
    #: One row of figures for each evaluation in training, epoch 0 being zero-shot.
    curve: Sequence[Mapping[str, float]] = ()
    margins: Margins | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def cell(self, system: str, index: str) -> Cell | None:
        """The cell of a system and an index, if it was measured."""
        cells = (c for c in self.cells if (c.system, c.index) == (system, index))
        return next(cells, None)
