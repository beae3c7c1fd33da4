"""Audit of a teacher before training: is it worth learning from?

With judged queries, its head-room: the gain from reranking the model's first passages with it.
Without them, how well it recognises the source passage of a synthetic query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from tercet.core.console import progress
from tercet.core.schema import InputError, Qrels, Query, Ranking, Run, Teacher
from tercet.core.text import difference_text, excerpt
from tercet.data.triplets import DOUBTFUL, source_rank
from tercet.evaluation.analysis import PASSAGE_CHARACTERS, margins, trec_order, wins
from tercet.evaluation.results import Margins
from tercet.retrieval.metrics import evaluate
from tercet.retrieval.retrievers import RerankedRetriever
from tercet.retrieval.significance import paired_bootstrap

#: Intervals over fewer queries are not trusted.
FEWEST = 10

_AT_ONCE = 1024  # pairs between two updates of the progress bar


class Outlook(StrEnum):
    """The verdict, as advice."""

    GOOD = "good"  # train
    UNKNOWN = "unknown"  # train, then evaluate
    BAD = "bad"  # change the teacher or the queries first


@dataclass(frozen=True)
class HeadRoom:
    """The model's ranking against the same ranking with its first `depth` passages reranked.

    Evaluated on `queries` of the `judged` queries, which `judgements` describes. Low and high are
    the ends of the difference's 95% interval; wins are the teacher's.
    """

    judgements: str
    judged: int
    queries: int
    measure: str
    depth: int
    model: float
    teacher: float
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True)
class Example:
    """A candidate that the teacher scores far above the query's source passage."""

    query_id: str
    query: str
    positive: str
    positive_text: str
    positive_logit: float
    candidate: str
    candidate_text: str
    candidate_logit: float


@dataclass(frozen=True)
class ListStatistics:
    """Both models' scores on synthetic queries, each with its source passage and candidates.

    `length` is the mean length of a list, `rank` and `logit` the teacher's means for the source
    passage, and `not_first` the share of queries whose source passage it does not rank first.
    `correlation` is of both models' scores within lists. `false_negatives` is the share of
    candidates that the teacher scores above the source passage by more than `amount`, one standard
    deviation of its logits within lists. A fixed number of logits would suit one teacher only, and
    a smaller share of the deviation would count near-ties and noise.
    """

    queries: int
    without_candidates: int
    length: float
    not_first: float
    rank: float
    logit: float
    correlation: float
    amount: float
    false_negatives: float
    margins: Margins
    #: Evenly spaced from the largest excess to the smallest, one per query.
    examples: Sequence[Example]

    @property
    def doubtful(self) -> bool:
        """Whether the teacher hardly recognises the passages that the queries were made from."""
        return self.rank > DOUBTFUL * self.length


@dataclass(frozen=True)
class OneOfSeveral:
    """A scorer by itself, with its weight in the target, or the model's own scores.

    Without `head_room` no query is judged. The rest is as in `ListStatistics`.
    """

    scorer: str
    weight: float
    head_room: HeadRoom | None
    rank: float
    not_first: float
    correlation: float


@dataclass(frozen=True)
class Audit:
    """The verdict and its evidence; None for evidence that was not available.

    Of several `scorers` the verdict is of their mixture: in its head-room the model's own scores
    are a member, as in the targets; in the lists they are not.
    """

    teacher: str
    head_room: HeadRoom | None
    lists: ListStatistics | None
    outlook: Outlook
    verdict: str
    scorers: Sequence[OneOfSeveral] = ()


class _FixedRankings:
    """A `Retriever` of existing rankings, in the order of the queries to come."""

    name = "model"

    def __init__(self, rankings: Sequence[Ranking]) -> None:
        self._rankings = rankings

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        return [ranking[:k] for _, ranking in zip(queries, self._rankings, strict=True)]


