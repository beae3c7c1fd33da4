"""Which targets are worth training towards? A query adapter tells in seconds.

It learns them while the passages' vectors stand still, and is measured on held-out synthetic
queries by known items: the passage that a query was made from is the one that it should find.
Agreement with the teacher would not do: the teacher's own margins win that by construction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from tercet import modeling, retrieval
from tercet.core.mapped import Vectors
from tercet.core.schema import Qrels, Query
from tercet.data.passages import Passages
from tercet.data.targets import Scores, Trial

MEASURE = "mrr@10"
#: With fewer held-out queries than these, chance would choose.
FEWEST = 100
#: More queries than these would take longer and tell no more.
MOST_TRAINED, MOST_ASKED = 4_000, 1_000


def adapter_trial(
    student: modeling.SimilarityEncoder,
    passages: Passages,
    vectors: Vectors,
    lists: Dataset,
    held_out: Sequence[Query],
    qrels: Qrels,
    *,
    seed: int,
) -> Trial | None:
    """Targets of all `lists` -> an adapter's known-item MRR@10, by query; None with too few.

    `vectors` are the student's of the `passages`. It learns from the lists of split "train".
    """
    if len(held_out) < FEWEST:
        return None
    asked = held_out[:MOST_ASKED]
    judged = {query.id: qrels[query.id] for query in asked}
    chosen = np.flatnonzero(np.array(lists["split"]) == "train")[:MOST_TRAINED]
    train = lists.select(chosen)[:]
    queries = student.encode_queries([query.text for query in asked])
    learnt_from = student.encode_queries(train["query"])
    rows = passages.rows(id for ids in train["passages"] for id in ids)
    listed = np.array(sorted(rows.values()))
    place = {id: int(np.searchsorted(listed, row)) for id, row in rows.items()}
    places = [np.array([place[id] for id in ids]) for ids in train["passages"]]
    of_lists = vectors[listed]
    index = retrieval.ExactIndex()
    index.build(passages.ids, vectors)

    def trial(targets: Scores) -> np.ndarray:
        adapter = modeling.train_adapter(
            learnt_from,
            of_lists,
            places,
            [targets[i] for i in chosen],
            modeling.all_pairs_margin_mse,
            normalize=student.normalize,
            seed=seed,
        )
        return known_items(index, asked, judged, adapter.apply_to(queries))

    return trial


def known_items(
    index: retrieval.ExactIndex,
    queries: Sequence[Query],
    qrels: Qrels,
    vectors: np.ndarray,
) -> np.ndarray:
    """MRR@10 of each query, whose vectors are float32 [queries, dimension]."""
    rankings = index.search(vectors, retrieval.TOP)
    run = {query.id: ranking for query, ranking in zip(queries, rankings, strict=True)}
    found = retrieval.evaluate(qrels, run, [MEASURE])[MEASURE]
    return np.array([found[query.id] for query in queries])
