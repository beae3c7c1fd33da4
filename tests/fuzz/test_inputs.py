"""Mutated recipes, corpora, tables and documents: read, or refused in one line."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz_runner import Target, fuzz

from tercet.config.corpus import CorpusSection, PassagesTable, QrelsTable, QueriesTable
from tercet.config.loading import load_recipe
from tercet.config.packaged import packaged_recipes
from tercet.core.artifacts import Writer
from tercet.core.schema import Source
from tercet.data import write_corpus
from tercet.data.look import Choices, inspect_files
from tercet.data.sources import open_source
from tercet.retrieval.trec import write_run

pytestmark = pytest.mark.fault("fuzz")
pytest.importorskip("bs4")
EXAMPLES = 25  # of a target, here; `make fuzz` tries more

RECIPE = """
name: tiny # a comment
seed: 7
corpus: {source: beir, path: corpus, test_split: test}
queries:
  count: 60
  generators: [{kind: causal, model: models/x, temperature: 0.7, style: keywords}]
negatives: {candidates: 8, retrievers: [{kind: bm25}]}
teacher: &teacher {name: models/y, precision: fp32, max_length: 48, student_weight: 0.5}
model: {name: models/z, precision: fp32, max_length: 48, train: both}
triplets: {negatives_per_query: 3}
training: {num_train_epochs: 2, bf16: false, learning_rate: 1e-3, optim_args: null}
evaluation:
  metrics: [ndcg@10, recall@100]
  systems: [{kind: bm25}, {kind: adapted, name: ours}]
  indexes: [{backend: exact}, {backend: faiss, factory: Flat}]
chat: {model: models/w, max_new_tokens: 12, threshold: -1}
"""
OVERRIDES = (
    "--seed\n7\n--queries.count=60\n--training.learning_rate=1e-6\n--model.name=x\n"
    "--queries.generators.0.model\ny\n--evaluation.systems.0.kind=bm25\n"
    "--training.lr_scheduler_kwargs={min_lr: 1e-6}\n--corpus.path=~/x"
)
JSON = [{"_id": f"p{i}", "title": "", "text": f"The {i} is known for its {i}.5"} for i in range(9)]
QUERIES = [{"_id": f"q{i}", "text": f"what is the {i} known for?"} for i in range(4)]
GRADES = [(f"q{i}", f"p{j}", (i + j) % 3) for i in range(4) for j in range(i, i + 3)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def delimited(rows: list[tuple[Any, ...]], between: str, header: str = "") -> bytes:
    return (header + "".join(between.join(map(str, row)) + "\n" for row in rows)).encode()


HTML = b"""<!doctype html><html><head><title>The lighthouse</title><style>p{}</style></head><body>
<nav>no</nav><h1>Lamp &amp; lens</h1><p>It is <b>kept</b> dry.<br>Daily.</p><script>x=1</script>
<table><tr><td>a</td><td>b</td></tr></table><ul><li>one<li>two</ul></body></html>"""
MARKDOWN = (
    b"# The lighthouse #\n\nIts *lamp* is kept dry.\n\n## Work\n\n- one\n- two\n\n```\nx\n```\n"
)


def pdf() -> bytes:
    """A page with a line of text, written by hand; and what pypdf makes of it."""
    from pypdf import PdfReader, PdfWriter

    text = b"BT /F1 12 Tf 10 100 Td (The lamp is kept dry) Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R"
        b"/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(text), text),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body = b"%PDF-1.4\n"
    places = []
    for number, each in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 6\n0000000000 65535 f \n" + table
    end = b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(body)
    writer, out = PdfWriter(PdfReader(io.BytesIO(body + head + end))), io.BytesIO()
    writer.add_metadata({"/Title": "The lighthouse"})
    for page in writer.pages:
        page.compress_content_streams()
    writer.write(out)
    return out.getvalue()


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def whole(source: Source, folder: Path) -> None:
    """Write a corpus as a run does."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    write_corpus(Writer(folder / "out"), source)


def recipes(folder: Path) -> Target:
    def read(hint: str, data: bytes) -> None:
        (folder / "r.yaml").write_bytes(data)
        load_recipe(folder / "r.yaml", cross_check=hint == "")

    seeds = [path.read_bytes() for path in packaged_recipes().values()]
    given = [*[("no path", seed) for seed in seeds], *[("", RECIPE.encode())] * 9]
    return Target("recipe YAML", given, read)


