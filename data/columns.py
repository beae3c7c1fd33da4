"""Which column of a table is what: by its name, by what it holds, and by what refers to it.

A choice that is not clear is refused with the option that makes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np

from tercet.core.mapped import fingerprint
from tercet.core.schema import InputError
from tercet.data.sources.cells import Row
from tercet.data.sources.tables import passage_ids

SAMPLE = 1_000  # rows from which columns are chosen
_LONGEST_ID = 300
_ID = ("_id", "id")
_IDS = (
    *("docid", "doc_id", "document_id", "passage_id", "pid", "uuid", "guid", "key", "sku", "asin"),
    *("isbn", "url", "uri", "link", "slug", "nr", "no", "number", "num", "identifier"),
)
#: Names that say nothing else.
_SURE_IDS = (*_ID, "docid", "doc_id", "document_id", "passage_id", "pid", "uuid")
_TITLES = ("title", "headline", "heading", "name", "subject", "product_name", "titel", "label")
_TEXTS = (
    *("text", "contents", "passage", "body", "content", "description", "abstract", "document"),
    *("summary", "article", "full_text", "page_content", "details", "answer", "beschreibung"),
)
_QUERIES = (
    *("query", "question", "search_query", "search_term", "search", "query_text", "q", "keywords"),
    *("term", "text", "utterance", "suchbegriff", "anfrage"),
)
_QUERY_IDS = ("query_id", "qid", "question_id", "_id", "id")
_RELEVANT = (
    *("relevant", "relevant_id", "relevant_ids", "relevant_docs", "positive", "positives"),
    *("positive_passages", "clicked", "clicked_id", "clicked_ids", "clicked_url", "doc", "docs"),
    *("doc_id", "doc_ids", "docid", "docids", "document_id", "passage_id", "passage_ids", "pid"),
    *("corpus_id", "article_id", "product_id", "item_id", "article", "product", "item", "sku"),
    *("url", "ids", "target", "answer_id", "answer"),
)
_GRADES = ("grade", "score", "relevance", "rel", "label", "rating", "gain", "judgement", "judgment")
_CLICKS = ("clicks", "click_count", "n_clicks", "count", "cnt", "n", "freq", "frequency")
#: Columns of small numbers, which might be ids by chance.
_NO_IDS = (
    *(*_GRADES, *_CLICKS, "position", "pos", "rank", "user", "user_id", "session", "session_id"),
    *("time", "timestamp", "date", "year", "page", "views"),
)
#: All names by which a column is known.
COLUMN_NAMES = {
    *(*_ID, *_IDS, *_TITLES, *_TEXTS, *_QUERIES, *_QUERY_IDS, *_RELEVANT, *_GRADES, *_CLICKS),
    *_NO_IDS,
}
_SEPARATORS = (None, ";", "|", ",", " ")


def plain(name: str) -> str:
    """A column's name in lower case, its words joined by underscores: articleId -> article_id."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\W_]+", "_", words).strip("_").lower() if name != "_id" else name


@dataclass
class Scan:
    """The rows of a table: their columns, the first of them, and prints of what may be ids."""

    columns: list[str]
    sample: list[Row]
    rows: int
    #: Column -> uint64 fingerprints, sorted.
    ids: dict[str, np.ndarray] = field(default_factory=dict)

    def unique(self, column: str) -> bool:
        """Whether no two rows have the same value there."""
        values = self.ids[column]
        return len(values) == self.rows and bool((values[1:] != values[:-1]).all())

    def values(self, column: str) -> list[Any]:
        """The first values of a column, without those that are missing."""
        return [row[column] for row in self.sample if not _missing(row.get(column))]

    def length(self, column: str) -> float:
        """Mean length of the first values, 0 if they are not all text."""
        values = self.values(column)
        if not values or not all(isinstance(value, str) for value in values):
            return 0.0
        return sum(map(len, values)) / len(values)


def scan(rows: Iterable[Row], *, whole: bool = True) -> Scan:
    """Read the rows; of a `whole` table all of them, holding eight bytes a row and possible id."""
    iterator: Iterator[Row] = iter(rows)
    sample = list(islice(iterator, SAMPLE))
    columns = list(dict.fromkeys(name for row in sample for name in row))
    possible = [name for name in columns if all(_may_be_id(row.get(name)) for row in sample)]
    prints: dict[str, list[np.ndarray]] = {name: [] for name in possible}
    count = 0
    remaining = chain(sample, iterator) if whole else iter(sample)
    while block := list(islice(remaining, 8_192)):
        count += len(block)
        for name, parts in prints.items():
            values = (fingerprint(str(row.get(name))) for row in block)
            parts.append(np.fromiter(values, np.uint64, len(block)))
    ids = {name: np.sort(np.concatenate(parts)) for name, parts in prints.items() if parts}
    return Scan(columns, sample, count, ids)


