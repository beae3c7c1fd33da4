"""`tercet init`: files as users have them give a recipe that runs, or one line with the mend."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from datasets import Dataset
from openpyxl import Workbook
from user_files import TWELVE, Tiny, write_csv
from weaviate_fixtures import SCRATCH, Server

from tercet.commands.adapt import adapt
from tercet.commands.init import command
from tercet.config.loading import load_recipe
from tercet.core.artifacts import Artifact
from tercet.core.console import console
from tercet.core.schema import InputError
from tercet.data import Passages
from tercet.data.judgements import read_judged
from tercet.data.sources import hub
from tercet.pipeline.pipeline import Pipeline


@pytest.fixture(scope="session")
def tiny(tiny_beir_path: Path) -> Tiny:
    return Tiny.of(tiny_beir_path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: paths in recipes are relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as in a file, whatever COLUMNS says."""
    monkeypatch.setattr(console, "_width", 200)


def run(*arguments: str) -> str:
    """What `tercet init` prints; its InputError is raised."""
    result = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def refused(*arguments: str) -> str:
    with pytest.raises(InputError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    assert not list(Path().glob("*.yaml")), "nothing is written"
    return str(caught.value)


def corpus_of(recipe: str = "recipe.yaml") -> Artifact:
    return Pipeline(load_recipe(recipe)).make("corpus")


def section(recipe: str = "recipe.yaml") -> dict[str, Any]:
    return yaml.safe_load(Path(recipe).read_text())["corpus"]


@pytest.mark.parametrize("name", TWELVE)
def test_twelve_forms_give_the_same_corpus(name: str, tiny: Tiny, folder: Path) -> None:
    arguments = TWELVE[name](tiny, folder)
    told = run(*arguments, "--out", "recipe.yaml")
    corpus = corpus_of()
    passages = list(Passages.read(corpus))
    assert len(passages) == len(tiny.passages) + (name == "no id column")
    assert f"{len(passages):,}" in told and "tercet adapt recipe.yaml" in told
    texts = sorted(passage.text for passage in passages)
    assert all(any(row["text"] in text for text in texts) for row in tiny.passages)
    judged = read_judged(corpus, "test")
    queries, qrels = judged.queries, judged.qrels
    if name == "no id column":
        assert not queries and "no judged queries" in told
        return
    # Each form judges all queries, and loses no judgement.
    assert {query.text.lower() for query in queries} == set(tiny.queries.values())
    assert corpus.facts["of_unknown_passages"] == corpus.facts["of_unknown_queries"] == 0
    grades = {grade for judged in qrels.values() for grade in judged.values()}
    expected = {"click log": {1, 3}, "XLSX": {3}, "queries and judgements in one file": {1, 2}}
    assert grades == expected.get(name, {1})
    every = (
        "click log",
        "ids in one cell",
        "JSON array",
        "queries and judgements in one file",
    )
    assert corpus.facts["judgements"] == (len(tiny.qrels) if name in every else len(tiny.queries))


@pytest.mark.slow
@pytest.mark.parametrize("name", TWELVE)
def test_twelve_forms_are_adapted_to(
    name: str, tiny: Tiny, folder: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> None:
    run(*TWELVE[name](tiny, folder), "--out", "recipe.yaml", "--model", str(tiny_encoder_path))
    recipe = load_recipe("recipe.yaml", [*TINY, "--teacher.name", str(tiny_cross_encoder_path)])
    adapt(recipe)
    report = (recipe.folder / "report.md").read_text()
    assert ("judged queries of split 'test'" in report) == (name != "no id column")


TINY = [
    *("--queries.count", "40", "--queries.per_passage", "1", "--negatives.candidates", "6"),
    *("--teacher.max_length", "40", "--teacher.precision", "fp32", "--model.precision", "fp32"),
    *("--model.max_length", "32", "--training.num_train_epochs", "1", "--training.bf16", "false"),
    *("--training.per_device_train_batch_size", "8", "--evaluation.interpolation_steps", "1"),
    *("--index.backend", "exact"),
]


# ── what is told ─────────────────────────────────────────────────────────────────────────────


def test_a_recipe_says_why(tiny: Tiny, folder: Path) -> None:
    told = run(*TWELVE["click log"](tiny, folder), "--model", "models/small")
    text = Path("articles.yaml").read_text()
    assert yaml.safe_load(text) == {
        "name": "articles",
        "model": {"name": "models/small"},
        "corpus": {
            "source": "tables",
            "passages": {
                "path": "articles.csv",
                "delimiter": ",",
                "id": "article_id",
                "title": "title",
                "text": "body",
            },
            "queries": {
                "path": "clicks.csv",
                "delimiter": ",",
                "id": "query",
                "text": "query",
                "positives": "doc_id",
                "click_grades": "log2",
            },
        },
    }
    assert "# rows with the same text, but for case and blanks, are one query" in text
    assert "# log2: n clicks are grade 1 + floor(log2 n)" in text
    for line in ("not read of the judged queries: 'time', 'user'", "20 of grade 3", "tercet adapt"):
        assert line in told


def test_what_is_left_out_is_counted(folder: Path) -> None:
    write_csv(folder / "a.csv", [{"id": i, "text": "" if i < 3 else f"text {i}"} for i in range(9)])
    rows = [{"query": f"q {i}", "doc_id": i} for i in range(6, 12)] + [{"query": "x", "doc_id": ""}]
    write_csv(folder / "j.csv", rows)
    told = run("a.csv", "--judged", "j.csv")
    assert "3 passages have no text, and are left out" in told
    assert "3 judgements are of an unknown query or passage" in told
    assert "4 judged queries have no relevant passage that is there" in told


def test_the_judged_file_tells_which_column_is_the_id(folder: Path) -> None:
    rows = [{"doc_id": f"d{i}", "url": f"/a/{i}", "text": f"text {i}"} for i in range(9)]
    write_csv(folder / "a.csv", rows)
    write_csv(
        folder / "j.csv", [{"query": f"q{i}", "position": i, "target": f"/a/{i}"} for i in range(9)]
    )
    run("a.csv", "--judged", "j.csv")
    assert section("a.yaml")["passages"]["id"] == "url"
    assert section("a.yaml")["queries"]["positives"] == "target"


def test_a_column_without_a_known_name_is_chosen_where_it_is_clear(folder: Path) -> None:
    rows = [
        {"ref": f"r{i}", "thing": f"Thing {i}", "prose": "word " * 20 + str(i)} for i in range(9)
    ]
    write_csv(folder / "a.csv", rows)
    write_csv(folder / "j.csv", [{"query": f"q{i}", "which": f"r{i}"} for i in range(9)])
    run("a.csv", "--judged", "j.csv")
    assert section("a.yaml")["passages"] == {
        "path": "a.csv",
        "delimiter": ",",
        "id": "ref",
        "text": "prose",
    }


def test_small_numbers_are_no_ids_though_they_meet_some(folder: Path) -> None:
    write_csv(folder / "a.csv", [{"nr": i, "text": f"text {i}"} for i in range(9)])
    rows = [{"query": f"q{i}", "position": i, "which": min(i + 2, 9)} for i in range(9)]
    write_csv(folder / "j.csv", rows)
    run("a.csv", "--judged", "j.csv")
    assert section("a.yaml")["queries"]["positives"] == "which"
    # Of two columns that fit, the one with the name of the passages' column.
    write_csv(folder / "j.csv", [{"query": f"q{i}", "doc_id": i, "nr": 8 - i} for i in range(9)])
    run("a.csv", "--judged", "j.csv", "--force")
    assert section("a.yaml")["queries"]["positives"] == "nr"


@pytest.mark.parametrize(
    ("letters", "encoding"), [(b"caf\xe9 \x80", "cp1252"), (b"caf\xe9 \x81", "latin-1")]
)
def test_an_encoding_is_found_and_told(folder: Path, letters: bytes, encoding: str) -> None:
    (folder / "a.csv").write_bytes(b"id,text\n1,one text\n2,another " + letters + b"\n")
    assert "if letters look wrong, name another" in run("a.csv")
    assert section("a.yaml")["passages"]["encoding"] == encoding
    assert list(Passages.read(corpus_of("a.yaml")))[1].text.startswith("another caf\u00e9")
    run("a.csv", "--force", "--encoding", "cp1251")
    assert list(Passages.read(corpus_of("a.yaml")))[1].text.startswith("another caf\u0439")


def test_queries_and_qrels_in_two_files(tiny: Tiny, folder: Path) -> None:
    write_csv(folder / "a.csv", tiny.passages)
    queries = [{"qid": id, "query": text} for id, text in tiny.queries.items()]
    write_csv(folder / "q.csv", queries, delimiter=";")
    (folder / "qrels.txt").write_text("".join(f"{q} 0 {p} {g}\n" for q, p, g in tiny.qrels))
    run("a.csv", "--judged", "q.csv", "--qrels", "qrels.txt")
    corpus = corpus_of("a.yaml")
    assert corpus.facts["judgements"] == len(tiny.qrels)
    assert corpus.facts["of_unknown_queries"] == 0


def test_other_shapes_are_read(tiny: Tiny, folder: Path, tiny_beir_path: Path) -> None:
    run(str(tiny_beir_path), "--out", "recipe.yaml")
    assert section()["source"] == "beir" and corpus_of().facts["judgements"] == 60
    (folder / "index.json").write_text(
        json.dumps(
            {
                "queries": tiny.queries,
                "corpus": {p["_id"]: p["text"] for p in tiny.passages},
                "relevant_docs": {
                    q: [p for of, p, _ in tiny.qrels if of == q] for q in tiny.queries
                },
                "mode": "text",
            }
        )
    )
    run("index.json", "--judged", "index.json", "--out", "recipe.yaml", "--force")
    assert corpus_of().facts["judgements"] == 60
    (folder / "texts.json").write_text(json.dumps([p["text"] for p in tiny.passages]))
    run("texts.json", "--out", "recipe.yaml", "--force")
    assert section()["passages"]["ids"] == "made" and corpus_of().facts["passages"] == 60
    for i in range(3):
        write_csv(folder / "parts" / f"part {i}.csv", tiny.passages[20 * i : 20 * i + 20])
    (folder / "parts" / "README.md").write_text("# Parts\n")
    run("parts", "--out", "recipe.yaml", "--force")
    assert corpus_of().facts["passages"] == 60
    for option in ("--id", "--text", "--columns"):
        with pytest.raises(InputError, match=f"{option} is for tables: leave it out"):
            run(str(tiny_beir_path), option, "text", "--force")
    # A page's own settings make its folder no table.
    _ = TWELVE["folder of Markdown"](tiny, folder)
    (folder / "guide" / "settings.json").write_text("{}")
    run("guide", "--out", "recipe.yaml", "--force")
    assert section() == {"source": "documents", "path": "guide"}


def test_a_saved_dataset_is_looked_at_whole(tiny: Tiny, folder: Path) -> None:
    passages = [{"docid": p["_id"], "abstract": p["text"]} for p in tiny.passages]
    Dataset.from_list(passages).save_to_disk("saved")
    judged = [{"question": text, "docids": ids} for text, ids in tiny.relevant().items()]
    Dataset.from_list(judged).to_parquet("judged.parquet")
    assert "60" in run("saved", "--judged", "judged.parquet")
    assert section("saved.yaml")["queries"]["positives"] == "docids"
    assert corpus_of("saved.yaml").facts["judgements"] == 60


def test_of_the_hub_the_first_rows_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"pid": i, "passage": f"A text {i}", "emb": [0.5]} for i in range(5_000)]
    monkeypatch.setattr(hub.HubDataset, "identity", "0" * 40)
    monkeypatch.setattr(hub, "_open", lambda path, *_: Dataset.from_list(rows))
    write_csv(folder / "j.csv", [{"query": "a", "pid": 2_000}, {"query": "b", "pid": 4_000}])
    told = run("owner/name", "--judged", "j.csv")
    assert (
        "the first 1,000" in told
        and "whether the judged passages are there was not looked at" in told
    )
    assert section("name.yaml")["passages"] == {
        "path": "owner/name",
        "id": "pid",
        "text": "passage",
    }


