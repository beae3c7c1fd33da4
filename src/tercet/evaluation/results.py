"""The results of eval.py as plain data, written to `metrics.json` and shown in every report.

Times are in milliseconds, sizes in bytes, prices in US dollars. `low` and `high` are the ends of a
95% bootstrap interval over queries. None is a value that is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tercet.retrieval.latency import Timing

if TYPE_CHECKING:
    import pandas as pd

#: The exact index, which the others are compared with.
EXACT = "exact"


@dataclass(frozen=True)
class Figure:
    """A mean over queries."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Build:
    """Time and space that an index took."""

    seconds: float
    memory: int | None
    disk: int | None
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One system over one index; if the index cannot hold its vectors, `refused` says why.

    `overlap` is the share of exact search's ten best passages that this index returns: recall@10 of
    the index, apart from the model's.
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
    """A system of the table."""

    name: str
    kind: str
    description: str
    #: Whether its query vectors were made beforehand, so that its time includes no encoding.
    encoded_before: bool = False
    dimension: int | None = None
    dollars_per_1000_queries: float | None = None
    dollars_per_million_passages: float | None = None


@dataclass(frozen=True)
class IndexFacts:
    """An index of the table."""

    name: str
    description: str


@dataclass(frozen=True)
class Pair:
    """Two systems over the exact index, on the primary metric; `first` has the larger mean.

    `p` is of the paired randomisation test, `p_holm` corrected over all pairs. `detectable` is the
    smallest difference that this number of queries detects with 80% power. Wins are `first`'s.
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
    """The primary metric's mean over some queries, and its difference from the baseline's."""

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
    """A retrieved or relevant passage; rank None: not within the largest cut-off."""

    rank: int | None
    id: str
    grade: int
    text: str


@dataclass(frozen=True)
class Change:
    """A query with a large difference between a system and the baseline."""

    query_id: str
    query: str
    before: float
    after: float
    found_before: Sequence[Hit]
    found_after: Sequence[Hit]
    #: The passages with the highest grades and their ranks by the system.
    relevant: Sequence[Hit]


@dataclass(frozen=True)
class Changes:
    """A system's largest gains and losses against the baseline, and every query's difference."""

    system: str
    gained: Sequence[Change]
    lost: Sequence[Change]
    #: By query id: system minus baseline.
    differences: Mapping[str, float]


@dataclass(frozen=True)
class Forgetting:
    """Base and adapted model on an out-of-domain collection, on the primary metric."""

    collection: str
    queries: int
    before: float
    after: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Margins:
    """Histograms of positive minus candidate scores; the teacher's on the student's scale."""

    edges: Sequence[float]
    teacher: Sequence[int]
    student: Sequence[int]
    scale: float


@dataclass(frozen=True)
class Results:
    """All results of an experiment."""

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
    #: Sentences that qualify the results.
    notes: Sequence[str]
    #: The run's verdict and its further sentences, if it has one, and what it ships.
    verdict: str = ""
    more: Sequence[str] = ()
    shipped: str = ""
    forgetting: Forgetting | None = None
    #: Metrics of each evaluation in training; epoch 0 is zero-shot.
    curve: Sequence[Mapping[str, float]] = ()
    margins: Margins | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def cell(self, system: str, index: str) -> Cell | None:
        """The cell of a system and an index, or None."""
        cells = (c for c in self.cells if (c.system, c.index) == (system, index))
        return next(cells, None)

    def to_frame(self) -> pd.DataFrame:
        """A row a system and index: the metrics' means, the primary one with its interval."""
        # pandas is a dependency of datasets, and slow to import.
        import pandas as pd

        return pd.DataFrame(
            {
                "system": cell.system,
                "index": cell.index,
                **{name: figure.mean for name, figure in cell.figures.items()},
                f"{self.primary} low": cell.figures[self.primary].low,
                f"{self.primary} high": cell.figures[self.primary].high,
            }
            for cell in self.cells
            if not cell.refused
        )
