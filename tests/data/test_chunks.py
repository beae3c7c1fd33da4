"""Texts are split into passages; judgements may name a text or a part of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from growth import assert_linear

pytest.importorskip("semantic_text_splitter", reason="pip install 'tercet[documents]'")

from tercet.config.corpus import CorpusSection, PassagesTable, QrelsTable, QueriesTable
from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import InputError, Query
from tercet.data import Passages, write_corpus
from tercet.data.judgements import read_judged, texts_of
from tercet.data.sources import open_source
from tercet.data.sources.chunks import splitter
from tercet.retrieval import deeper, measured

SENTENCES = {
    "long": [f"Sentence {i} of the long text says that lanterns shine." for i in range(12)],
    "short": ["A short text."],
    "a#2": ["A text whose id looks like a part."],
}
QRELS = [("q", "long", 2), ("q", "short", 0), ("r", "short", 1), ("s", "a#2", 1)]


def folder(path: Path, qrels: list[tuple[str, str, int]] = QRELS) -> Path:
    (path / "qrels").mkdir(parents=True)
    rows = [{"_id": id, "title": "T", "text": " ".join(each)} for id, each in SENTENCES.items()]
    (path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = [{"_id": id, "text": f"query {id}"} for id in "qrs"]
    (path / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    lines = ["\t".join(map(str, row)) for row in qrels]
    (path / "qrels" / "test.tsv").write_text("\n".join(lines))
    return path


def sections(path: Path, **more: str) -> list[CorpusSection]:
    """The same corpus as a BEIR folder and as tables."""
    tables = {
        "queries": QueriesTable(path=str(path / "queries.jsonl")),
        "qrels": QrelsTable(path=str(path / "qrels" / "test.tsv")),
    }
    passages = PassagesTable(path=str(path / "corpus.jsonl"), chunk=120)
    of_tables = CorpusSection(source="tables", passages=passages, **tables, **more)  # type: ignore[arg-type]
    of_beir = CorpusSection(path=str(path), passages=PassagesTable(chunk=120), **more)  # type: ignore[arg-type]
    return [of_beir, of_tables]


def corpus_of(place: Path, section: CorpusSection) -> Artifact:
    assert section.unread() is None
    source = open_source(section)
    stage = Stage(place / "run" / section.source / "corpus", {}, {}, resumable=False)
    return produce(stage, lambda writer: write_corpus(writer, source))


@pytest.mark.parametrize("which", [0, 1], ids=["beir", "tables"])
def test_texts_are_split_and_judged_whole_or_in_part(tmp_path: Path, which: int) -> None:
    path = folder(tmp_path / "beir", [*QRELS, ("r", "long#2", 1)])
    corpus = corpus_of(tmp_path, sections(path)[which])
    passages = list(Passages.read(corpus))
    parts = [passage for passage in passages if passage.id.startswith("long#")]
    assert len(parts) > 3 and all(len(part.text) <= 120 and part.title == "T" for part in parts)
    assert " ".join(part.text for part in parts) == " ".join(SENTENCES["long"])
    assert [p.id for p in passages if p not in parts] == ["short#1", "a#2#1"]
    judged = read_judged(corpus, "test")
    assert judged.qrels == {
        "q": {part.id: 2 for part in parts} | {"short#1": 0},
        "r": {"short#1": 1, "long#2": 1},
        "s": {"a#2#1": 1},
    }
    assert not judged.faults


@pytest.mark.parametrize("which", [0, 1], ids=["beir", "tables"])
def test_documents_are_ranked_by_their_best_passage(tmp_path: Path, which: int) -> None:
    path = folder(tmp_path / "beir", [*QRELS, ("r", "long#2", 1), ("r", "long#3", 0)])
    corpus = corpus_of(tmp_path, sections(path, aggregate="max")[which])
    judged = read_judged(corpus, "test")
    assert judged.qrels == {"q": {"long": 2, "short": 0}, "r": {"short": 1, "long": 1}} | {
        "s": {"a#2": 1}
    }
    parts = sum(passage.id.startswith("long#") for passage in Passages.read(corpus))
    assert {query.parts for query in judged.queries} == {parts} and not judged.faults
    ranking = [("long#3", 5.0), ("a#2#1", 4.0), ("long#1", 3.0), ("short#1", 2.0)]
    run = measured(judged.queries, [ranking] * 3, 2)
    assert run["q"] == [("long", 5.0), ("a#2", 4.0)]
    assert deeper(judged.queries, 2) == 2 * parts
    assert texts_of(Passages.read(corpus), ["long", "short#1"]).keys() == {"long", "short#1"}
    by_passages = judged.by_passages(Passages.read(corpus))
    assert by_passages.qrels["q"] == {f"long#{n}": 2 for n in range(1, parts + 1)} | {"short#1": 0}


def test_ids_of_parts_are_documents_where_nothing_is_split(tmp_path: Path) -> None:
    (tmp_path / "beir").mkdir()
    path = folder(tmp_path / "other", [("q", "30660", 1), ("r", "7#0", 1)])
    rows = [{"_id": id, "text": "x " + id} for id in ("30660#0", "30660#9", "7#0")]
    (path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    judged = read_judged(
        corpus_of(tmp_path, CorpusSection(path=str(path), aggregate="max")), "test"
    )
    assert judged.qrels == {"q": {"30660": 1}, "r": {"7": 1}} and judged.queries[0].parts == 2
    plain = read_judged(corpus_of(tmp_path / "2", CorpusSection(path=str(path))), "test")
    assert plain.qrels == {"r": {"7#0": 1}} and plain.without_relevant == 1


def test_a_query_that_is_a_document_leaves_all_its_passages_out(tmp_path: Path) -> None:
    path = folder(tmp_path / "beir", [("long", "short", 1)])
    query = {"_id": "long", "text": " ".join(SENTENCES["long"])}
    (path / "queries.jsonl").write_text(json.dumps(query))
    for more in ({}, {"aggregate": "max"}):
        corpus = corpus_of(tmp_path / str(len(more)), sections(path, **more)[0])
        (query_of,) = read_judged(corpus, "test").queries
        parts = [p.id for p in Passages.read(corpus) if p.id.startswith("long#")]
        assert query_of.own == len(parts)
        ranking = [(id, 1.0) for id in [*parts, "short#1"]]
        (left,) = measured([query_of], [ranking], 10).values()
        assert left == [("short" if more else "short#1", 1.0)]
        assert deeper([query_of], 1) > len(parts)


def test_vectors_of_whole_texts_are_refused_beside_parts(tmp_path: Path) -> None:
    path = folder(tmp_path / "beir")
    passages = PassagesTable(path=str(path / "corpus.jsonl"), chunk=120, vector="v")
    with pytest.raises(InputError, match="corpus.passages.chunk and corpus.passages.vector"):
        open_source(CorpusSection(source="tables", passages=passages))


@pytest.mark.parametrize("piece", ["x", "日本の灯台は海辺にあり", "words of a text. ", "\n", "# "])
def test_splitting_takes_time_by_the_length_of_a_text(piece: str) -> None:
    split = splitter(400)
    assert_linear(split, lambda size: piece * (size // len(piece)), 8_000)


def test_a_query_of_passages_has_no_parts() -> None:
    assert Query("q", "x") == Query("q", "x", 0, 0)
