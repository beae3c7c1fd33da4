"""Teacher scores -> the lists that triplets are drawn from, split for training and for choosing.

File: `lists` (query_id, query, split, passages, teacher, student), the positive first. Triplets
are drawn from the lists afresh each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from tercet.core.artifacts import Writer
from tercet.core.mapped import Vectors
from tercet.core.schema import Encoder, InputError, Query
from tercet.data.near_duplicates import normalised
from tercet.data.passages import Passages

BLOCK = 1024
#: The split of queries whose text another passage's held-out query has, or without candidates.
LEFT_OUT = "left_out"
#: The split of training queries that a filter drops.
FILTERED = "filtered"


@dataclass(frozen=True)
class Filters:
    """What the teacher's scores, already paid for, say against training on a query.

    `rank`: it ranks the query's own passage beyond this among its candidates. `percentile`: its
    score for that passage is below this percentile of all queries' own passages. `fits`: it finds
    that so many candidates or more fit as well as the own passages of most queries do (their
    median score), so that the query is about none in particular. None filters nothing. CADET
    (arXiv 2505.19274) has rank 1 and percentile 25.
    """

    rank: int | None = None
    percentile: float | None = None
    fits: int | None = None

    def apply(self, split: list[str], teacher: Sequence[np.ndarray]) -> dict[str, int]:
        """Move training queries to FILTERED, in place; how many by each filter that is set.

        A query that several filters drop counts for the first.
        """
        counts = {name: 0 for name, value in asdict(self).items() if value is not None}
        own = np.array([scores[0] for scores in teacher])
        lowest = np.percentile(own, self.percentile or 0)
        median = np.median(own)
        for i, scores in enumerate(teacher):
            if split[i] != "train":
                continue
            reasons = {
                "rank": self.rank is not None and rank_of_own(scores) > self.rank,
                "percentile": self.percentile is not None and scores[0] < lowest,
                "fits": self.fits is not None and (scores[1:] >= median).sum() >= self.fits,
            }
            reason = next((name for name, holds in reasons.items() if holds), None)
            if reason:
                split[i] = FILTERED
                counts[reason] += 1
        return counts


def rank_of_own(scores: np.ndarray) -> int:
    """Where a list's scores put its first passage, the query's own: 1 is the best."""
    return 1 + int((scores[1:] > scores[0]).sum())


def build_triplets(
    writer: Writer,
    lists: Dataset,
    student: Encoder,
    passages: Passages,
    vectors: Vectors,
    *,
    held_out: dict[str, float],
    seed: int,
    filters: Filters | None = None,
) -> None:
    """Add the zero-shot student's scores to the teacher's, hold queries out, and filter the rest.

    `vectors` are the zero-shot student's of `passages`, float32 [passages, dimension].
    `held_out` maps a split's name to its part of the queries, all queries of one passage together.
    What is held out is not filtered: it stands for all that users may ask.
    """
    scored: list[list[float]] = []
    for start in range(0, len(lists), BLOCK):
        block = lists[start : start + BLOCK]
        rows = passages.rows(id for ids in block["passages"] for id in ids)
        queries = student.encode_queries(block["query"])
        for query, ids in zip(queries, block["passages"], strict=True):
            scored.append((vectors[np.array([rows[id] for id in ids])] @ query).tolist())
    split = _splits(lists["query"][:], lists["passages"][:], held_out, seed)
    teacher = [np.array(x, dtype=np.float32) for x in lists["scores"]]
    filtered = (filters or Filters()).apply(split, teacher)
    if "train" not in split:
        raise InputError(
            "no query is left to train on: raise queries.count, or filter less"
            f" ({', '.join(f'{name}: {count}' for name, count in filtered.items())})"
        )
    table = pa.table(
        {
            "query_id": pa.array(lists["query_id"][:]),
            "query": pa.array(lists["query"][:]),
            "split": pa.array(split),
            "passages": pa.array(lists["passages"][:]),
            "teacher": pa.array(lists["scores"][:], type=pa.list_(pa.float32())),
            "student": pa.array(scored, type=pa.list_(pa.float32())),
        }
    )
    writer.shard("lists", 0, table)
    names = ("train", *held_out, LEFT_OUT, FILTERED)
    writer.facts |= {f"{name}_queries": split.count(name) for name in names}
    writer.facts |= {f"filtered_by_{name}": count for name, count in filtered.items()}
    writer.facts |= _audit(teacher)


def _splits(
    queries: Sequence[str], lists: Sequence[Sequence[str]], held_out: dict[str, float], seed: int
) -> list[str]:
    """The split of each query; what cannot be trained on without leaking is left out."""
    positives = [passages[0] for passages in lists]
    shuffled = np.random.default_rng(seed).permutation(sorted(set(positives))).tolist()
    split: dict[str, str] = {}
    start = 0
    for name, part in held_out.items():
        # At least one passage, so that there is something to choose by.
        end = start + max(1, round(part * len(shuffled)))
        split |= dict.fromkeys(shuffled[start:end], name)
        start = end
    splits = [split.get(passage, "train") for passage in positives]
    texts = [normalised(query) for query in queries]
    held = {text for text, name in zip(texts, splits, strict=True) if name != "train"}
    return [
        LEFT_OUT if name == "train" and (text in held or len(passages) < 2) else name
        for text, passages, name in zip(texts, lists, splits, strict=True)
    ]


def _audit(teacher: Sequence[np.ndarray]) -> dict[str, float]:
    """Are the queries about their passages? The teacher's mean logit and rank of the positives."""
    ranks = [rank_of_own(scores) for scores in teacher]
    return {
        "positive_mean_logit": float(np.mean([scores[0] for scores in teacher])),
        "positive_mean_rank": float(np.mean(ranks)),
        "positive_first": float(np.mean([rank == 1 for rank in ranks])),
    }


