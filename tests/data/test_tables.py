"""Tables of every format and of datasets, each as it is published, give the same passages."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings, strategies as st

from tercet.config.corpus import CorpusSection, PassagesTable, QrelsTable, QueriesTable
from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import InputError, Passage, Query
from tercet.data import Passages, write_corpus
from tercet.data.judgements import read_judged
from tercet.data.sources import PassagesWithQrels, open_source
from tercet.data.sources.formats import read_file

LONG = "wort " * 100_000
#: What real tables hold: a text of 100,000 tokens, other scripts, line breaks, quotes.
ROWS = [
    {"docid": "30660#9", "title": "Seputar", "text": "Mulai 10 Februari 2009"},
    {"docid": "7#0", "title": "", "text": '日本語 \U0001f600, "quoted", it\'s'},
    {"docid": "8#1", "title": "Long", "text": LONG},
]
PASSAGES = [Passage(row["docid"], row["title"], row["text"]) for row in ROWS]
#: A gzip cut short, with no time of its own: it is a test's name, which every worker must find.
CUT_GZIP = gzip.compress(b'{"id": "a", "text": "x"}\n' * 99, mtime=0)[:-9]


def tables(
    passages: PassagesTable,
    queries: QueriesTable | None = None,
    qrels: QrelsTable | None = None,
) -> PassagesWithQrels:
    section = CorpusSection(
        source="tables",
        passages=passages,
        queries=queries or QueriesTable(),
        qrels=qrels or QrelsTable(),
    )
    source = open_source(section)
    assert isinstance(source, PassagesWithQrels)
    return source


def passages_of(path: Path | str, **columns: Any) -> list[Passage]:
    return [p for _, p in tables(PassagesTable(path=str(path), **columns)).passages()]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_csv(rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_all(folder: Path) -> dict[str, Path]:
    """The same rows in every format."""
    contents = {
        "p.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
        "p.csv": as_csv(ROWS),
        "named.tsv": "docid\ttitle\ttext\n" + "".join("\t".join(r.values()) + "\n" for r in ROWS),
        "nameless.tsv": "".join("\t".join(row.values()) + "\n" for row in ROWS),
    }
    files = {}
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        files |= {name: folder / name, f"{name}.gz": folder / f"{name}.gz"}
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "p.parquet", row_group_size=2)
    dataset = Dataset.from_list(ROWS)
    dataset.save_to_disk(str(folder / "saved"))
    DatasetDict({"train": dataset, "other": dataset.select([0])}).save_to_disk(
        str(folder / "splits")
    )
    return files | {"p.parquet": folder / "p.parquet", "saved": folder / "saved"}


def test_every_format_gives_the_same_passages(tmp_path: Path) -> None:
    files = write_all(tmp_path)
    assert len(files) == 10
    for name, path in files.items():
        assert passages_of(path) == PASSAGES, name
    assert passages_of(tmp_path / "splits", split="train") == PASSAGES
    assert len(passages_of(tmp_path / "splits", split="other")) == 1
    message = refusal(lambda: passages_of(tmp_path / "splits", split="dev"))
    assert "no split 'dev'; there are train, other" in message


def test_several_files_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        (tmp_path / f"docs-{number}.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    assert passages_of(tmp_path / "docs-*.jsonl.gz") == PASSAGES
    assert "no file matches" in refusal(lambda: passages_of(tmp_path / "x-*.jsonl"))


def test_each_row_of_json_lines_has_its_own_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"_id": "a", "text": "x"}\n{"_id": "b", "title": "T", "text": "y"}\n'
    )
    (tmp_path / "b.jsonl").write_text('{"id": "c", "contents": "z"}\n')
    expected = [Passage("a", "", "x"), Passage("b", "T", "y"), Passage("c", "", "z")]
    assert passages_of(tmp_path / "*.jsonl") == expected
    message = refusal(lambda: passages_of(tmp_path / "*.jsonl", title="heading"))
    assert "no row has a column 'heading' for titles" in message


def test_an_unnamed_column_of_a_data_frame_is_no_title(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(",id,text\n0,a,x\n1,b,y\n")
    assert passages_of(tmp_path / "p.csv") == [Passage("a", "", "x"), Passage("b", "", "y")]


def test_a_table_with_no_known_column_is_refused_with_those_it_has(tmp_path: Path) -> None:
    table = pa.table({"sku": ["a"], "name": ["T"], "description": ["x"]})
    pq.write_table(table, tmp_path / "p.parquet")
    Dataset(table).save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "p.parquet", tmp_path / "saved"):
        message = refusal(lambda path=path: passages_of(path))
        assert "there are sku, name, description" in message
    assert passages_of(tmp_path / "saved", id="sku", text="description") == [Passage("a", "", "x")]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (["d1", "d2"], ["d1", "d2"]),
        ([3], ["3"]),
        ([{"docid": "d1", "text": "x"}], ["d1"]),
        ({"docid": ["d1", "d2"], "text": ["x", "y"]}, ["d1", "d2"]),
        (None, []),
        ("d12", ["d12"]),
        (12, ["12"]),
        ('["d1", "d2"]', ["d1", "d2"]),
        ("['d1', 'd2']", ["d1", "d2"]),
        ("[d1", ["[d1"]),
        (" ", []),
        (1.5, "'positives' must be text that is not empty, or a whole number, not 1.5"),
        ([{"text": "x"}], "no column '_id' or"),
    ],
)
def test_judged_passages_in_a_query_s_row(
    tmp_path: Path, cell: object, expected: list[str] | str
) -> None:
    (tmp_path / "p.tsv").write_text("d1\tx\n")
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"id": "q", "query": "y", "positives": cell}))
    passages = PassagesTable(path=str(tmp_path / "p.tsv"))
    source = tables(passages, QueriesTable(path=str(file), positives="positives"))
    if isinstance(expected, list):
        assert [row[3] for row in source.judgements()] == expected
    else:
        assert expected in refusal(lambda: list(source.judgements()))
    other = tables(passages, QueriesTable(path=str(file), positives="positive"))
    assert "no column 'positive'" in refusal(lambda: list(other.judgements()))


IDS = ["p1", "p'2", 'p"3', "p, 4", "p\"'5", "p\\6", "[7]", "8\n9", "\u00e9"]


@pytest.mark.fault("ids that are no text")
@pytest.mark.parametrize("count", [1, 2, len(IDS)])
@pytest.mark.parametrize("written", ["list", "array of texts", "array of objects", "JSON"])
def test_lists_written_to_csv_keep_ids_with_quotes(
    tmp_path: Path, written: str, count: int
) -> None:
    ids = IDS[-count:]
    held = {
        "list": ids,
        "array of texts": np.array(ids),
        "array of objects": np.array(ids, dtype=object),
        "JSON": json.dumps(ids),
    }
    table = {"id": ["q"], "query": ["y"], "positives": [held[written]]}
    pd.DataFrame(table).to_csv(tmp_path / "q.csv", index=False)
    rows = [{"id": each, "text": "x"} for each in IDS]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    source = tables(
        PassagesTable(path=str(tmp_path / "p.json")),
        QueriesTable(path=str(tmp_path / "q.csv"), positives="positives"),
    )
    assert [row[3] for row in source.judgements()] == ids


@pytest.mark.parametrize("grade", ["1", "1.0", 1, 1.0])
def test_grades_are_whole_numbers_however_they_are_held(tmp_path: Path, grade: object) -> None:
    (tmp_path / "p.tsv").write_text("a\tx\n")
    (tmp_path / "q.tsv").write_text("1\ty\n")
    row = {"query_id": 1, "docid": "a", "grade": grade}
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    paths = [str(tmp_path / name) for name in ("p.tsv", "q.tsv", "r.jsonl")]
    settings = (
        PassagesTable(path=paths[0]),
        QueriesTable(path=paths[1]),
        QrelsTable(path=paths[2]),
    )
    assert [row[1:] for row in tables(*settings).judgements()] == [("test", "1", "a", 1)]


def test_columns_are_those_that_the_recipe_names_else_the_usual_ones(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"key": 12, "heading": "T", "body": "x", "title": "no", "id": "no"}\n')
    assert passages_of(file, id="key", title="heading") == [Passage("12", "T", "x")]
    message = refusal(lambda: passages_of(file, text="texts"))
    assert "no column 'texts' for the passages' texts; there are key, heading, body" in message
    file.write_text('{"name": "a", "text": "x"}\n')
    assert f"{file}:1: no column '_id' or 'id' or" in refusal(lambda: passages_of(file))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([3, 40], pa.int64()), ["3", "40"]),
        (pa.array([3, 40], pa.int32()), ["3", "40"]),
        (pa.array(["03", " 40"]), ["03", " 40"]),
        (pa.array([3, None], pa.int64()), "row 2: 'id' must be text that is not empty"),
        (pa.array(["3", ""]), "row 2: 'id' must be text that is not empty"),
        (pa.array([3.0, 40.0]), "row 1: 'id' must be text that is not empty, or a whole number"),
    ],
)
def test_ids_are_text_or_whole_numbers(
    tmp_path: Path, ids: pa.Array, expected: list[str] | str
) -> None:
    file = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": ids, "text": ["x", "y"]}), file)
    if isinstance(expected, list):
        assert [passage.id for passage in passages_of(file)] == expected
    else:
        assert expected in refusal(lambda: passages_of(file))


def corpus_of(folder: Path, source: PassagesWithQrels) -> Artifact:
    stage = Stage(folder / "corpus", {}, {"source": source.identity()}, resumable=False)
    return produce(stage, lambda writer: write_corpus(writer, source))


@pytest.mark.fault("empty and endless texts")
def test_null_and_empty_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    table = {
        "id": [1, 2, 3, 4],
        "title": pa.array([None, "only a title", None, ""]),
        "text": pa.array(["x", None, None, "  "]),
    }
    pq.write_table(pa.table(table), file)
    corpus = corpus_of(tmp_path, tables(PassagesTable(path=str(file))))
    assert list(Passages.read(corpus)) == [Passage("1", "", "x"), Passage("2", "only a title", "")]
    assert corpus.facts["empty_passages"] == 2 and corpus.facts["passages"] == 2


# ── clicks and grades in a query's row ───────────────────────────────────────────────────────


def judged_by(tmp_path: Path, text: str, **keys: Any) -> PassagesWithQrels:
    (tmp_path / "p.tsv").write_text("d1\tx\nd2\ty\n")
    (tmp_path / "q.csv").write_text(text)
    queries = QueriesTable(path=str(tmp_path / "q.csv"), positives="doc", **keys)
    return tables(PassagesTable(path=str(tmp_path / "p.tsv")), queries)


CLICKS = "query,doc,n\nA cat,d1,3\na  CAT,d1,1\nA cat,d2,0\na dog,d1,9\n"


@pytest.mark.parametrize(
    ("keys", "grades"),
    [
        ({}, [("A cat", "d1", 1), ("A cat", "d1", 1), ("A cat", "d2", 1), ("a dog", "d1", 1)]),
        ({"click_grades": "log2"}, [("A cat", "d1", 2), ("A cat", "d2", 1), ("a dog", "d1", 1)]),
        ({"clicks": "n"}, [("A cat", "d1", 1), ("A cat", "d2", 0), ("a dog", "d1", 1)]),
        (
            {"clicks": "n", "click_grades": "log2"},
            [("A cat", "d1", 3), ("A cat", "d2", 0), ("a dog", "d1", 4)],
        ),
    ],
)
def test_clicks_on_one_text_are_grades(
    tmp_path: Path, keys: dict[str, Any], grades: list[tuple[str, str, int]]
) -> None:
    source = judged_by(tmp_path, CLICKS, **keys)
    queries = [query for _, query in source.queries()]
    assert [query.text for query in queries] == ["A cat", "a dog"]
    texts = {query.id: query.text for query in queries}
    assert [(texts[row[2]], row[3], row[4]) for row in source.judgements()] == grades


def test_the_grades_of_rows_are_those_of_their_column(tmp_path: Path) -> None:
    rows = "qid,query,doc,n\n1,cat,d1|d2,2\n1,Cat,d3,0\n2,dog,,1\n"
    source = judged_by(tmp_path, rows, grade="n", separator="|")
    assert [row[2:] for row in source.judgements()] == [
        ("1", "d1", 2),
        ("1", "d2", 2),
        ("1", "d3", 0),
    ]
    assert [query for _, query in source.queries()] == [Query("1", "cat"), Query("2", "dog")]


def test_judgements_of_a_row_that_contradict_are_refused(tmp_path: Path) -> None:
    other = judged_by(tmp_path, "qid,query,doc\n1,cat,d1\n1,dog,d2\n")
    assert "q.csv:3: query '1' has another text than at" in refusal(lambda: list(other.queries()))
    negative = judged_by(tmp_path, "query,doc,n\ncat,d1,-1\n", clicks="n")
    assert "q.csv:2: -1 clicks" in refusal(lambda: list(negative.judgements()))
    both = "corpus.queries.grade and corpus.queries.clicks are both given"
    assert both in refusal(lambda: judged_by(tmp_path, CLICKS, clicks="n", grade="n"))
    for key in ("separator", "grade", "clicks"):
        alone = QueriesTable(path=str(tmp_path / "q.csv"), **{key: "n"})  # type: ignore[arg-type]
        passages, qrels = PassagesTable(path=str(tmp_path / "p.tsv")), QrelsTable(path="q.csv")
        message = refusal(lambda q=alone, p=passages, r=qrels: tables(p, q, r))
        assert f"corpus.queries.{key} needs corpus.queries.positives" in message


def test_identity_covers_what_is_told_of_queries(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = [
        {},
        {"separator": ";"},
        {"clicks": "n"},
        {"grade": "n"},
        {"click_grades": "log2"},
        {"delimiter": ","},
        {"encoding": "cp1252"},
        {"quotes": "csv"},
        {"columns": ["query", "doc", "n"]},
        {"id": "query"},
    ]
    assert len({judged_by(tmp_path, CLICKS, **keys).identity() for keys in told}) == len(told)
    assert (
        judged_by(tmp_path, CLICKS + "a,d1,1\n").identity()
        != judged_by(tmp_path, CLICKS).identity()
    )


# ── as published ─────────────────────────────────────────────────────────────────────────────


def test_cohere_s_embedded_miracl_with_its_precomputed_queries(tmp_path: Path) -> None:
    """docid, title, text and emb; queries with emb and the passages judged for them."""
    vectors = pa.array(np.ones((3, 768)).tolist(), pa.list_(pa.float32()))
    for name in ("corpus", "queries"):
        (tmp_path / name / "data").mkdir(parents=True)
    rows = pa.Table.from_pylist(ROWS).append_column("emb", vectors)
    pq.write_table(rows, tmp_path / "corpus" / "data" / "train-00000-of-00001.parquet")
    passage = pa.struct({"docid": pa.string(), "title": pa.string(), "text": pa.string()})
    judged = pa.table(
        {
            "query_id": ["0", "1"],
            "query": ["Di mana?", "Kapan?"],
            "positive_passages": pa.array([[ROWS[0]], [ROWS[0], ROWS[1]]], pa.list_(passage)),
            "negative_passages": pa.array([[ROWS[1]], []], pa.list_(passage)),
            "emb": vectors.slice(0, 2),
        }
    )
    for split in ("train", "dev"):
        pq.write_table(judged, tmp_path / "queries" / "data" / f"{split}-00000-of-00001.parquet")
    source = tables(
        PassagesTable(path=str(tmp_path / "corpus"), split="train"),
        QueriesTable(
            path=str(tmp_path / "queries"),
            split="dev",
            positives="positive_passages",
            negatives="negative_passages",
        ),
    )
    assert [passage for _, passage in source.passages()] == PASSAGES
    assert [query for _, query in source.queries()] == [
        Query("0", "Di mana?"),
        Query("1", "Kapan?"),
    ]
    assert [row[1:] for row in source.judgements()] == [
        ("dev", "0", "30660#9", 1),
        ("dev", "0", "7#0", 0),
        ("dev", "1", "30660#9", 1),
        ("dev", "1", "7#0", 1),
    ]


def test_cohere_s_embedded_wikipedia(tmp_path: Path) -> None:
    """Whole numbers as ids, and columns of no interest."""
    (tmp_path / "data").mkdir()
    table = {
        "id": pa.array([0, 1], pa.int32()),
        "title": ["Deaths in 2022", "YouTube"],
        "text": ["The following notable deaths", "YouTube is"],
        "url": ["https://en.wikipedia.org/wiki?curid=69407798"] * 2,
        "wiki_id": pa.array([69407798, 3524766], pa.int32()),
        "views": pa.array([5674.5, 5409.5], pa.float32()),
        "paragraph_id": pa.array([0, 0], pa.int32()),
        "langs": pa.array([38, 184], pa.int32()),
        "emb": pa.array(np.ones((2, 768)).tolist(), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(table), tmp_path / "data" / "train-00000-of-00001.parquet")
    assert passages_of(tmp_path, split="train") == [
        Passage("0", "Deaths in 2022", "The following notable deaths"),
        Passage("1", "YouTube", "YouTube is"),
    ]


def test_miracl_s_own_files(tmp_path: Path) -> None:
    """Topics and qrels between tabs, passages as gzipped JSON lines of several files."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS[:2]).encode()
    (tmp_path / "docs-0.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "topics.miracl-v1.0-id-dev.tsv").write_text("3\tDi mana?\n20\tKapan 10%?\n")
    qrels = tmp_path / "qrels.miracl-v1.0-id-dev.tsv"
    qrels.write_text("3\tQ0\t30660#9\t1\n3\tQ0\t7#0\t0\n20\tQ0\t7#0\t1\n")
    source = tables(
        PassagesTable(path=str(tmp_path / "docs-*.jsonl.gz")),
        QueriesTable(path=str(tmp_path / "topics.miracl-v1.0-id-dev.tsv")),
        QrelsTable(path=str(qrels)),
    )
    corpus = corpus_of(tmp_path, source)
    judged = read_judged(corpus, "test")
    assert judged.queries == [Query("20", "Kapan 10%?"), Query("3", "Di mana?")]
    assert judged.qrels == {"3": {"30660#9": 1, "7#0": 0}, "20": {"7#0": 1}}


OLD_TOPICS = """<top>
<num> Number: 301
<title> International Organized Crime &amp; drugs, pH < 7

<desc> Description:
Identify organizations that participate in
international criminal activity.

<narr> Narrative:
A relevant document must name them.
</top>
<top>
<num> Number: 302
<title> Polio
</top>
"""
NEW_TOPICS = """<topics task="x">
  <topic number="1"><query>coronavirus origin</query><question>what is it?</question></topic>
  <topic number="2"><query>weather</query></topic>
</topics>"""


def test_trec_s_topics_and_qrels(tmp_path: Path) -> None:
    (tmp_path / "collection.tsv").write_text("FT1\tcrime is organised\nFT2\tpolio is ill\n")
    (tmp_path / "old.topics").write_text(OLD_TOPICS)
    (tmp_path / "new.xml").write_text(NEW_TOPICS)
    (tmp_path / "qrels.txt").write_text("301 0 FT1 2\n302  0  FT2 -1\n")
    passages = PassagesTable(path=str(tmp_path / "collection.tsv"))
    qrels = QrelsTable(path=str(tmp_path / "qrels.txt"))
    source = tables(passages, QueriesTable(path=str(tmp_path / "old.topics")), qrels)
    assert [query for _, query in source.queries()] == [
        Query("301", "International Organized Crime & drugs, pH < 7"),
        Query("302", "Polio"),
    ]
    assert [row[1:] for row in source.judgements()] == [
        ("test", "301", "FT1", 2),
        ("test", "302", "FT2", -1),
    ]
    described = QueriesTable(path=str(tmp_path / "old.topics"), text="desc")
    _, query = next(tables(passages, described, qrels).queries())
    assert query.text.startswith("Identify organizations that participate in international")
    later = tables(passages, QueriesTable(path=str(tmp_path / "new.xml")), qrels)
    assert [query for _, query in later.queries()] == [
        Query("1", "coronavirus origin"),
        Query("2", "weather"),
    ]
    (tmp_path / "old.topics").write_text("nothing")
    assert "no TREC topics" in refusal(lambda: list(source.queries()))


def test_beir_s_tables_of_the_hub(tmp_path: Path) -> None:
    """Configurations of one dataset, judgements in another one with whole numbers as ids."""
    (tmp_path / "beir").mkdir()
    row = {"_id": "4983", "title": "T", "text": "x"}
    (tmp_path / "beir" / "corpus.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    (tmp_path / "beir" / "queries.jsonl.gz").write_bytes(
        gzip.compress(b'{"_id": "1", "title": "", "text": "y"}')
    )
    (tmp_path / "beir" / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: corpus\n  data_files: [{split: corpus, path: corpus.jsonl.gz}]\n"
        "- config_name: queries\n  data_files: [{split: queries, path: queries.jsonl.gz}]\n---\n"
    )
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t4983\t1\n")
    source = tables(
        PassagesTable(path=str(tmp_path / "beir"), config="corpus"),
        QueriesTable(path=str(tmp_path / "beir"), config="queries"),
        QrelsTable(path=str(tmp_path / "qrels"), split="test"),
    )
    assert [passage for _, passage in source.passages()] == [Passage("4983", "T", "x")]
    assert [query for _, query in source.queries()] == [Query("1", "y")]
    assert [row[1:] for row in source.judgements()] == [("test", "1", "4983", 1)]


def test_qrels_of_several_files_are_splits(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("a\tx\n")
    (tmp_path / "q.tsv").write_text("1\ty\n")
    (tmp_path / "qrels").mkdir()
    for split in ("dev", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n")
    source = tables(
        PassagesTable(path=str(tmp_path / "p.tsv")),
        QueriesTable(path=str(tmp_path / "q.tsv")),
        QrelsTable(path=str(tmp_path / "qrels" / "*.tsv")),
    )
    assert {row[1] for row in source.judgements()} == {"dev", "test"}
    for split in ("dev", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").rename(tmp_path / "qrels" / f"qrels.{split}.tsv")
    settings = [source.source.settings, source.tables.of_queries, source.tables.of_qrels]
    message = refusal(lambda: tables(*settings))
    assert (
        "its files are the splits qrels.dev, qrels.test, and none is corpus.test_split" in message
    )


# ── refusals ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("malformed input")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b'id,text\na,"x\n', "p.csv:2: not CSV"),
        ("p.csv", b"id,text\na,x,y\n", "p.csv:2: 3 cells for 2 columns"),
        ("p.csv", b"id,id\na,x\n", "p.csv:1: two columns have one name"),
        ("p.csv", b"id,text\na,caf\xe9\n", "p.csv:2: not UTF-8 (byte 6 of the line)"),
        ("p.tsv", b"a\tx\nb\n", "p.tsv:2: 1 cells for 2 columns"),
        ("p.tsv", b"a\n", "p.tsv:1: 1 cells and no header"),
        ("p.parquet", b"PAR1", "cannot be read as Parquet"),
        ("p.jsonl.gz", CUT_GZIP, "damaged gzip"),
        ("p.jsonl.gz", b"not gzip", "damaged gzip"),
        ("p.docx", b"", "unknown file type"),
        ("p.jsonl", b'{"id": "a", "text": 3}', "p.jsonl:1: 'text' must be text, not 3"),
        ("p.jsonl", b'{"id": "a", "text": "x"}\n{"text": "y"}', "p.jsonl:2: no column '_id'"),
    ],
)
def test_what_is_malformed_is_refused_by_its_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refusal(lambda: passages_of(tmp_path / name))


def test_tables_that_do_not_fit_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "p.tsv"
    file.write_text("a\tx\n")
    passages, other = PassagesTable(path=str(file)), str(file)
    for section, message in [
        ((PassagesTable(),), "names no table of passages"),
        ((PassagesTable(path=str(tmp_path / "no.tsv")),), "no such file"),
        ((passages, QueriesTable(path=other)), "has no judgements"),
        ((passages, QueriesTable(), QrelsTable(path=other)), "no texts of its queries"),
        ((passages, QueriesTable(path=other, positives="p"), QrelsTable(path=other)), "both given"),
        ((passages, QueriesTable(path=other, negatives="n")), "needs corpus.queries.positives"),
        ((replace(passages, split="train"),), "corpus.passages.split is a dataset's"),
        ((PassagesTable(path="passages.jsonl"),), "passages.jsonl: no such file"),
    ]:
        assert message in refusal(lambda section=section: tables(*section))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "unread"),
    [
        (CorpusSection(source="tables", path="x"), "path"),
        (CorpusSection(path="x", qrels=QrelsTable(path="y")), "qrels.path"),
        (
            CorpusSection(source="weaviate", path="X", passages=PassagesTable(path="y")),
            "passages.path",
        ),
        (CorpusSection(source="weaviate", path="X", passages=PassagesTable(id="y")), None),
        (CorpusSection(path="x", unit="article"), "unit"),
        (CorpusSection(source="documents", path="x", queries=QueriesTable(path="y")), None),
    ],
)
def test_a_key_that_the_source_does_not_read_is_named(
    section: CorpusSection, unread: str | None
) -> None:
    assert section.unread() == unread


def test_identity_follows_contents_and_columns(tmp_path: Path) -> None:
    write_all(tmp_path)
    given = PassagesTable(path=str(tmp_path / "p.jsonl"))
    seen = {tables(given).identity()}
    seen.add(tables(replace(given, text="title")).identity())
    (tmp_path / "p.jsonl").write_text(json.dumps(ROWS[0]))
    seen.add(tables(given).identity())
    folder = PassagesTable(path=str(tmp_path / "saved"))
    seen.add(tables(folder).identity())
    assert len(seen) == 4 and tables(folder).identity() in seen


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_csv_is_read_as_the_standard_library_writes_it(
    tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    file = tmp_path / "p.csv"
    written = [dict(zip(("id", "text"), row, strict=True)) for row in rows]
    full = [row for row in written if "".join(row.values()).strip()]
    file.write_text(as_csv(written), encoding="utf-8", newline="")
    assert [row for _, row in read_file(file, PassagesTable(), None, "passages")] == full