def has_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first record names the columns of the others; False if that is not clear."""
    cells = [cell.strip() for cell in first]
    if len(set(cells)) < len(cells) or any(_number(cell) or len(cell) > 60 for cell in cells):
        return False
    # A cell of data may be such a name too, as "no" is.
    if 2 * sum(plain(cell) in COLUMN_NAMES for cell in cells) >= len(cells):
        return True
    if "" in cells[1:]:
        return False
    columns = list(zip(*(record for record in rest if len(record) == len(first)), strict=True))
    return any(
        all(map(_number, column)) or sum(map(len, column)) / len(column) > 2 * len(cell) + 8
        for cell, column in zip(cells, columns, strict=False)
    )


# ── passages ─────────────────────────────────────────────────────────────────────────────────


def id_column(table: Scan, given: str | None, judged: Scan | None, place: str) -> str | None:
    """The column of the passages' ids, or None if there is none and they must be made."""
    if given == "none":
        return None
    if given:
        _refuse_unknown(table, given, "--id", place)
        return given
    there = [name for name in table.ids if table.unique(name) and plain(name) not in _NO_IDS]
    named = [name for name in there if plain(name) in (*_ID, *_IDS) or plain(name).endswith("_id")]
    met = [name for name in there if judged and meets(judged, [table.ids[name]])]
    first = [name for name in named if plain(name) in _ID]
    chosen = [n for n in met if n in named] or met or (first if len(first) == 1 else named)
    if len(chosen) > 1:
        raise InputError(
            f"{place}: {_either(chosen)} could be the passages' id: say which, --id {chosen[0]}"
        )
    if not chosen and (unfit := [name for name in table.columns if plain(name) in _SURE_IDS]):
        why = "share a value" if unfit[0] in table.ids else "lack it or have a fraction there"
        raise InputError(
            f"{place}: {unfit[0]!r} is not the id, as rows {why}: give --id COLUMN, or --id none "
            "to make ids from the texts"
        )
    return chosen[0] if chosen else None


def text_column(table: Scan, given: str | None, taken: Sequence[str | None], place: str) -> str:
    """The column of the passages' texts."""
    if given:
        _refuse_unknown(table, given, "--text", place)
        return given
    there = {name: table.length(name) for name in table.columns if name not in taken}
    there = {name: length for name, length in there.items() if length}
    named = [name for name in there if plain(name) in _TEXTS]
    if len(named) == 1:
        return named[0]
    # By length: one column's is at least twice that of every other.
    by_length = sorted(named or there, key=lambda name: -there[name])
    clear = len(by_length) == 1 or (
        bool(by_length) and not named and there[by_length[0]] >= 2 * there[by_length[1]]
    )
    if clear:
        return by_length[0]
    if not by_length:
        raise InputError(
            f"{place}: no column holds text; there are {', '.join(table.columns)}: "
            "give --text COLUMN"
        )
    raise InputError(
        f"{place}: {_either(by_length[:3])} could be the passages' text: say which, "
        f"--text {by_length[0]}"
    )


def title_column(
    table: Scan, given: str | None, taken: Sequence[str | None], place: str
) -> str | None:
    """The column of the passages' titles, if there is one."""
    if given == "none":
        return None
    if given:
        _refuse_unknown(table, given, "--title", place)
        return given
    names = {
        plain(name): name
        for name in reversed(table.columns)
        if name not in taken and table.values(name)
    }
    return next((names[title] for title in _TITLES if title in names), None)


# ── judged queries ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class JudgedColumns:
    """The columns of a table of judged queries, as keys of `corpus.queries`."""

    text: str
    positives: str
    separator: str | None
    id: str | None
    grade: str | None
    clicks: str | None


def judged_columns(
    table: Scan,
    known: np.ndarray | None,
    *,
    query: str | None,
    relevant: str | None,
    same_as: str | None,
    examples: tuple[str, str],
    place: str,
) -> JudgedColumns:
    """The columns of judged queries; `known` are sorted fingerprints of the passages' ids.

    Where they are not known, the name of the column of relevant passages alone says which it is.
    `same_as` is the name of the passages' id column, and `examples` are the passages' file and one
    of their ids.
    """
    text = _query_column(table, query, relevant, place)
    if relevant:
        _refuse_unknown(table, relevant, "--relevant", place)
    others = [relevant] if relevant else [name for name in table.columns if name != text]
    found: dict[str, tuple[float, str | None]]
    if known is None:
        named = [n for n in others if relevant or n == same_as or plain(n) in _RELEVANT]
        found = {name: (1.0, None) for name in named}
        if not named:
            raise InputError(
                f"{place}: no column names the relevant passages by its name; there are "
                f"{', '.join(table.columns)}: give --relevant COLUMN"
            )
    else:
        found = {name: _match(table.values(name), known) for name in others}
    positives = _relevant_column(found, same_as, bool(relevant), place)
    if positives is None:
        likely = [name for name in others if plain(name) in _RELEVANT or name == same_as] or others
        raise _of_others(table, likely[0] if likely else text, examples, place)
    rest = [name for name in table.columns if name not in (text, positives)]
    return JudgedColumns(
        text,
        positives,
        found[positives][1],
        _query_id(table, text, rest),
        _numbers(table, rest, _GRADES),
        _numbers(table, rest, _CLICKS),
    )


