"""Which judged queries can be answered, which are passages themselves, and what is said of both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import InputError
from tercet.data import write_corpus
from tercet.data.judgements import is_own, missing_split, read_judged
from tercet.data.sources import BeirFolder

PASSAGES = {f"p{i}": f"passage number {i} about lanterns" for i in range(6)}
QUERIES = {f"q{i}": f"question {i}" for i in range(4)}


def corpus_of(
    tmp_path: Path,
    judgements: Sequence[tuple[str, str, int]],
    *,
    passages: dict[str, str] = PASSAGES,
    queries: dict[str, str] = QUERIES,
    split: str = "test",
) -> Artifact:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", passages), ("queries", queries)):
        rows = [json.dumps({"_id": id, "text": text}) for id, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    lines = [f"{query}\t{passage}\t{grade}" for query, passage, grade in judgements]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines))
    source = BeirFolder(str(folder))
    stage = Stage(tmp_path / "run" / "corpus", {}, {}, resumable=False)
    return produce(stage, lambda writer: write_corpus(writer, source))


def test_queries_that_nothing_can_answer_are_left_out_or_zero_and_counted(tmp_path: Path) -> None:
    corpus = corpus_of(
        tmp_path,
        [
            *(("q0", "p0", 2), ("q0", "gone", 1), ("q1", "p1", 0), ("q1", "p2", -1)),
            *(("q2", "gone", 1), ("q9", "p0", 1)),
        ],
    )
    judged = read_judged(corpus, "test")
    # A relevant passage that is not there still lowers the recall of a query that has another.
    assert judged.qrels == {"q0": {"p0": 2, "gone": 1}}
    assert judged.notes == judged.faults
    assert judged.faults[0].startswith("1 of 4 judged queries have no text: left out")
    assert judged.faults[1].startswith(
        "2 of 4 judged queries have no relevant passage in the corpus: left out"
    )
    counted = read_judged(corpus, "test", unanswerable="zero")
    assert counted.qrels.keys() == {"q0", "q1", "q2", "q9"}
    assert [query.id for query in counted.queries] == ["q0", "q1", "q2"]
    assert "every system has zero there" in counted.faults[1]


@pytest.mark.parametrize(
    ("judgements", "why"),
    [
        (
            [(f"Q{i}", f"P{i}", 1) for i in range(4)],
            "none has a text: the judgements name 'Q0', the queries 'q0'",
        ),
        (
            [(f"q{i}", f"P{i}", 1) for i in range(4)],
            "no relevant passage is in the corpus: the judgements name 'P0', and an id of the "
            "corpus is 'p0'",
        ),
        (
            [(f"q{i}", f"p{i}", 0) for i in range(4)],
            "no grade of the 4 judgements is above 0",
        ),
    ],
    ids=("queries in another case", "passages in another case", "all grades 0"),
)
def test_judgements_that_match_nothing_are_refused(
    tmp_path: Path, judgements: list[tuple[str, str, int]], why: str
) -> None:
    corpus = corpus_of(tmp_path, judgements)
    with pytest.raises(InputError) as caught:
        read_judged(corpus, "test")
    expected = "none of the 4 judged queries of split 'test' can be answered: "
    assert str(caught.value) == expected + why


def test_judgements_of_another_split_are_named(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [("q0", "p0", 1)], split="train")
    assert missing_split(corpus, "train") == ""
    assert "there are 'train' (1 queries)" in missing_split(corpus, "test")
    assert not read_judged(corpus, "test").qrels


def test_a_query_that_is_a_passage_leaves_that_out(tmp_path: Path) -> None:
    queries = {
        "p0": PASSAGES["p0"],
        "p1": PASSAGES["p1"].upper() + "!",
        "p2": "what else",
        "q": "x",
    }
    judgements = [("p0", "p4", 1), ("p1", "p1", 1), ("p2", "p5", 1), ("q", "p0", 1)]
    corpus = corpus_of(tmp_path, judgements, queries=queries)
    judged = read_judged(corpus, "test")
    # p1 is judged relevant to itself; p2 is another text that has the same id by chance.
    assert {query.id for query in judged.queries if query.own} == {"p0"}
    assert judged.own == 1 and judged.faults == []
    assert judged.notes[0].startswith("1 of 4 judged queries are passages of the corpus themselves")
    kept = read_judged(corpus, "test", leave_out="none")
    assert not any(query.own for query in kept.queries) and kept.notes == []
    assert not read_judged(corpus, "test").only({"q"}).own


def test_a_query_is_a_passage_by_half_of_their_words() -> None:
    assert is_own("The lighthouse, and its keeper.", "the Lighthouse and its keeper")
    assert is_own("The lighthouse and its keeper", "Harbours the lighthouse and its keeper")
    assert not is_own("the lighthouse", "The bakery is known for the sourdough bread")
    assert not is_own("", "")


def test_a_corpus_of_an_earlier_version_is_refused_in_a_line(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [("q0", "p0", 1)])
    files = corpus.manifest["files"]
    files = {name: entry for name, entry in files.items() if not name.startswith("judged-")}
    old = Artifact(corpus.path, corpus.manifest | {"files": files})
    with pytest.raises(InputError, match="corpus has no judged: an earlier version made it"):
        read_judged(old, "test")