class _WithProgress:
    """A `Teacher` with a progress bar."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.name, self.lengths = teacher.name, teacher.lengths

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        blocks = []
        with progress(f"reranking with {self.name}", len(pairs), "pairs") as advance:
            for start in range(0, len(pairs), _AT_ONCE):
                block = pairs[start : start + _AT_ONCE]
                blocks.append(self._teacher.score(block))
                advance(len(block))
        return np.concatenate(blocks)


def measure_head_room(
    teacher: Teacher,
    queries: Sequence[Query],
    qrels: Qrels,
    run: Run,
    texts: Mapping[str, str],
    judgements: str,
    *,
    measure: str = "ndcg@10",
    depth: int = 30,
    sample: int = 100,
    resamples: int = 10_000,
    seed: int = 13,
) -> HeadRoom:
    """Rerank the zero-shot model's run on up to `sample` of the judged queries.

    `judgements` describes the queries in words, and `texts` maps passage ids to their texts. A
    query missing from the run counts as zero. The order of queries, passages and rankings does not
    matter: the teacher scores each pair once, ordered by text.

    Raises InputError for qrels without queries, and as `evaluate` does.
    """
    ids = sorted(qrels)
    drawn = np.random.default_rng(seed).permutation(len(ids))[:sample]
    chosen = {ids[i]: qrels[ids[i]] for i in sorted(drawn.tolist())}
    sampled = [query for query in queries if query.id in chosen]
    rankings = [trec_order(run.get(query.id, ())) for query in sampled]
    deepest = max(map(len, rankings), default=0)
    reranker = RerankedRetriever(
        _FixedRankings(rankings), _WithProgress(teacher), lambda _: texts, depth
    )
    reranked = reranker.search([query.text for query in sampled], max(deepest, 1))
    names = [query.id for query in sampled]
    before, after = (
        evaluate(chosen, dict(zip(names, found, strict=True)), [measure])[measure]
        for found in (rankings, reranked)
    )
    pair = list(before.values()), [after[query] for query in before]
    interval = paired_bootstrap(*pair, resamples=resamples, seed=seed)
    won, lost, tied = wins(before, after)
    model, best = (math.fsum(values) / len(values) for values in pair)
    return HeadRoom(
        judgements=judgements,
        judged=len(ids),
        queries=len(chosen),
        measure=measure,
        depth=min(depth, deepest),
        model=model,
        teacher=best,
        wins=won,
        losses=lost,
        ties=tied,
        **asdict(interval),
    )


def audit_lists(
    lists: Mapping[str, Sequence[Any]],
    texts: Mapping[str, str],
    scale: float,
    examples: int = 5,
) -> ListStatistics:
    """Statistics of the synthetic queries' lists, as the triplets stage writes them.

    Columns: query_id, query, passages, teacher, student, the source passage first. The teacher's
    margins are multiplied by `scale` to compare them with the student's. Queries without candidates
    are only counted.

    Raises InputError if no query has candidates.
    """
    columns = (lists[name] for name in ("query_id", "query", "passages", "teacher", "student"))
    everything = list(zip(*columns, strict=True))
    rows = [row for row in everything if len(row[2]) > 1]
    if not rows:
        raise InputError("no synthetic query has candidates: there is nothing to audit")
    teacher, student = [row[3] for row in rows], [row[4] for row in rows]
    histogram = margins(teacher, student, scale)  # first, as it validates the lists
    candidates = sum(len(scores) - 1 for scores in teacher)
    spread, correlation = _within(teacher, student)
    far = [
        (score - row[3][0], row, place)
        for row in rows
        for place, score in enumerate(row[3])
        if score - row[3][0] > spread
    ]
    ranks = [source_rank(scores) for scores in teacher]
    return ListStatistics(
        queries=len(rows),
        without_candidates=len(everything) - len(rows),
        length=1 + candidates / len(rows),
        not_first=sum(rank > 1 for rank in ranks) / len(rows),
        rank=sum(ranks) / len(rows),
        logit=math.fsum(scores[0] for scores in teacher) / len(rows),
        correlation=correlation,
        amount=spread,
        false_negatives=len(far) / candidates,
        margins=histogram,
        examples=[_example(row, place, texts) for row, place in _evenly(far, examples)],
    )


def audit(
    teacher: str,
    head_room: HeadRoom | None,
    lists: ListStatistics | None,
    scorers: Sequence[OneOfSeveral] = (),
) -> Audit:
    """The verdict on a teacher, by its name and the evidence that there is.

    Raises InputError without any evidence.
    """
    if head_room is None and lists is None:
        raise InputError("there are neither judged nor synthetic queries: nothing to audit with")
    findings = [_of_head_room(head_room)]
    findings += _of_lists(lists) if lists else []
    outlooks = {outlook for outlook, _ in findings}
    worst = next(o for o in (Outlook.BAD, Outlook.UNKNOWN, Outlook.GOOD) if o in outlooks)
    verdict = "; ".join(words for _, words in findings)
    return Audit(teacher, head_room, lists, worst, verdict, scorers)


def _of_head_room(head_room: HeadRoom | None) -> tuple[Outlook, str]:
    if head_room is None:
        return Outlook.UNKNOWN, "the teacher's head-room is unknown, for no queries are judged"
    h = head_room
    gain = f"{difference_text(h.difference, h.low, h.high)} {h.measure} on {h.queries:,} queries"
    if h.queries < FEWEST:
        return Outlook.UNKNOWN, f"cannot tell whether the teacher ranks better: {gain} are few"
    if h.low > 0:
        return Outlook.GOOD, f"the teacher ranks better than the model: {gain}"
    if h.difference <= 0:
        than = "worse than" if h.high < 0 else "no better than"
        words = f"the teacher ranks {than} the model, so training on it is likely to harm"
        return Outlook.BAD, f"{words}: {gain}"
    return Outlook.UNKNOWN, (
        f"cannot tell whether the teacher ranks better than the model: {gain}, an interval that "
        "includes zero"
    )


def _of_lists(lists: ListStatistics) -> list[tuple[Outlook, str]]:
    outlook = Outlook.BAD if lists.doubtful else Outlook.GOOD
    words = (
        "the teacher ranks a synthetic query's source passage at "
        f"{lists.rank:.1f} of {lists.length:.0f} on average"
    )
    if lists.doubtful:
        limit = f"beyond {DOUBTFUL * lists.length:.0f} training did harm"
        words += f", so the queries are hardly about their passages ({limit})"
    findings = [(outlook, words)]
    if lists.correlation <= 0:
        # Only a doubt: among candidates selected because one of several models scores them high,
        # scores of two models tend to be negatively correlated.
        oppose = f"its scores oppose the model's within lists (correlation {lists.correlation:.2f})"
        question = "is it trained for relevance, and for this language?"
        findings.append((Outlook.UNKNOWN, f"{oppose}: {question}"))
    return findings


def _within(
    teacher: Sequence[Sequence[float]], student: Sequence[Sequence[float]]
) -> tuple[float, float]:
    """The teacher's standard deviation within lists, and both models' correlation within them.

    Sums are exact, so no order changes the last bit. The correlation is 0 if a model's scores are
    constant within all lists.
    """
    t, s = _centred(teacher), _centred(student)
    tt, ss = math.fsum(a * a for a in t), math.fsum(b * b for b in s)
    ts = math.fsum(a * b for a, b in zip(t, s, strict=True))
    return math.sqrt(tt / len(t)), ts / math.sqrt(tt * ss) if tt * ss > 0 else 0.0


def _centred(lists: Sequence[Sequence[float]]) -> list[float]:
    means = [math.fsum(scores) / len(scores) for scores in lists]
    return [score - mean for mean, scores in zip(means, lists, strict=True) for score in scores]


def _evenly(far: Sequence[tuple[float, Any, int]], count: int) -> list[tuple[Any, int]]:
    """`count` candidates, evenly spaced by rank of excess, with the largest of each query only."""
    farthest: dict[str, tuple[Any, int]] = {}
    for _, row, place in sorted(far, key=lambda each: (-each[0], each[1][0], each[1][2][each[2]])):
        farthest.setdefault(row[0], (row, place))
    ordered = list(farthest.values())
    chosen = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round()
    return [ordered[int(i)] for i in chosen]


def _example(row: Any, place: int, texts: Mapping[str, str]) -> Example:
    query_id, query, passages, logits, _ = row
    return Example(
        query_id=query_id,
        query=query,
        positive=passages[0],
        positive_text=excerpt(texts[passages[0]], PASSAGE_CHARACTERS),
        positive_logit=float(logits[0]),
        candidate=passages[place],
        candidate_text=excerpt(texts[passages[place]], PASSAGE_CHARACTERS),
        candidate_logit=float(logits[place]),
    )