def _query_column(table: Scan, given: str | None, relevant: str | None, place: str) -> str:
    if given:
        _refuse_unknown(table, given, "--query", place)
        return given
    names = [name for name in table.columns if name != relevant and table.length(name)]
    named = [name for name in names if plain(name) in _QUERIES]
    if len(named) > 1:
        first = [name for name in named if plain(name) == "query"]
        if len(first) == 1:
            return first[0]
        raise InputError(
            f"{place}: {_either(named)} could be the query's text: say which, --query {named[0]}"
        )
    if not named:
        raise InputError(
            f"{place}: no column is a query's text by its name; there are "
            f"{', '.join(table.columns)}: give --query COLUMN"
        )
    return named[0]


def _relevant_column(
    found: Mapping[str, tuple[float, str | None]], same_as: str | None, given: bool, place: str
) -> str | None:
    met = [name for name, (share, _) in found.items() if share]
    if given or not met:
        return met[0] if met else None
    likely = [name for name in met if plain(name) in _RELEVANT or name == same_as]
    # A column of small numbers meets ids by chance: it must be named, or alone.
    chosen = likely or [name for name in met if plain(name) not in _NO_IDS and found[name][0] > 0.5]
    best = [n for n in chosen if found[n][0] == max(found[name][0] for name in chosen)]
    if len(best) > 1 and same_as in best:
        return same_as
    if len(best) > 1:
        raise InputError(
            f"{place}: {_either(best)} could name the relevant passages: say which, "
            f"--relevant {best[0]}"
        )
    return best[0] if best else None


def _of_others(table: Scan, column: str, examples: tuple[str, str], place: str) -> InputError:
    """The error for judgements of ids that no passage has."""
    values = [str(value) for value in table.values(column)]
    one = repr(values[0][:60]) if values else "empty"
    return InputError(
        f"{place}: none of its {table.rows:,} rows names a passage: {column!r} is {one}, and an id "
        f"of {examples[0]} is {examples[1]!r}: give --relevant COLUMN, or --id COLUMN of the "
        "passages"
    )


def _query_id(table: Scan, text: str, rest: Sequence[str]) -> str | None:
    """The column of query ids: it groups rows no finer than their texts do."""
    for wanted in _QUERY_IDS:
        for name in rest:
            if plain(name) != wanted or len(table.values(name)) < len(table.sample):
                continue
            pairs = {(str(row[name]), str(row.get(text))) for row in table.sample}
            ids, texts = {id for id, _ in pairs}, {text for _, text in pairs}
            if len(pairs) == len(ids) == len(texts):
                return name
    return None


def _numbers(table: Scan, rest: Sequence[str], names: Sequence[str]) -> str | None:
    for name in rest:
        values = [str(value) for value in table.values(name)]
        if plain(name) in names and values and all(map(_whole, values)):
            return name if len(values) == len(table.sample) else None
    return None


def _match(cells: Sequence[Any], known: np.ndarray) -> tuple[float, str | None]:
    """The largest share of ids that are known, and the separator that gives it."""
    best: tuple[float, str | None] = (0.0, None)
    for separator in _SEPARATORS:
        try:
            ids = [id for cell in cells for id in passage_ids(cell, "", "", separator)]
        except InputError:  # a number with a fraction, a date: no ids
            continue
        prints = np.fromiter(map(fingerprint, ids), np.uint64, len(ids))
        places = np.searchsorted(known, prints).clip(max=len(known) - 1)
        share = float((known[places] == prints).mean()) if ids else 0.0
        if share > best[0]:
            best = share, separator
    return best


def meets(judged: Scan, ids: Iterable[np.ndarray]) -> bool:
    """Whether a column of the judged table names at least half of its passages by some ids.

    Each of `ids` has the sorted fingerprints of a column of the passages.
    """
    names = [name for name in judged.columns if plain(name) not in _NO_IDS]
    return any(_match(judged.values(name), known)[0] >= 0.5 for known in ids for name in names)


def _refuse_unknown(table: Scan, name: str, option: str, place: str) -> None:
    if name not in table.columns:
        raise InputError(
            f"{place}: no column {name!r} ({option}); there are {', '.join(table.columns)}"
        )


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"


def _may_be_id(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST_ID
    )


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.0+)?", text.strip()) is not None


def _number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+([.,:/-]\d+)*", text.strip()) is not None
