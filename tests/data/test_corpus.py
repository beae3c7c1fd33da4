"""What is kept of a source, what is counted, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import InputError, Passage, Query
from tercet.data import Passages, corpus as module, write_corpus
from tercet.data.judgements import Judged, read_judged
from tercet.data.sources import BeirFolder


def write(tmp_path: Path, corpus: str, queries: str = "", qrels: str = "") -> Artifact:
    """The artefact of a BEIR folder with these files, of which an empty one is left out."""
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    for name, text in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        (folder / name).write_text(text)
    if qrels:
        (folder / "qrels" / "test.tsv").write_text(qrels)
    return made(tmp_path, folder)


def made(tmp_path: Path, folder: Path) -> Artifact:
    source = BeirFolder(str(folder))
    stage = Stage(tmp_path / "run" / "corpus", {}, {}, resumable=False)
    return produce(stage, lambda writer: write_corpus(writer, source))


def passage(id: str, text: str = "", title: str = "") -> str:
    return f'{{"_id": "{id}", "title": "{title}", "text": "{text}"}}\n'


def query(id: str, text: str) -> str:
    return f'{{"_id": "{id}", "text": "{text}"}}\n'


def test_a_corpus_is_read_back_as_it_was(tmp_path: Path, tiny_beir_path: Path) -> None:
    artifact = made(tmp_path, tiny_beir_path)
    source = BeirFolder(str(tiny_beir_path))
    assert list(Passages.read(artifact)) == [passage for _, passage in source.passages()]
    judged = read_judged(artifact, "test")
    queries, qrels = judged.queries, judged.qrels
    assert [query.id for query in queries] == sorted(qrels) == [f"q{i:02}" for i in range(12)]
    assert qrels["q03"] == {"p09": 2, "p10": 1, "p11": 1}
    assert len(read_judged(artifact, "dev").queries) == 8
    assert read_judged(artifact, "train") == Judged([], {})
    assert artifact.facts["judgements"] == 60


def test_shards_are_joined_in_order(
    tmp_path: Path, tiny_beir_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(tmp_path / "whole", tiny_beir_path)
    monkeypatch.setattr(module, "SHARD_ROWS", 7)
    parts = made(tmp_path / "parts", tiny_beir_path)
    assert len(parts.manifest["files"]) > 9 + 3 + 9 - 1
    assert list(Passages.read(parts)) == list(Passages.read(whole))
    assert read_judged(parts, "test") == read_judged(whole, "test")
    assert parts.facts == whole.facts


def test_passages_without_text_are_dropped_and_counted(tmp_path: Path) -> None:
    text = passage("a", "x") + passage("b") + passage("c", "  ") + passage("d", title="T")
    artifact = write(tmp_path, text)
    assert list(Passages.read(artifact)) == [Passage("a", "", "x"), Passage("d", "T", "")]
    assert (artifact.facts["passages"], artifact.facts["empty_passages"]) == (2, 2)


def test_equal_texts_are_counted_and_kept(tmp_path: Path) -> None:
    text = passage("a", "x y") + passage("b", "y", "x") + passage("c", "x y") + passage("d", "z")
    artifact = write(tmp_path, text)
    assert len(list(Passages.read(artifact))) == 4
    assert artifact.facts["passages_with_an_equal_text"] == 2


@pytest.mark.fault("judgements of unknown ids")
def test_judgements_of_what_is_unknown_are_counted_and_kept(tmp_path: Path) -> None:
    queries = query("q1", "one") + query("q2", "never judged")
    artifact = write(
        tmp_path, passage("p", "x"), queries, "q1\tp\t1\nq1\tgone\t1\nq9\tp\t1\nq9\tgone\t0\n"
    )
    facts = artifact.facts
    assert (facts["judgements"], facts["of_unknown_queries"], facts["of_unknown_passages"]) == (
        4,
        2,
        2,
    )
    judged = read_judged(artifact, "test")
    assert judged.queries == [Query("q1", "one")] and judged.qrels == {"q1": {"p": 1, "gone": 1}}
    assert (judged.total, judged.without_text, judged.without_relevant) == (2, 1, 0)
    counted = read_judged(artifact, "test", unanswerable="zero")
    assert counted.queries == judged.queries
    assert counted.qrels == {"q1": {"p": 1, "gone": 1}, "q9": {"p": 1, "gone": 0}}


def test_a_judgement_given_twice_alike_counts_once(tmp_path: Path) -> None:
    artifact = write(tmp_path, passage("p", "x"), query("q", "y"), "q\tp\t1\nq\tp\t1\n")
    assert artifact.facts["judgements"] == 1


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels", "message"),
    [
        (passage("p", "x") * 2, "", "", "corpus.jsonl:2: passage id 'p' was used before, at "),
        (passage("p") + passage("p", "x"), "", "", "passage id 'p' was used before"),
        ('{"_id": 1, "text": "x"}\n' + passage("1", "y"), "", "", "passage id '1' was used before"),
        ("", "", "", "the corpus holds no passage with text"),
        (passage("p"), "", "", "the corpus holds no passage with text"),
        (passage("p", "x"), query("q", "y") * 2, "q\tp\t1\n", "queries.jsonl:2: query id 'q' was"),
        (passage("p", "x"), query("q", " "), "q\tp\t1\n", "queries.jsonl:1: query 'q' has no text"),
        (
            passage("p", "x"),
            query("q", "y"),
            "q\tp\t1\nq\tp\t2\n",
            "test.tsv:2: query 'q' and passage 'p' have two grades",
        ),
    ],
)
def test_what_is_refused_leaves_nothing(
    tmp_path: Path, corpus: str, queries: str, qrels: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        write(tmp_path, corpus, queries, qrels)
    assert message in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.fault("duplicate ids")
def test_an_id_that_is_used_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"jsonl:3: passage id 'a' was used before, at .*jsonl:1$"):
        write(tmp_path, passage("a", "one") + passage("b", "two") + passage("a", "three"))


@pytest.mark.fault("duplicate ids")
def test_equal_texts_are_counted(tmp_path: Path) -> None:
    made = write(tmp_path, passage("a", "one") + passage("b", "one") + passage("c", "two"))
    assert made.facts["passages_with_an_equal_text"] == 1