def overrides(folder: Path) -> Target:
    (folder / "r.yaml").write_text(RECIPE)

    def read(hint: str, data: bytes) -> None:
        load_recipe(folder / "r.yaml", os.fsdecode(data).split("\n"))

    given = OVERRIDES.encode()
    return Target("overrides", [("", given), ("", b"--seed=1\n--model.max_length\n9")], read)


def beir(name: str, seeds: list[tuple[str, bytes]], folder: Path, shape: str) -> Target:
    """One file of a BEIR folder; the hint is its name."""
    whole_ones = {
        "corpus.jsonl": lines(JSON),
        "queries.jsonl": lines(QUERIES),
        "qrels/test.tsv": delimited(GRADES, "\t", "query-id\tcorpus-id\tscore\n"),
    }

    def read(hint: str, data: bytes) -> None:
        shutil.rmtree(folder / "beir", ignore_errors=True)
        (folder / "beir" / "qrels").mkdir(parents=True)
        kind = hint.split(".")[0].split("/")[0]
        for other, content in whole_ones.items():
            if other.split(".")[0].split("/")[0] != kind:
                (folder / "beir" / other).write_bytes(content)
        (folder / "beir" / hint).write_bytes(data)
        whole(open_source(CorpusSection(source="beir", path=str(folder / "beir"))), folder)

    return Target(name, seeds, read, shape)


def corpus(folder: Path) -> Target:
    mapping = {row["_id"]: row["text"] for row in JSON}
    seeds = [("corpus.jsonl", lines(JSON)), ("corpus.json", json.dumps(JSON).encode())]
    return beir(
        "corpus", [*seeds, ("corpus.json", json.dumps(mapping, indent=1).encode())], folder, "jsonl"
    )


def queries(folder: Path) -> Target:
    llama = {"queries": {"q": "x"}, "corpus": {"p1": "y"}, "relevant_docs": {"q": ["p1"]}}
    seeds = [("queries.jsonl", lines(QUERIES)), ("queries.json", json.dumps(llama).encode())]
    return beir("queries", seeds, folder, "jsonl")


def qrels(folder: Path) -> Target:
    trec = [(query, 0, passage, grade) for query, passage, grade in GRADES]
    mapping = {query: {passage: grade} for query, passage, grade in GRADES}
    seeds = [
        ("qrels/test.tsv", delimited(GRADES, "\t", "query-id\tcorpus-id\tscore\n")),
        ("qrels/test.tsv", delimited(GRADES, "\t")),
        ("qrels/test.qrels", delimited(trec, " ")),
        ("qrels/test.txt", delimited(trec, "  \t")),
        ("qrels/test.csv", delimited(GRADES, ",", "qid,docid,rel\n")),
        ("qrels/test.json", json.dumps(mapping).encode()),
        ("qrels/test.jsonl", lines([{"query_id": q, "doc_id": p, "rel": g} for q, p, g in GRADES])),
    ]
    return beir("qrels", seeds, folder, "jsonl")


def table(suffix: str, seed: bytes, shape: str = "text") -> Callable[[Path], Target]:
    """A file of passages, also as queries with positives, and what `tercet init` says of it."""

    def make(folder: Path) -> Target:
        def read(hint: str, data: bytes) -> None:
            path = folder / f"table{suffix}"
            path.write_bytes(data)
            if hint == "look":
                inspect_files(str(path), choices=Choices())
                return
            passages = PassagesTable(path=str(path), ids="made" if hint == "made" else "column")
            whole(open_source(CorpusSection(source="tables", passages=passages)), folder)

        seeds = [(hint, seed) for hint in ("passages", "made", "look")]
        return Target(suffix[1:].upper(), seeds, read, shape)

    return make


