"""One reader of judgements: the dialects of a file, alike in a BEIR folder and in a table."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tercet.config.corpus import PassagesTable, QrelsTable, QueriesTable
from tercet.core.schema import InputError
from tercet.data.sources import BeirFolder
from tercet.data.sources.tables import JudgementTables, PassageTable

EXPECTED = [("q1", "p1", 2), ("q1", "p2", 0), ("q2", "p1", 1)]
#: Three columns or TREC's four.
ROWS = {
    3: [(q, p, str(grade)) for q, p, grade in EXPECTED],
    4: [(q, "0", p, str(grade)) for q, p, grade in EXPECTED],
}
HEADERS = {
    3: ["", "query-id corpus-id score", "Query-Id Corpus-Id SCORE", "query_id doc_id relevance"],
    4: ["", "qid iter docno Rel", "TOPIC iteration document_id grade", "queryID _ pid label"],
}
BETWEEN = {"tab": "\t", "blank": " ", "blanks": "   ", "both": " \t ", "tab at the end": "\t"}


def written(rows: list[tuple[str, ...]], header: str, between: str, *, quoted: bool = False) -> str:
    lines = [tuple(header.split()), *rows] if header else rows
    if quoted:
        lines = [tuple(f'"{cell}"' for cell in line) for line in lines]
    end = "\t\n" if between == "tab at the end" else "\n"
    return "".join(BETWEEN[between].join(line) + end for line in lines)


def both_readings(
    folder: Path, text: str, suffix: str = ".tsv"
) -> list[list[tuple[str, str, int]]]:
    """The judgements as a BEIR folder's and as a table's."""
    (folder / "qrels").mkdir()
    file = folder / "qrels" / f"test{suffix}"
    file.write_text(text)
    for name in ("corpus", "queries"):
        (folder / f"{name}.jsonl").write_text('{"_id": "x", "text": "x"}')
    queries = QueriesTable(path=str(folder / "queries.jsonl"))
    table = JudgementTables(queries, QrelsTable(path=str(file)), "test")
    sources = (BeirFolder(str(folder)), table)
    found = [list(source.judgements()) for source in sources]
    assert all(split == "test" for rows in found for _, split, *_ in rows)
    return [[(q, p, grade) for _, _, q, p, grade in rows] for rows in found]


CASES = [
    (width, header, between, quoted)
    for width in (3, 4)
    for header, between, quoted in product(HEADERS[width], BETWEEN, (False, True))
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_dialect_is_read_alike(tmp_path: Path, case: tuple[int, str, str, bool]) -> None:
    width, header, between, quoted = case
    text = written(ROWS[width], header, between, quoted=quoted)
    assert both_readings(tmp_path, text) == [EXPECTED, EXPECTED]


def test_ids_may_hold_blanks_between_tabs(tmp_path: Path) -> None:
    text = "query-id\tcorpus-id\tscore\nquery one\tdoc\u00a03 \t1\n q\ta  b\t-2\n"
    expected = [("query one", "doc\u00a03", 1), ("q", "a  b", -2)]
    assert both_readings(tmp_path, text) == [expected, expected]


def test_a_quote_within_an_id_is_part_of_it(tmp_path: Path) -> None:
    text = 'q"1\tp\t1\n"q2\tp\t1\n'
    expected = [('q"1', "p", 1), ('"q2', "p", 1)]
    assert both_readings(tmp_path, text) == [expected, expected]


@pytest.mark.parametrize("suffix", [".txt", ".qrels", ".trec"])
def test_the_name_of_a_file_changes_nothing(tmp_path: Path, suffix: str) -> None:
    text = written(ROWS[4], "", "blank")
    assert both_readings(tmp_path, text, suffix) == [EXPECTED, EXPECTED]


@pytest.mark.parametrize(
    "text",
    [
        "query-id,corpus-id,score\nq1,p1,2\nq1,p2,0\nq2,p1,1\n",
        "Query ID;Doc ID;Relevance\nq1;p1;2\nq1;p2;0\nq2;p1;1\n",
        "q1,p1,2\nq1,p2,0\nq2,p1,1\n",
    ],
)
def test_commas_too(tmp_path: Path, text: str) -> None:
    assert both_readings(tmp_path, text, ".csv") == [EXPECTED, EXPECTED]


def test_json_judgements_are_mappings_or_rows(tmp_path: Path) -> None:
    forms = {
        "graded": '{"q1": {"p1": 2, "p2": 0}, "q2": {"p1": 1}}',
        "rows": '[{"Query-Id": "q1", "Corpus-Id": "p1", "Score": 2}, {"query-id": "q1", '
        '"corpus-id": "p2", "score": 0}, {"query-id": "q2", "corpus-id": "p1", "score": 1.0}]',
    }
    for name, text in forms.items():
        (tmp_path / name).mkdir()
        assert both_readings(tmp_path / name, text, ".json") == [EXPECTED, EXPECTED]
    (tmp_path / "lists").mkdir()
    listed = both_readings(tmp_path / "lists", '{"q1": ["p1"], "q2": ["p1", "p2"]}', ".json")
    assert listed == [[("q1", "p1", 1), ("q2", "p1", 1), ("q2", "p2", 1)]] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo\tbar\tbaz\nq\tp\t1\n", "1: neither names of columns that are known"),
        ("q\tp\tgood\n", "1: neither names of columns that are known"),
        ("q Q0 p 1 0.5 run\n", "1: 6 cells and no header"),
        ("query-id\tcorpus-id\tscore\nq\tp\n", "2: 2 cells for 3 columns"),
        ("q\tp\t1.5\n", "1: '1.5' is not a whole number"),
    ],
)
def test_what_is_no_judgement_is_refused_alike(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "qrels").mkdir()
    with pytest.raises(InputError) as caught:
        both_readings(tmp_path / "qrels", text)
    assert f"test.tsv:{message}" in str(caught.value)


def test_a_folder_s_other_files_of_judgements_are_no_surprise(tmp_path: Path) -> None:
    both_readings(tmp_path, written(ROWS[3], "", "tab"))
    (tmp_path / "qrels" / "README.md").write_text("about them")
    assert len(BeirFolder(str(tmp_path)).qrels) == 1
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels" / "test.docx")
    with pytest.raises(InputError, match="its qrels are test.docx: name them <split>.tsv"):
        BeirFolder(str(tmp_path))


def test_names_of_columns_in_any_case_are_found_in_passages_too(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("DocID,Title,Text\n1,T,x\n")
    ((_, passage),) = PassageTable(PassagesTable(path=str(file))).passages()
    assert (passage.id, passage.title, passage.text) == ("1", "T", "x")
