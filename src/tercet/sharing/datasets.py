"""Writes a run's lists and triplets as Parquet files with texts, for other trainers and the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from tercet.core.files import replacing
from tercet.data.passages import Passages
from tercet.data.triplets import Triplets

_ROWS = 10_000  # written at a time, so that few texts are in memory

_TRIPLETS = pa.schema(
    {"query": pa.string(), "positive": pa.string(), "negative": pa.string(), "label": pa.float32()}
)
_SCORES = pa.schema(
    {
        "query_id": pa.string(),
        "query": pa.string(),
        "split": pa.string(),
        "passages": pa.list_(pa.string()),
        "teacher": pa.list_(pa.float32()),
        "student": pa.list_(pa.float32()),
        "target": pa.list_(pa.float32()),
    }
)
_PASSAGES = pa.schema({"id": pa.string(), "text": pa.string()})


def write_published(
    folder: Path, lists: Dataset, targets: Dataset, triplets: Triplets, passages: Passages
) -> dict[str, int]:
    """Write the configs `triplets`, `scores` and `passages`, each as NAME/train.parquet.

    `lists` and `targets` come from `tercet.data.triplets` and `tercet.data.targets`; the triplets
    are those of the current epoch of `triplets`. Returns the number of rows by config.
    """
    listed = {id for block in _blocks(lists) for ids in block["passages"] for id in ids}
    rows = np.array(sorted(passages.rows(listed).values()))
    made = {
        "triplets": (_TRIPLETS, _triplets(triplets, passages)),
        "scores": (_SCORES, _scores(lists, targets)),
        "passages": (_PASSAGES, _passages(rows, passages)),
    }
    return {
        name: _write(folder / name / "train.parquet", schema, columns)
        for name, (schema, columns) in made.items()
    }


def _blocks(rows: Dataset) -> Iterator[dict[str, list[Any]]]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


def _triplets(triplets: Triplets, passages: Passages) -> Iterator[dict[str, list[Any]]]:
    drawn = triplets.rows()
    while block := list(islice(drawn, _ROWS)):
        texts = passages.texts({row[side] for row in block for side in ("positive", "negative")})
        yield {
            "query": [row["query"] for row in block],
            "positive": [texts[row["positive"]] for row in block],
            "negative": [texts[row["negative"]] for row in block],
            "label": [row["positive_score"] - row["negative_score"] for row in block],
        }


def _scores(lists: Dataset, targets: Dataset) -> Iterator[dict[str, list[Any]]]:
    for block, targeted in zip(_blocks(lists), _blocks(targets), strict=True):
        yield block | {"target": targeted["target"]}


def _passages(rows: np.ndarray, passages: Passages) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS].tolist()
        ids, texts = [passages.ids[row] for row in block], [passages.contents[row] for row in block]
        yield {"id": ids, "text": texts}


def _write(path: Path, schema: pa.Schema, blocks: Iterable[dict[str, list[Any]]]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as parquet:
        for columns in blocks:
            table = pa.Table.from_pydict(columns, schema=schema)
            parquet.write_table(table)
            count += table.num_rows
    return count
