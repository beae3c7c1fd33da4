"""The tiny collection in twelve forms as users have them, and broken ones."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpyxl import Workbook

Row = dict[str, Any]


@dataclass(frozen=True)
class Tiny:
    """Passages, queries, and (query id, passage id, grade) of the tiny BEIR folder."""

    passages: list[Row]
    queries: dict[str, str]
    qrels: list[tuple[str, str, int]]

    @classmethod
    def of(cls, beir: Path) -> Tiny:
        queries = {row["_id"]: row["text"] for row in _lines(beir / "queries.jsonl")}
        qrels = [
            (query, passage, int(grade))
            for file in sorted((beir / "qrels").glob("*.tsv"))
            for query, passage, grade in (
                line.split("\t") for line in file.read_text().splitlines()[1:]
            )
        ]
        return cls(_lines(beir / "corpus.jsonl"), queries, qrels)

    def relevant(self) -> dict[str, list[str]]:
        """Query text -> ids of relevant passages."""
        found: dict[str, list[str]] = {}
        for query, passage, _ in self.qrels:
            found.setdefault(self.queries[query], []).append(passage)
        return found

    def clicks(self) -> list[Row]:
        """A row a click: grade 2 is clicked four times, grade 1 once."""
        return [
            {"time": f"2026-01-{day + 1:02}", "user": f"u{day}", "query": text, "doc_id": passage}
            for query, passage, grade in self.qrels
            for day in range(4 if grade == 2 else 1)
            for text in [self.queries[query].upper() if day == 1 else self.queries[query]]
        ]


def write_csv(path: Path, rows: Sequence[Row], **how: Any) -> Path:
    """A CSV file; `how` is of `csv.DictWriter`, with an `encoding`."""
    encoding = how.pop("encoding", "utf-8")
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), **how)
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue().encode(encoding))
    return path


def _pairs(tiny: Tiny) -> list[Row]:
    relevant = tiny.relevant().items()
    return [{"query": text, "relevant": ids[0]} for text, ids in relevant]


def _semicolons(tiny: Tiny, folder: Path) -> list[str]:
    rows = [
        {"id": p["_id"], "title": p["title"], "text": f"{p['text']}; so"} for p in tiny.passages
    ]
    write_csv(folder / "articles.csv", rows, delimiter=";")
    write_csv(folder / "judged.csv", _pairs(tiny), delimiter=";")
    return ["articles.csv", "--judged", "judged.csv"]


def _clicks(tiny: Tiny, folder: Path) -> list[str]:
    write_csv(folder / "articles.csv", [_named(p, "article_id", "body") for p in tiny.passages])
    write_csv(folder / "clicks.csv", tiny.clicks())
    return ["articles.csv", "--judged", "clicks.csv"]


def _ids_in_a_cell(tiny: Tiny, folder: Path) -> list[str]:
    write_csv(folder / "articles.csv", [_named(p, "sku", "description") for p in tiny.passages])
    rows = [{"search_term": text, "skus": " | ".join(ids)} for text, ids in tiny.relevant().items()]
    write_csv(folder / "judged.csv", rows)
    return ["articles.csv", "--judged", "judged.csv"]


def _no_ids(tiny: Tiny, folder: Path) -> list[str]:
    # Equal rows; judged by what is unique here, the headline.
    rows = [{"headline": f"{p['title']} {p['_id']}", "body": p["text"]} for p in tiny.passages]
    write_csv(folder / "articles.csv", [*rows, rows[0]])
    return ["articles.csv"]


def _bom(tiny: Tiny, folder: Path) -> list[str]:
    rows = [_named(p, "id", "text") for p in tiny.passages]
    write_csv(folder / "articles.csv", rows, encoding="utf-8-sig", lineterminator="\n")
    write_csv(folder / "judged.csv", _pairs(tiny), encoding="utf-16", delimiter="\t")
    return ["articles.csv", "--judged", "judged.csv"]


def _excel(tiny: Tiny, folder: Path) -> list[str]:
    book = Workbook()
    _fill(book.active, [_named(p, "Nr", "Text") | {"Nr": i} for i, p in enumerate(tiny.passages)])
    book.active.title = "articles"
    numbers = {p["_id"]: i for i, p in enumerate(tiny.passages)}
    rows = [
        {"Question": text, "Nr": numbers[ids[0]], "Rating": 3}
        for text, ids in tiny.relevant().items()
    ]
    _fill(book.create_sheet("judged"), rows)
    book.save(folder / "book.xlsx")
    return [*("book.xlsx --sheet articles --judged book.xlsx --judged-sheet judged".split())]


def _json_array(tiny: Tiny, folder: Path) -> list[str]:
    rows = [{**_named(p, "id", "content"), "tags": ["a"]} for p in tiny.passages]
    (folder / "articles.json").write_text(json.dumps(rows, indent=1))
    rows = [{"question": text, "positives": ids} for text, ids in tiny.relevant().items()]
    (folder / "judged.json").write_text(json.dumps({"data": rows}))
    return ["articles.json", "--judged", "judged.json"]


def _tsv(tiny: Tiny, folder: Path) -> list[str]:
    rows = [
        {"slug": p["_id"], "title": p["title"], "text": f'{p["text"]}\n\nA "quoted"\tword.'}
        for p in tiny.passages
    ]
    write_csv(folder / "articles.tsv", rows, delimiter="\t", quoting=csv.QUOTE_ALL)
    write_csv(folder / "judged.tsv", _pairs(tiny), delimiter="\t")
    return ["articles.tsv", "--judged", "judged.tsv"]


def _gzip(tiny: Tiny, folder: Path) -> list[str]:
    lines = "".join(json.dumps(_named(p, "id", "text")) + "\n" for p in tiny.passages)
    (folder / "articles.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    plain = write_csv(folder / "judged.csv", _pairs(tiny))
    (folder / "judged.csv.gz").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    return ["articles.jsonl.gz", "--judged", "judged.csv.gz"]


def _markdown(tiny: Tiny, folder: Path) -> list[str]:
    (folder / "guide" / "deep").mkdir(parents=True)
    for i, p in enumerate(tiny.passages):
        heading = p["title"] or p["_id"]
        name = f"guide/{'deep/' * (i % 2)}{p['_id']}.md"
        (folder / name).write_text(f"# {heading}\n\n{p['text']}\n")
    numbers = {p["_id"]: i for i, p in enumerate(tiny.passages)}
    rows = [
        {"query": text, "document": f"{'deep/' * (numbers[ids[0]] % 2)}{ids[0]}.md"}
        for text, ids in tiny.relevant().items()
    ]
    write_csv(folder / "judged.csv", rows)
    return ["guide", "--judged", "judged.csv"]


def _one_file(tiny: Tiny, folder: Path) -> list[str]:
    write_csv(folder / "articles.csv", [_named(p, "id", "text") for p in tiny.passages])
    rows = [
        {"query_id": query, "query": tiny.queries[query], "doc_id": passage, "relevance": grade}
        for query, passage, grade in tiny.qrels
    ]
    write_csv(folder / "judged.csv", rows)
    return ["articles.csv", "--judged", "judged.csv"]


def _blanks(tiny: Tiny, folder: Path) -> list[str]:
    rows = [_named(p, "id", "text") | {"title": f"Café {p['title']}"} for p in tiny.passages]
    write_csv(folder / "my data" / "all articles.csv", rows, encoding="cp1252")
    write_csv(folder / "my data" / "judged queries.csv", _pairs(tiny))
    return ["my data/all articles.csv", "--judged", "my data/judged queries.csv"]


#: Name -> a function that writes the files, and gives the arguments of `tercet init`.
TWELVE: dict[str, Callable[[Tiny, Path], list[str]]] = {
    "semicolon CSV": _semicolons,
    "click log": _clicks,
    "ids in one cell": _ids_in_a_cell,
    "no id column": _no_ids,
    "BOM": _bom,
    "XLSX": _excel,
    "JSON array": _json_array,
    "TSV with quotes": _tsv,
    "gz": _gzip,
    "folder of Markdown": _markdown,
    "queries and judgements in one file": _one_file,
    "path with blanks": _blanks,
}


def _named(passage: Row, id: str, text: str) -> Row:
    return {id: passage["_id"], "title": passage["title"], text: passage["text"]}


def _fill(sheet: Any, rows: Sequence[Row]) -> None:
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))


def _lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]