def judged_table(folder: Path) -> Target:
    """Queries with lists of positives in CSV, JSON lines and Parquet."""
    (folder / "p.jsonl").write_bytes(lines(JSON))
    positives = [["p1", "p'2"], ['p"3'], ["p4", "p5"], []]
    rows = [{"id": f"q{i}", "query": "x y", "positives": p} for i, p in enumerate(positives)]
    cells = """q0,x y,"['p1', ""p'2""]"\nq1,x z,"[""p3""]"\n"""
    names = ["id", "query", "positives"]
    seeds = [
        (".csv", f"id,query,positives\n{cells}".encode()),
        (".jsonl", lines(rows)),
        (".parquet", parquet(**{name: [row[name] for row in rows] for name in names})),
    ]

    def read(hint: str, data: bytes) -> None:
        (folder / f"q{hint}").write_bytes(data)
        section = CorpusSection(
            source="tables",
            passages=PassagesTable(path=str(folder / "p.jsonl")),
            queries=QueriesTable(path=str(folder / f"q{hint}"), positives="positives"),
        )
        whole(open_source(section), folder)

    return Target("positives", seeds, read)


def document(suffix: str, seed: bytes, shape: str = "text") -> Callable[[Path], Target]:
    def make(folder: Path) -> Target:
        (folder / "documents").mkdir(exist_ok=True)

        def read(hint: str, data: bytes) -> None:
            (folder / "documents" / f"a{suffix}").write_bytes(data)
            section = CorpusSection(source="documents", path=str(folder / "documents"))
            whole(open_source(section), folder)

        return Target(suffix[1:].upper(), [("", seed)], read, shape)

    return make


def trec(folder: Path) -> Target:
    """Topics; a run that is taken for judgements; a run that is written, of six words a line."""
    topics = b"<top>\n<num> Number: 301\n<title> lamps\n<desc> Description: x\n</top>\n"
    newer = b'<topics><topic number="1"><query>lamps</query><question>x</question></topic></topics>'
    run = b"q1 Q0 p1 1 2.5 ours\nq1 Q0 p2 2 1.5 ours\nq2 Q0 p1 1 0.1 ours\n"
    (folder / "p.jsonl").write_bytes(lines(JSON))
    (folder / "of.topics").write_bytes(topics.replace(b"301", b"q1"))

    def read(hint: str, data: bytes) -> None:
        path = folder / f"t.{hint}"
        path.write_bytes(data)
        if hint == "not run":
            ids = data.decode("utf-8", "replace").splitlines() or ["x"]
            write_run(path, {id: [(id, 1.5)] for id in ids if id}, "ours")
            words = [line.split() for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
            assert all(len(each) == 6 for each in words)
            path.write_bytes(data)
        section = CorpusSection(
            source="tables",
            passages=PassagesTable(path=str(folder / "p.jsonl")),
            queries=QueriesTable(path=str(folder / "of.topics" if hint == "not run" else path)),
            qrels=QrelsTable(path=str(path if hint == "not run" else folder / "q.tsv")),
        )
        (folder / "q.tsv").write_text("301 0 p1 1\n1 0 p1 1\n")
        whole(open_source(section), folder)

    return Target("TREC runs and topics", [("xml", topics), ("xml", newer), ("not run", run)], read)


ROWS = [(f"p{i}", "a title", f"text, of {i}") for i in range(6)]
QUOTED = [(a, b, f'"{c}"') for a, b, c in ROWS]
COLUMNS = dict(zip(("id", "title", "text"), map(list, zip(*ROWS, strict=True)), strict=True))
TARGETS: dict[str, Callable[[Path], Target]] = {
    "recipe": recipes,
    "overrides": overrides,
    "corpus": corpus,
    "queries": queries,
    "qrels": qrels,
    "csv": table(".csv", delimited(QUOTED, ",", "id,title,text\n")),
    "tsv": table(".tsv", delimited(ROWS, "\t", "id\ttitle\ttext\n")),
    "json": table(".json", json.dumps(JSON).encode(), "json"),
    "jsonl": table(".jsonl", lines(JSON), "jsonl"),
    "parquet": table(".parquet", parquet(**COLUMNS), "bytes"),
    "positives": judged_table,
    "html": document(".html", HTML),
    "markdown": document(".md", MARKDOWN),
    "pdf": document(".pdf", pdf()),
    "trec": trec,
}


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_are_read_or_refused_in_a_line(name: str, tmp_path: Path) -> None:
    assert fuzz(TARGETS[name](tmp_path), EXAMPLES).faults == {}
