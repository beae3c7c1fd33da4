"""A look at the files of a user: which is what, as the `corpus` section that reads them.

What is not clear is refused in a line with the option that says it. The section is read by the same
sources as a run's, so that what a look accepts a run reads.
"""

from __future__ import annotations

import glob
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tercet.config.corpus import CorpusSection, PassagesTable, QrelsTable, QueriesTable
from tercet.core.mapped import fingerprint
from tercet.core.schema import InputError
from tercet.core.text import excerpt
from tercet.data import columns
from tercet.data.columns import SAMPLE, Scan
from tercet.data.file_settings import WEAVIATE, file_settings, first_records
from tercet.data.sources import (
    Documents,
    PassagesWithQrels,
    Source,
    WeaviateCollection,
    open_source,
)
from tercet.data.sources.cells import Row
from tercet.data.sources.formats import SUFFIXES, is_delimited
from tercet.data.sources.tables import Table, files_of
from tercet.data.sources.text_files import kind
from tercet.retrieval.indexes import read_collection

_DOCUMENTS = (".md", ".markdown", ".html", ".htm", ".pdf")
_SAVED = ("state.json", "dataset_dict.json")


@dataclass(frozen=True)
class Choices:
    """What the user says of the files; unset: it is found."""

    id: str | None = None
    title: str | None = None
    text: str | None = None
    query: str | None = None
    relevant: str | None = None
    #: Names of the columns of a file without a header.
    columns: Sequence[str] = ()
    judged_columns: Sequence[str] = ()
    #: Whether the first line of both files is a header though it does not look like one.
    header: bool = False
    #: Of those of the files that are not UTF-8.
    encoding: str | None = None
    sheet: str | None = None
    judged_sheet: str | None = None
    #: Of a dataset with several.
    split: str | None = None
    click_grades: str = "log2"


@dataclass(frozen=True)
class Finding:
    """A part of the corpus: where it was found, how many there are, and one of them."""

    what: str
    where: str
    count: str
    sample: str


@dataclass
class Look:
    """The `corpus` section of a recipe, why it is so, and what was counted."""

    corpus: dict[str, Any]
    #: Dotted key of the section -> why it has its value.
    reasons: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def section(self) -> CorpusSection:
        """The section as a run reads it."""
        tables = {"passages": PassagesTable, "queries": QueriesTable, "qrels": QrelsTable}
        values = {
            name: tables[name](**value) if name in tables else value
            for name, value in self.corpus.items()
        }
        return CorpusSection(**values)

    def note(self, count: int, what: str) -> None:
        """Tell how many there are of what is dropped or passed over, if there are any."""
        if count:
            self.notes.append(f"{count:,} {what}")


def inspect_files(
    passages: str | Path,
    judged: str | Path | None = None,
    qrels: str | Path | None = None,
    choices: Choices | None = None,
) -> Look:
    """Look at passages and judged queries, and find how to read them.

    `passages` is a file, pattern or folder, weaviate:COLLECTION, or a dataset's Hub name. `judged`
    has a query and relevant passages in each row, or with `qrels` the queries alone. Of a dataset
    on the Hub the first rows are read, all else whole.

    Raises InputError for what does not exist, cannot be read, or may be read in two ways.
    """
    choices, passages = choices or Choices(), str(passages)
    if qrels and not judged:
        raise InputError(f"{qrels}: judgements without queries: give those too, --judged QUERIES")
    # The judgements' ids tell which column of the passages is their id.
    judged_table = _read_judged(str(judged), choices) if judged else None
    look = _passages(passages, None if qrels else judged_table, choices)
    whole = not _is_dataset(look)
    with _opened(look) as source:
        ids = _count_passages(look, source, passages, whole=whole)
        if judged_table and qrels:
            _with_qrels(look, judged_table, str(qrels), choices)
        elif judged_table:
            known = np.sort(np.append(ids, _documents(source))) if whole else None
            _with_judged(look, judged_table, known, _example(source), choices)
    if whole:
        with _opened(look) as source:
            _count_judgements(look, source, ids, judged or passages)
    elif judged:
        look.notes.append("whether the judged passages are there was not looked at")
    return look


@contextmanager
def _opened(look: Look) -> Iterator[Source]:
    """The source of a look, without a connection that stays."""
    source = open_source(look.section())
    try:
        yield source
    finally:
        inner = source.source if isinstance(source, PassagesWithQrels) else None
        if isinstance(inner, WeaviateCollection):
            inner.reader.server.close()