def near_positives(target: np.ndarray, fraction: float) -> np.ndarray:
    """Places in a list, the positive first, of those too near it to be held for negatives.

    A passage is near when its margin is at most `fraction` of the largest in its list: with the
    scores of a list scaled so that its farthest passage has 0 and its positive 1, when it has
    1 - `fraction` or more. NV-Retriever (arXiv 2407.15831) drops negatives above a part of the
    positive's score, .95, which needs scores with a zero; margins have none, so the farthest
    passage is made it. Scale and shift of the targets do not matter. 0: those that are scored no
    lower than the positive. Where none is scored lower, all are near.
    """
    margins = target[0] - target[1:]
    return 1 + np.flatnonzero(margins <= fraction * margins.max())


class Triplets:
    """The lists of one split as what a Trainer reads; an item is a query with its draw.

    `targets` has the score that each passage of each list should get (see `tercet.data.targets`).
    """

    def __init__(
        self,
        lists: Dataset,
        targets: Dataset,
        *,
        negatives_per_query: int,
        false_negative_margin: float = 0.0,
        seed: int,
        split: str = "train",
    ) -> None:
        of_split = np.flatnonzero(np.array(lists["split"]) == split)
        columns = lists.select(of_split)[:]
        self._passages: list[list[str]] = columns["passages"]
        self._teacher = [np.array(x, dtype=np.float32) for x in columns["teacher"]]
        chosen = targets.select(of_split)["target"]
        self._targets = [np.array(x, dtype=np.float32) for x in chosen[:]]
        self.queries: list[str] = columns["query"]
        self.negatives_per_query = negatives_per_query
        self.false_negative_margin = false_negative_margin
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other negatives from now on, the same ones for the same epoch and seed."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """`query`: its row; `passages`: ids, the positive first; `margins`: float32 targets.

        `near`: ids of its near-positives, drawn or not (see `near_positives`).
        """
        drawn = self._draw(row)
        target = self._targets[row]
        return {
            "query": row,
            "passages": [self._passages[row][0], *(self._passages[row][i] for i in drawn)],
            "margins": target[0] - target[drawn],
            "near": [
                self._passages[row][i] for i in near_positives(target, self.false_negative_margin)
            ],
        }

    def _draw(self, row: int) -> np.ndarray:
        """Places in the list of this epoch's negatives, in the list's order."""
        random = np.random.default_rng([self.seed, self.epoch, row])
        others = len(self._passages[row]) - 1
        drawn = random.choice(others, min(self.negatives_per_query, others), replace=False)
        return np.sort(drawn) + 1

    def passage_ids(self) -> set[str]:
        """Every passage that a draw may hold."""
        return {passage for passages in self._passages for passage in passages}

    def rows(self) -> Iterator[dict[str, Any]]:
        """This epoch's triplets one by one, with ids, both teacher scores and the target margin."""
        for row, query in enumerate(self.queries):
            teacher, target = self._teacher[row], self._targets[row]
            for i in self._draw(row):
                yield {
                    "query": query,
                    "positive": self._passages[row][0],
                    "negative": self._passages[row][i],
                    "positive_score": float(teacher[0]),
                    "negative_score": float(teacher[i]),
                    "margin": float(target[0] - target[i]),
                }


#: Of a list's length: where the teacher ranks a query's own passage at more than this on average,
#: training did harm. A teacher that knows nothing of it ranks it at half.
DOUBTFUL = 12 / 26


def known_items(
    lists: Dataset, split: str, duplicates: Mapping[str, list[str]]
) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """The synthetic queries of a split; relevant is the source passage, with its duplicates."""
    held = lists.select(np.flatnonzero(np.array(lists["split"]) == split))[:]
    queries, qrels = [], {}
    rows = zip(held["query_id"], held["query"], held["passages"], strict=True)
    for query_id, text, (source, *_) in rows:
        queries.append(Query(query_id, text))
        qrels[query_id] = dict.fromkeys(duplicates.get(source, [source]), 1)
    return queries, qrels


def warnings_of(facts: Mapping[str, Any], candidates: int) -> list[str]:
    """Reasons in the facts of triplets and targets not to train on them."""
    warnings = []
    if facts["positive_mean_rank"] > DOUBTFUL * (candidates + 1):
        warnings.append(
            "warning: the teacher ranks a query's source passage at "
            f"{facts['positive_mean_rank']:.1f} of its candidates on average: are the queries "
            "about their passages?"
        )
    if facts["slope"] <= 0:
        warnings.append(
            "warning: the teacher's scores oppose the model's within the lists (slope "
            f"{facts['slope']:.2g}); candidates that one of them favours can look like that, a "
            "teacher of another language too: --audit tells them apart"
        )
    return warnings
