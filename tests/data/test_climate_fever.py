"""CLIMATE-FEVER as it is published, sentence by sentence and article by article."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tercet.core.schema import InputError, Passage, Query
from tercet.data.sources import ClimateFever

EVIDENCE = pa.struct(
    {
        "evidence_id": pa.string(),
        "evidence_label": pa.int64(),
        "article": pa.string(),
        "evidence": pa.string(),
        "entropy": pa.float32(),
        "votes": pa.list_(pa.string()),
    }
)


def evidence(id: str, label: int, text: str) -> dict[str, Any]:
    return {
        "evidence_id": id,
        "evidence_label": label,
        "article": id.rpartition(":")[0],
        "evidence": text,
        "entropy": 0.69,
        "votes": ["SUPPORTS", None],
    }


BEARS, ICE = "Polar bear", "Arctic ice: 2012"
CLAIMS = [
    (
        "0",
        "Bears are dying",
        [evidence(f"{BEARS}:10", 0, "They die."), evidence(f"{ICE}:2", 2, "")],
    ),
    ("5", "Ice grows", [evidence(f"{ICE}:12", 1, "It melts."), evidence(f"{ICE}:2", 2, "")]),
    (
        "9",
        "Bears thrive",
        [evidence(f"{BEARS}:9", 2, "They swim."), evidence(f"{BEARS}:10", 1, "They die.")],
    ),
]


def folder(path: Path, claims: list[Any] = CLAIMS, evidences: pa.DataType = EVIDENCE) -> Path:
    (path / "data").mkdir(parents=True, exist_ok=True)
    table = {
        "claim_id": [claim[0] for claim in claims],
        "claim": [claim[1] for claim in claims],
        "claim_label": pa.array([0] * len(claims), pa.int64()),
        "evidences": pa.array([claim[2] for claim in claims], pa.list_(evidences)),
    }
    pq.write_table(pa.table(table), path / "data" / "test-00000-of-00001.parquet")
    return path


def test_sentences(tmp_path: Path) -> None:
    source = ClimateFever(str(folder(tmp_path)))
    assert [passage for _, passage in source.passages()] == [
        Passage(f"{BEARS}:10", BEARS, "They die."),
        Passage(f"{ICE}:2", ICE, ""),
        Passage(f"{ICE}:12", ICE, "It melts."),
        Passage(f"{BEARS}:9", BEARS, "They swim."),
    ]
    assert [query for _, query in source.queries()][0] == Query("0", "Bears are dying")
    assert [row[1:] for row in source.judgements()] == [
        ("test", "0", f"{BEARS}:10", 1),
        ("test", "0", f"{ICE}:2", 0),
        ("test", "5", f"{ICE}:12", 1),
        ("test", "5", f"{ICE}:2", 0),
        ("test", "9", f"{BEARS}:9", 0),
        ("test", "9", f"{BEARS}:10", 1),
    ]


def test_articles_hold_their_sentences_in_order_and_their_best_grade(tmp_path: Path) -> None:
    source = ClimateFever(str(folder(tmp_path)), unit="article")
    assert [passage for _, passage in source.passages()] == [
        Passage(BEARS, BEARS, "They swim. They die."),
        Passage(ICE, ICE, " It melts."),
    ]
    assert [row[1:] for row in source.judgements()] == [
        ("test", "0", BEARS, 1),
        ("test", "0", ICE, 0),
        ("test", "5", ICE, 1),
        ("test", "9", BEARS, 1),
    ]
    assert source.identity() != ClimateFever(str(tmp_path)).identity()


def test_one_id_with_two_texts_is_refused(tmp_path: Path) -> None:
    claims = [*CLAIMS, ("10", "x", [evidence(f"{BEARS}:10", 0, "They live.")])]
    with pytest.raises(InputError, match=r"row 4: evidence 'Polar bear:10' has another text"):
        list(ClimateFever(str(folder(tmp_path, claims))).passages())


def test_older_versions_hold_one_row_of_lists(tmp_path: Path) -> None:
    lists = pa.struct({field.name: pa.list_(field.type) for field in EVIDENCE})
    claims = [
        (id, claim, {name: [e[name] for e in evidences] for name in evidences[0]})
        for id, claim, evidences in CLAIMS
    ]
    (tmp_path / "data").mkdir()
    table = {
        "claim_id": [claim[0] for claim in claims],
        "claim": [claim[1] for claim in claims],
        "evidences": pa.array([claim[2] for claim in claims], lists),
    }
    pq.write_table(pa.table(table), tmp_path / "data" / "test-00000-of-00001.parquet")
    older, newer = ClimateFever(str(tmp_path)), ClimateFever(str(folder(tmp_path / "newer")))
    for what in ("passages", "queries", "judgements"):
        rows = [[row[1:] for row in getattr(source, what)()] for source in (older, newer)]
        assert rows[0] == rows[1] != []


def test_another_label_or_column_is_refused(tmp_path: Path) -> None:
    claims = [("10", "x", [evidence(f"{BEARS}:10", 3, "y")])]
    with pytest.raises(InputError, match=r"row 1: 3 is no label"):
        list(ClimateFever(str(folder(tmp_path, claims))).judgements())
    file = tmp_path / "data" / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["claim"]), file)
    with pytest.raises(InputError, match=r"row 1: no column 'claim'; there are claim_id"):
        list(ClimateFever(str(tmp_path)).queries())
    with pytest.raises(InputError, match=r"cannot be read"):
        list(ClimateFever(str(tmp_path / "nowhere")).passages())
