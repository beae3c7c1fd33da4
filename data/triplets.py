"""Teacher scores -> lists of scored passages, split into training and held-out queries.

File: `lists` (query_id, query, split, passages, teacher, student), the positive first. Of several
scorers `teacher` is the mixture, on the student's scale, and `scorers` has the scores of each. Each
epoch draws new triplets from the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

_BLOCK = 1024  # queries encoded at a time
#: The columns with several scorers' lists, and the student's lists, to those of their mixture.
Mix = Callable[[Mapping[str, Sequence[Any]], Sequence[np.ndarray]], Sequence[np.ndarray]]
#: Split of training queries with the text of a held-out query, or without candidates.
LEFT_OUT = "left_out"
#: Split of training queries that a filter drops.
FILTERED = "filtered"


@dataclass(frozen=True)
class Filters:
    """Filters of training queries by the teacher's scores; None filters nothing.

    `rank`: drop a query if the teacher ranks its source passage below this. `percentile`: drop it
    if the score of its source passage is below this percentile of all source passages. `fits`: drop
    it if at least so many candidates reach the median score of source passages, because it is about
    no passage in particular. CADET (arXiv 2505.19274) uses rank 1 and percentile 25.
    """

    rank: int | None = None
    percentile: float | None = None
    fits: int | None = None

    def apply(self, split: list[str], teacher: Sequence[np.ndarray]) -> dict[str, int]:
        """Set the split of dropped training queries to FILTERED, in place; counts by filter.

        A query that several filters drop counts for the first.
        """
        counts = {name: 0 for name, value in asdict(self).items() if value is not None}
        sources = np.array([scores[0] for scores in teacher])
        lowest = np.percentile(sources, self.percentile or 0)
        median = np.median(sources)
        for i, scores in enumerate(teacher):
            if split[i] != "train":
                continue
            reasons = {
                "rank": self.rank is not None and source_rank(scores) > self.rank,
                "percentile": self.percentile is not None and scores[0] < lowest,
                "fits": self.fits is not None and (scores[1:] >= median).sum() >= self.fits,
            }
            reason = next((name for name, holds in reasons.items() if holds), None)
            if reason:
                split[i] = FILTERED
                counts[reason] += 1
        return counts


def source_rank(scores: Sequence[float] | np.ndarray) -> int:
    """Rank of the source passage, the first of a list, by the list's scores: 1 is the best."""
    return 1 + int((np.asarray(scores[1:]) > scores[0]).sum())


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
    mix: Mix | None = None,
) -> None:
    """Add the zero-shot student's scores, hold out queries, and filter the training queries.

    `vectors` are the zero-shot student's vectors of `passages`, float32 [passages, dimension].
    `held_out` maps the name of a split to its fraction of the source passages, so that all queries
    of a passage are in one split. Held-out queries are not filtered: they represent all queries of
    users.

    Where `lists` hold several scorers' scores `mix` makes the teacher's of them, and they are kept
    as `scorers`.
    """
    scored: list[list[float]] = []
    for start in range(0, len(lists), _BLOCK):
        block = lists[start : start + _BLOCK]
        rows = passages.rows(id for ids in block["passages"] for id in ids)
        queries = student.encode_queries(block["query"])
        for query, ids in zip(queries, block["passages"], strict=True):
            scored.append((vectors[np.array([rows[id] for id in ids])] @ query).tolist())
    split = _splits(lists["query"][:], lists["passages"][:], held_out, seed)
    scores, columns = lists["scores"][:], dict[str, pa.Array]()
    if scores and scores[0] and isinstance(scores[0][0], list):
        assert mix
        columns["scorers"] = pa.array(scores, type=pa.list_(pa.list_(pa.float32())))
        scores = mix({"scorers": scores}, [np.array(x, np.float32) for x in scored])
    teacher = [np.array(x, dtype=np.float32) for x in scores]
    filtered = (filters or Filters()).apply(split, teacher)
    if "train" not in split:
        reasons = filtered | {"without candidates or as held-out ones": split.count(LEFT_OUT)}
        raise InputError(
            "no query is left to train on: raise queries.count, filter less, or leave out fewer "
            f"candidates ({', '.join(f'{name}: {count}' for name, count in reasons.items())})"
        )
    table = pa.table(
        {
            "query_id": pa.array(lists["query_id"][:]),
            "query": pa.array(lists["query"][:]),
            "split": pa.array(split),
            "passages": pa.array(lists["passages"][:]),
            "teacher": pa.array(teacher, type=pa.list_(pa.float32())),
            "student": pa.array(scored, type=pa.list_(pa.float32())),
            **columns,
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
    """The split of each query; LEFT_OUT for training queries that would leak held-out ones."""
    positives = [passages[0] for passages in lists]
    shuffled = np.random.default_rng(seed).permutation(sorted(set(positives))).tolist()
    split: dict[str, str] = {}
    start = 0
    for name, part in held_out.items():
        # At least one passage, so that no split is empty.
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
    """The teacher's mean logit and rank of the source passages: low if queries are unrelated."""
    ranks = [source_rank(scores) for scores in teacher]
    return {
        "positive_mean_logit": float(np.mean([scores[0] for scores in teacher])),
        "positive_mean_rank": float(np.mean(ranks)),
        "positive_first": float(np.mean([rank == 1 for rank in ranks])),
    }


def near_positives(target: np.ndarray, fraction: float) -> np.ndarray:
    """Positions in a list, the positive first, of passages too near it to be negatives.

    A passage is near if its margin is at most `fraction` of the largest margin of its list: on a
    scale with 0 at the list's farthest passage and 1 at the positive, if it scores at least
    1 - `fraction`. NV-Retriever (arXiv 2407.15831) drops negatives above .95 of the positive's
    score, which needs scores with a zero; margins have none, so the farthest passage defines it.
    Scale and shift of the targets do not matter. With 0, passages that score no lower than the
    positive are near. If none scores lower, all are near.
    """
    margins = target[0] - target[1:]
    return 1 + np.flatnonzero(margins <= fraction * margins.max())


class Triplets:
    """The lists of one split as a dataset for the Trainer; an item is a query with its draw.

    `targets` has the target score of each passage of each list (see `tercet.data.targets`).
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
        self.query_ids: list[str] = columns["query_id"]
        self.negatives_per_query = negatives_per_query
        self.false_negative_margin = false_negative_margin
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw new negatives from now on, the same for the same epoch and seed."""
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
        """Positions in the list of this epoch's negatives, in the list's order."""
        random = np.random.default_rng([self.seed, self.epoch, row])
        others = len(self._passages[row]) - 1
        drawn = random.choice(others, min(self.negatives_per_query, others), replace=False)
        return np.sort(drawn) + 1

    def passage_ids(self) -> set[str]:
        """Every passage that may be drawn."""
        return {passage for passages in self._passages for passage in passages}

    def rows(self) -> Iterator[dict[str, Any]]:
        """This epoch's triplets with ids, the teacher's scores and the target margin."""
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


#: Mean rank of the source passage, as a fraction of the list's length, from which training did
#: harm. A random ranking puts it at half the length.
DOUBTFUL = 12 / 26


def sources_of(
    rows: Dataset, duplicates: Mapping[str, list[str]]
) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """Synthetic queries that are in no list yet; relevant is the source, with its duplicates."""
    queries = [Query(id, text) for id, text in zip(rows["id"], rows["query"], strict=True)]
    sources = zip(queries, rows["passage_id"], strict=True)
    return queries, {q.id: dict.fromkeys(duplicates.get(id, [id]), 1) for q, id in sources}


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
            "the teacher ranks a query's source passage at "
            f"{facts['positive_mean_rank']:.1f} of its candidates on average: are the queries "
            "about their passages?"
        )
    if facts["slope"] <= 0:
        warnings.append(
            "the teacher's scores oppose the model's within the lists (slope "
            f"{facts['slope']:.2g}); candidates that one of them favours can look like that, a "
            "teacher of another language too: --audit tells them apart"
        )
    return warnings