def test_a_name_that_is_neither_path_nor_dataset_says_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(hub.HfApi, "dataset_info", unreachable)
    message = refused("owner/name")
    assert message.startswith("owner/name: no such file or folder here, and as a dataset it cannot")


@pytest.mark.weaviate
def test_a_collection_is_looked_at(
    tiny: Tiny,
    folder: Path,
    weaviate_server: Server,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in weaviate_server.environment.items():
        monkeypatch.setenv(name, value)
    handle = server.client.collections.create(SCRATCH)
    with handle.batch.fixed_size(100) as batch:
        for passage in tiny.passages:
            batch.add_object({"key": passage["_id"], "body": passage["text"], "views": 3})
    told = run(f"weaviate:{SCRATCH}", "--out", "recipe.yaml")
    assert section() == {"source": "weaviate", "path": SCRATCH, "passages": {"text": "body"}}
    assert "UUID" in told and len(Passages.read(corpus_of())) == 60
    # Judgements name a property: that is the id.
    write_csv(folder / "j.csv", [{"query": t, "key": i[0]} for t, i in tiny.relevant().items()])
    run(f"weaviate:{SCRATCH}", "--judged", "j.csv", "--out", "recipe.yaml", "--force")
    assert section()["passages"] == {"id": "key", "text": "body"}
    assert corpus_of().facts["of_unknown_passages"] == 0


# ── refusals ─────────────────────────────────────────────────────────────────────────────────

GOOD = "id,title,text\n" + "".join(f"p{i},T{i},a text of some words {i}\n" for i in range(9))
JUDGED = "query,doc_id\n" + "".join(f"what is {i},p{i}\n" for i in range(9))
LONG = "a text of some words, which goes on for a while, and ends here"


@pytest.mark.parametrize(
    ("articles", "judged", "message"),
    [
        (
            "doc_id,sku,text\n" + "".join(f"d{i},s{i},text {i}\n" for i in range(9)),
            "",
            "'doc_id' or 'sku' could be the passages' id: say which, --id doc_id",
        ),
        (
            f"id,abstract,body\n1,{'x' * 80},{'y' * 90}\n2,{'x' * 81},{'y' * 91}\n",
            "",
            "'body' or 'abstract' could be the passages' text: say which, --text body",
        ),
        (
            GOOD,
            "query,doc_id\nwhat,x1\nwho,x2\n",
            "none of its 2 rows names a passage: 'doc_id' is 'x1', and an id of articles.csv is",
        ),
        (GOOD, "query,doc_id\nwhat,p1\n ,p2\n", "judged.csv:3: a judged query has no text"),
        (
            GOOD,
            "frage,doc_id\nwhat,p1\n",
            "no column is a query's text by its name; there are frage, doc_id: give --query",
        ),
        (GOOD, "query,question,doc_id\nwhat,x,p1\n", None),
        (GOOD, "question,keywords,doc_id\nwhat,x,p1\n", "say which, --query question"),
        (
            GOOD,
            "query,sku,doc_id\na,p1,p2\nb,p2,p1\n",
            "'sku' or 'doc_id' could name the relevant passages: say which, --relevant sku",
        ),
        ("", "", "articles.csv: an empty file"),
        ("id,text\n", "", "articles.csv: holds no row below its header"),
        ("id,text\n1,\n2,\n", "", "articles.csv: no column holds text"),
        (
            f"p1,{LONG}\np2,{LONG} too\n".replace(", ", "; "),
            "",
            "articles.csv: the first line looks like data",
        ),
        ('id,text\na,"x\nb,y\n', "", "articles.csv:2: not CSV"),
        (GOOD + "p1,T,again\n", "", "'id' is not the id, as rows share a value: give --id COLUMN"),
    ],
)
def test_what_is_unclear_is_refused_with_the_mend(
    folder: Path, articles: str, judged: str, message: str | None
) -> None:
    (folder / "articles.csv").write_text(articles)
    arguments = ["articles.csv"]
    if judged:
        (folder / "judged.csv").write_text(judged)
        arguments += ["--judged", "judged.csv"]
    if message is None:
        run(*arguments)
    else:
        assert message in refused(*arguments)


def test_what_the_user_says_mends_it(folder: Path) -> None:
    (folder / "a.csv").write_text(f"p1,Tee,{LONG}\n".replace(", ", "; ") + "p2,Cup,Other text\n")
    (folder / "j.csv").write_text("what,p1\nwho,p2\n")
    assert "name its 2 columns, as in --judged-columns query,relevant" in refused(
        "a.csv", "--judged", "j.csv", "--columns", "id,title,text"
    )
    columns = ["--columns", "id,title,text", "--judged-columns", "query,relevant"]
    run("a.csv", "--judged", "j.csv", *columns)
    assert corpus_of("a.yaml").facts["judgements"] == 2
    (folder / "b.csv").write_text("doc_id,sku,abstract,body\nd1,s1,aa,bb\nd2,s2,cc,dd\n")
    run("b.csv", "--id", "sku", "--text", "body", "--title", "abstract")
    assert [p.contents for p in Passages.read(corpus_of("b.yaml"))] == ["aa bb", "cc dd"]
    run("b.csv", "--id", "none", "--text", "body", "--force")
    assert section("b.yaml")["passages"]["ids"] == "made"
    with pytest.raises(InputError, match="no column 'nr' .--id.; there are doc_id, sku"):
        run("b.csv", "--id", "nr", "--text", "body", "--force")
    with pytest.raises(InputError, match="b.yaml: exists already: give --out FILE"):
        run("b.csv", "--id", "sku", "--text", "body")


def _half_json(folder: Path) -> str:
    text = json.dumps([{"id": i, "text": f"text {i}"} for i in range(9)], indent=1)
    (folder / "a.json").write_text(text[: len(text) // 2])
    return "a.json"


def _book(folder: Path) -> str:
    book = Workbook()
    book.create_sheet("more")
    book.save(folder / "a.xlsx")
    return "a.xlsx"


def _written(name: str, content: bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        return name

    return write


def _mixed(folder: Path) -> str:
    _written("d/a.csv", GOOD.encode())(folder)
    _written("d/b.jsonl", b'{"id": 1, "text": "x"}\n')(folder)
    return "d"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_half_json, "a.json:20: ends before its JSON does"),
        (_book, "a.xlsx: has sheets Sheet, more: give `sheet`"),
        (
            _written("a.csv", b"PK\x03\x04xxxx"),
            "is a zip, as Excel's files are by its contents: name it a.xlsx",
        ),
        (_written("a.xlsx", b"PK\x03\x04xxxx"), "a.xlsx: cannot be read as .xlsx"),
        (_written("a.docx", b"x"), "put documents (txt, md, html, pdf) in a folder"),
        (_written("a.xls", b"x"), "save it as .xlsx or .csv"),
        (_written("a.json", b"3"), "its JSON must be an array of objects"),
        (lambda folder: os.mkdir("e") or "e", "e: holds no table and no document (.jsonl"),
        (_mixed, "d: holds .csv, .jsonl: give one kind as a pattern, such as 'd/*.csv'"),
        (lambda folder: "nowhere.csv", "nowhere.csv: no such file or folder"),
        (
            lambda folder: "articles",
            "articles: no such file or folder; a dataset of the Hub is OWNER/NAME",
        ),
        (lambda folder: "no/such/folder", "no/such/folder: no such file or folder"),
        (lambda folder: "my articles", "my articles: no such file or folder"),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    folder: Path, write: Callable[[Path], str], message: str
) -> None:
    assert message in refused(write(folder))


def test_without_its_library_an_excel_file_says_what_to_install(
    tiny: Tiny, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = TWELVE["XLSX"](tiny, folder)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert "pip install 'tercet[excel]'" in refused(*arguments)


def test_a_missing_path_below_a_folder_is_no_dataset(folder: Path) -> None:
    os.mkdir("data")
    assert refused("data/articles") == "data/articles: no such file or folder (passages)"
    recipe = folder / "r.yml"
    recipe.write_text("corpus: {source: tables, passages: {path: data/articles}}\n")
    with pytest.raises(InputError, match="no such file or folder .corpus.passages.path"):
        Pipeline(load_recipe(recipe)).make("corpus")