# ── passages ─────────────────────────────────────────────────────────────────────────────────


def _passages(path: str, judged: _Judged | None, choices: Choices) -> Look:
    if path.startswith(WEAVIATE):
        return _collection(path.removeprefix(WEAVIATE), judged, choices)
    place = Path(path)
    if not place.is_dir() or any((place / name).is_file() for name in _SAVED):
        return _table(path, judged, choices)
    if (place / "corpus.jsonl").is_file():
        return _folder("beir", path, "a folder in BEIR's layout", choices)
    files = [file for file in place.rglob("*") if file.is_file() and not _hidden(file, place)]
    tables = Counter(_suffix(file) for file in files if kind(file) in SUFFIXES)
    texts = tables.pop(".txt", 0) + sum(file.suffix.lower() in _DOCUMENTS for file in files)
    card = place / "README.md"
    if tables and card.is_file() and texts == 1:
        # A dataset's card says in its front matter which file is which split.
        if card.read_text(encoding="utf-8", errors="replace").startswith("---"):
            return _table(path, judged, choices)
        texts = 0
    if texts:
        return _folder("documents", path, "a folder of documents, split into passages", choices)
    if len(tables) == 1:
        return _table(f"{glob.escape(path.rstrip('/'))}/**/*{next(iter(tables))}", judged, choices)
    if not tables:
        known = ", ".join((*SUFFIXES, *_DOCUMENTS))
        raise InputError(f"{path}: holds no table and no document ({known})")
    raise InputError(
        f"{path}: holds {', '.join(sorted(tables))}: give one kind as a pattern, such as "
        f"'{path.rstrip('/')}/*{min(tables)}'"
    )


def _folder(source: str, path: str, why: str, choices: Choices) -> Look:
    """A folder whose passages have no columns."""
    for option in ("id", "title", "text", "columns"):
        if getattr(choices, option):
            raise InputError(f"{path}: is {why}: --{option} is for tables: leave it out")
    return Look({"source": source, "path": path}, {"source": why})


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _suffix(file: Path) -> str:
    """The suffix as it is written, with that of gzip."""
    return "".join(file.suffixes[-2:]) if file.suffix.lower() == ".gz" else file.suffix


def _table(path: str, judged: _Judged | None, choices: Choices) -> Look:
    settings, reasons = file_settings(
        path,
        "passages",
        named=choices.columns,
        sheet=choices.sheet,
        split=choices.split,
        header=choices.header,
        encoding=choices.encoding,
    )
    table = _scan(PassagesTable(**settings), "passages", choices)
    look = Look({"source": "tables", "passages": settings})
    look.reasons = {f"passages.{name}": why for name, why in reasons.items()}
    id = columns.id_column(table, choices.id, judged.scan if judged else None, path)
    text = columns.text_column(table, choices.text, [id], path)
    title = columns.title_column(table, choices.title, [id, text], path)
    settings |= {"id": id} if id else {"ids": "made"}
    if not id:
        look.reasons["passages.ids"] = "no column of ids: a digest of title and text"
    settings |= {"title": title} if title else {}
    settings["text"] = text
    if unread := [repr(name) for name in table.columns if name not in (id, title, text)]:
        look.notes.append(f"not read of the passages: {', '.join(unread)}")
    return look


def _collection(name: str, judged: _Judged | None, choices: Choices) -> Look:
    reader = read_collection(name)
    place = f"collection {name}"
    try:
        rows = reader.read(list(reader.properties))
        table = columns.scan(dict(stored.properties) for stored in rows)
    finally:
        reader.server.close()
    if not table.rows:
        raise InputError(f"{place}: holds no object")
    # An object has an id, its UUID: a property is it only where it is said or judged.
    id = None
    if choices.id or (judged and columns.meets(judged.scan, table.ids.values())):
        id = columns.id_column(table, choices.id, judged.scan if judged else None, place)
    text = columns.text_column(table, choices.text, [id], place)
    title = columns.title_column(table, choices.title, [id, text], place)
    named = {"id": id, "title": title, "text": text}
    look = Look({"source": "weaviate", "path": name})
    look.corpus["passages"] = {key: value for key, value in named.items() if value}
    if not id:
        look.reasons["path"] = "an object's id is its UUID"
    return look


