"""Precomputed vectors: every id has one, and no other text has any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tercet.core.schema import InputError, Query
from tercet.retrieval import KnownQueries, read_parquet_vectors


def write(path: Path, ids: list[object], vectors: list[list[float]] | np.ndarray) -> Path:
    pq.write_table(pa.table({"id": ids, "vector": list(vectors)}), path, row_group_size=2)
    return path


def test_rows_come_in_the_order_asked_for_and_others_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "v.parquet", ["c", "a", "x", "b"], [[3, 0], [1, 0], [9, 9], [2, 0]])
    found, others = read_parquet_vectors(path, ["a", "b", "c"], "passages")
    assert others == 1
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 0], [2, 0], [3, 0]]


def test_fixed_size_lists_and_numbers_as_ids_are_read_too(tmp_path: Path) -> None:
    flat = pa.array(np.arange(6, dtype=np.float64))
    column = pa.FixedSizeListArray.from_arrays(flat, 2)
    pq.write_table(pa.table({"id": [7, 8, 9], "vector": column}), tmp_path / "v.parquet")
    found, _ = read_parquet_vectors(tmp_path / "v.parquet", ["9", "7"], "passages")
    assert found.tolist() == [[4, 5], [0, 1]]


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "c"], [[1.0], [2.0]], "1 of 2 passages have no vector ('b'"),
        (["a", "b", "a"], [[1.0], [2.0], [3.0]], "id 'a' occurs twice"),
        (["a", "a", "b"], [[1.0], [2.0], [3.0]], "id 'a' occurs twice"),
        (["a", "b"], [[1.0], [2.0, 3.0]], "not lists of numbers of one length"),
        (["a", "b"], [["u"], ["v"]], "not lists of numbers"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, ids: list[object], vectors: list[list[float]], message: str
) -> None:
    path = write(tmp_path / "v.parquet", ids, vectors)
    with pytest.raises(InputError, match="v.parquet") as error:
        read_parquet_vectors(path, ["a", "b"], "passages")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "v.parquet"
    with pytest.raises(InputError, match="no such file"):
        read_parquet_vectors(text, ["a"], "passages")
    text.write_text("id,vector\n")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_parquet_vectors(text, ["a"], "passages")
    pq.write_table(pa.table({"docid": ["a"], "emb": [[1.0]]}), text)
    with pytest.raises(InputError, match="no column id nor vector; there are: docid, emb"):
        read_parquet_vectors(text, ["a"], "passages")


def test_known_queries_are_found_by_their_text() -> None:
    queries = [Query("1", "one"), Query("2", "two"), Query("3", "one")]
    vectors = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    known = KnownQueries("theirs", queries, vectors)
    assert known.encode_queries(["two", "one"]).tolist() == [[0, 1], [1, 0]]
    assert known.dimension == 2
    assert set(known.texts) == {"one", "two"}
    with pytest.raises(InputError, match="theirs has no vector of query 'three'"):
        known.encode_queries(["one", "three"])
    with pytest.raises(InputError, match="cannot encode passages"):
        known.encode_passages(["one"])
    with pytest.raises(InputError, match="'1' and '3' have one text"):
        KnownQueries("theirs", queries, np.array([[1, 0], [0, 1], [0, 1]], np.float32))
