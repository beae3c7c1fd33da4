"""The bookmarks are those of one archive, and no other."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tercet.core.artifacts import Artifact, Stage, produce
from tercet.core.schema import InputError
from tercet.data import Passages, write_corpus
from tercet.data.judgements import read_judged
from tercet.data.sources import bookmarks

ARCHIVE = Path(__file__).parents[2] / "corpora" / "cherche-2.2.1.tar.gz"


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.tar.gz"
    with tarfile.open(file, "w:gz"):
        pass
    with pytest.raises(InputError, match="not the archive of cherche 2.2.1"):
        bookmarks.Bookmarks(str(file))
    with pytest.raises(InputError, match="no such file .*tercet demo"):
        bookmarks.Bookmarks(str(tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def source() -> bookmarks.Bookmarks:
    if not ARCHIVE.is_file():
        pytest.skip("the archive is not here: `make models` brings it")
    return bookmarks.Bookmarks(str(ARCHIVE))


@pytest.fixture(scope="module")
def corpus(source: bookmarks.Bookmarks, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("bookmarks") / "corpus"
    return produce(Stage(folder, {}, {}), lambda writer: write_corpus(writer, source))


@pytest.mark.models
def test_its_size_is_known(corpus: Artifact) -> None:
    assert corpus.facts == {
        "passages": 7211,
        "empty_passages": 1,
        "passages_with_an_equal_text": 0,
        "judgements": corpus.facts["judgements"],
        "of_unknown_queries": 0,
        "of_unknown_passages": 0,
    }
    dev, test = (read_judged(corpus, split) for split in ("dev", "test"))
    assert (len(dev.queries), len(test.queries)) == (366, 2370 - 366)
    assert not dev.qrels.keys() & test.qrels.keys()


@pytest.mark.models
def test_equal_bookmarks_are_merged_with_all_their_topics(source: bookmarks.Bookmarks) -> None:
    passages = [passage for _, passage in source.passages()]
    assert len({(p.title, p.text) for p in passages}) == len(passages)
    filed: dict[tuple[str, str], set[str]] = {}
    for document in source._documents:
        title = " ".join(document["title"].split())
        text = " ".join(f"{document['comment']} {document['arxiv_summary']}".split())
        filed.setdefault((title, text), set()).update(document["tag"])
    assert len(source._documents) > len(filed) == len(passages)
    topics: dict[str, set[str]] = {}
    for _, _, topic, passage, _ in source.judgements():
        topics.setdefault(passage, set()).add(topic)
    judged = {topic for found in topics.values() for topic in found}
    for passage in filter(lambda passage: passage.contents, passages):
        assert topics.get(passage.id, set()) == filed[passage.title, passage.text] & judged


@pytest.mark.models
def test_every_topic_has_a_label_and_two_passages(corpus: Artifact) -> None:
    ids = {passage.id for passage in list(Passages.read(corpus))}
    for split in ("dev", "test"):
        judged = read_judged(corpus, split)
        assert all(query.text.strip() for query in judged.queries)
        assert all(len(grades) >= 2 and grades.keys() <= ids for grades in judged.qrels.values())