def _count_passages(look: Look, source: Source, path: str, *, whole: bool) -> np.ndarray:
    """Count the passages and those without text; the sorted fingerprints of their ids."""
    ids = array("Q")
    empty, first = 0, None
    rows = source.passages() if whole else islice(source.passages(), SAMPLE)
    for _, passage in rows:
        ids.append(fingerprint(passage.id))
        empty += not passage.contents
        first = first or (passage if passage.contents else None)
    if first is None:
        raise InputError(f"{path}: no passage with text{': an empty file' * (not ids)}")
    prints = np.sort(np.frombuffer(ids, np.uint64))
    if twice := int((prints[1:] == prints[:-1]).sum()):
        raise InputError(
            f"{path}: {twice:,} rows have an id that was used before: give --id COLUMN, or --id "
            "none to make ids from the texts"
        )
    where = _places(look)
    look.findings += [
        Finding("passages", path, f"{len(ids):,}" if whole else f"the first {len(ids):,}", ""),
        Finding("  id", where["id"], "", first.id),
        Finding("  title", where["title"], "", excerpt(first.title, 60)),
        Finding("  text", where["text"], "", excerpt(first.text, 60)),
    ]
    look.note(empty, "passages have no text, and are left out")
    return prints


def _places(look: Look) -> dict[str, str]:
    """Where ids, titles and texts of the passages are."""
    match look.corpus["source"]:
        case "beir":
            return {"id": "_id", "title": "title", "text": "text"}
        case "documents":
            title = "heading, or the file's name"
            return {"id": "file and number", "title": title, "text": "parts of the documents"}
    noun = "property" if look.corpus["source"] == "weaviate" else "column"
    found = {"id": "UUID" if noun == "property" else "made from the texts", "title": "none"}
    read = look.corpus["passages"]
    return found | {
        name: f"{noun} {read[name]}" for name in ("id", "title", "text") if name in read
    }


def _documents(source: Source) -> np.ndarray:
    """Fingerprints of the documents' paths: judgements may name a document instead of its parts."""
    inner = source.source if isinstance(source, PassagesWithQrels) else None
    names = inner.parts if isinstance(inner, Documents) else {}
    return np.array([fingerprint(name) for name in names], np.uint64)


def _example(source: Source) -> str:
    return next(passage.id for _, passage in source.passages())


# ── judged queries ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Judged:
    """A table of judged queries."""

    path: str
    settings: dict[str, Any]
    reasons: dict[str, str]
    scan: Scan


def _read_judged(path: str, choices: Choices) -> _Judged:
    settings, reasons = file_settings(
        path,
        "queries",
        named=choices.judged_columns,
        sheet=choices.judged_sheet,
        header=choices.header,
        encoding=choices.encoding,
    )
    table = _scan(QueriesTable(**settings), "queries", choices)
    return _Judged(path, settings, reasons, table)


def _with_judged(
    look: Look, judged: _Judged, known: np.ndarray | None, example: str, choices: Choices
) -> None:
    """Add `corpus.queries`, whose rows have the relevant passages."""
    source = look.corpus["source"]
    if source == "beir":
        raise InputError(
            f"{look.corpus['path']}: a BEIR folder has its own judgements: leave out "
            f"{judged.path}, or give corpus.jsonl instead of the folder"
        )
    read = look.corpus.get("passages", {})
    found = columns.judged_columns(
        judged.scan,
        known,
        query=choices.query,
        relevant=choices.relevant,
        same_as=read.get("id"),
        examples=(read.get("path") or look.corpus.get("path", ""), example),
        place=judged.path,
    )
    settings = judged.settings | {"id": found.id or found.text}
    settings |= {"text": found.text, "positives": found.positives}
    reasons = dict(judged.reasons)
    if not found.id:
        reasons["id"] = "rows with the same text, but for case and blanks, are one query"
    if found.separator:
        settings["separator"] = found.separator
        reasons["separator"] = "cells name several passages"
    if found.grade:
        settings["grade"] = found.grade
    elif found.clicks or (not found.id and _repeats(judged.scan, found)):
        if found.clicks:
            settings["clicks"] = found.clicks
        settings["click_grades"] = choices.click_grades
        reasons["click_grades"] = "log2: n clicks are grade 1 + floor(log2 n); any: grade 1"
    look.corpus["queries"] = settings
    look.reasons |= {f"queries.{name}": why for name, why in reasons.items()}
    read_names = (found.id, found.text, found.positives, found.grade, found.clicks)
    if unread := [repr(name) for name in judged.scan.columns if name not in read_names]:
        look.notes.append(f"not read of the judged queries: {', '.join(unread)}")


def _repeats(table: Scan, found: columns.JudgedColumns) -> bool:
    """Whether a query and a passage meet in several rows, as in a log of clicks."""
    pairs = [(str(row.get(found.text)), str(row.get(found.positives))) for row in table.sample]
    return len(set(pairs)) < len(pairs)


def _with_qrels(look: Look, judged: _Judged, qrels: str, choices: Choices) -> None:
    """Add `corpus.queries` and `corpus.qrels`: two tables joined by the queries' ids."""
    settings, reasons = file_settings(qrels, "qrels")
    look.corpus["queries"] = judged.settings | ({"text": choices.query} if choices.query else {})
    look.corpus["qrels"] = settings
    look.reasons |= {f"queries.{name}": why for name, why in judged.reasons.items()}
    look.reasons |= {f"qrels.{name}": why for name, why in reasons.items()}


def _count_judgements(look: Look, source: Source, known: np.ndarray, path: object) -> None:
    """Count queries and judgements. Raises InputError for a query without text, or no match."""
    texts: dict[str, str] = {}
    for place, query in source.queries():
        if not query.text.strip():
            raise InputError(f"{place}: a judged query has no text: fill it in or delete the row")
        texts[query.id] = query.text
    rows = list(source.judgements())
    if not rows and not texts:
        if look.corpus.get("queries"):
            raise InputError(f"{path}: holds no judged query")
        look.notes.append(
            "no judged queries: held-out synthetic ones alone will tell whether it got better"
        )
        return
    prints = np.array([fingerprint(passage) for _, _, _, passage, _ in rows], np.uint64)
    met = np.isin(prints, known)
    met &= np.array([query in texts for _, _, query, _, _ in rows], bool)
    if not met.any():
        found = repr(rows[0][3]) if rows else "nothing"
        raise InputError(
            f"{path}: none of its {len(rows):,} judgements is of a known query and passage: it "
            f"names {found}, and an id of the passages is {_example(source)!r}"
        )
    answered = {row[2] for row, meets in zip(rows, met, strict=True) if meets and row[4] > 0}
    grades = Counter(row[4] for row in rows)
    first = next(row for row, meets in zip(rows, met, strict=True) if meets)
    read = look.corpus.get("queries", {})
    column = f"column {read['text']}" if read.get("text") else "text"
    relevant = f"column {read['positives']}" if read.get("positives") else "qrels"
    spread = ", ".join(f"{count:,} of grade {grade}" for grade, count in sorted(grades.items())[:5])
    look.findings += [
        Finding("judged queries", str(path), f"{len(texts):,}", ""),
        Finding("  query", column, "", excerpt(texts[first[2]], 60)),
        Finding("  relevant", relevant, f"{len(rows):,} ({spread})", first[3]),
    ]
    look.note(
        int((~met).sum()), "judgements are of an unknown query or passage, and count as missed"
    )
    look.note(len(set(texts) - answered), "judged queries have no relevant passage that is there")


# ── files ────────────────────────────────────────────────────────────────────────────────────


def _is_dataset(look: Look) -> bool:
    """Whether the passages are a dataset of the Hub, which is not read whole."""
    path = look.corpus.get("passages", {}).get("path", "")
    return bool(path) and not files_of(path, path) and not Path(path).exists()


def _scan(settings: PassagesTable | QueriesTable, role: str, choices: Choices) -> Scan:
    """The rows of a table, all of a file's and the first of a dataset's."""
    table = Table(_headed(settings), role)
    rows: Iterator[Row] = (row for _, row, _ in table.rows(None))
    found = columns.scan(rows, whole=bool(table.files) or Path(settings.path).exists())
    if not found.rows:
        raise InputError(f"{settings.path}: holds no row")
    return found


def _headed(settings: PassagesTable | QueriesTable) -> PassagesTable | QueriesTable:
    """Settings under which the first record of a file between tabs is read as its header.

    The reader knows a header by its names, of which the recipe will have some.
    """
    files = files_of(settings.path, settings.path)
    if files and is_delimited(files[0]) and not settings.columns:
        given = {each.name: getattr(settings, each.name) for each in fields(settings)}
        (header,) = first_records(files[0], given)[:1]
        return replace(settings, text=header[-1].strip())
    return settings
