"""The columns of a row, and the types of their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np

from tercet.core.schema import InputError

Row = dict[str, Any]
#: Each row with its place, for messages.
Rows = Iterator[tuple[str, Row]]

#: Default names of columns, in the order in which they are tried.
IDS = ("_id", "id", "docid", "doc_id", "passage_id", "pid", "num")
QUERY_IDS = ("_id", "query_id", "query-id", "qid", "id", "num")
PASSAGE_IDS = (
    *("passage_id", "corpus-id", "corpus_id", "docid", "doc_id", "pid", "docno", "doc_no"),
    *("document_id", "did", "passage", "document", "doc"),
)
#: Of a table of judgements, which has no texts.
JUDGED_QUERIES = (*QUERY_IDS, "topic_id", "topic", "question_id", "query")
TITLES = ("title",)
TEXTS = ("text", "contents", "passage", "body")
QUERY_TEXTS = ("text", "query", "question", "title")
GRADES = (
    *("grade", "score", "relevance", "rel", "label", "relevancy", "rating", "gain"),
    *("judgement", "judgment"),
)

PASSAGE_COLUMNS = (*IDS, *TITLES, *TEXTS)


@lru_cache(maxsize=1 << 12)
def plain(name: str) -> str:
    """A column's name in lower case, its words joined by underscores: articleId -> article_id."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\W_]+", "_", words).strip("_").lower() if name != "_id" else name


NAMES_OF_IDS = {plain(name) for name in (*IDS, *QUERY_IDS, *PASSAGE_IDS)}


def find(row: Mapping[str, Any], known: Sequence[str]) -> str | None:
    """The first of the known columns that a row has, if need be in another case or spelling."""
    for name in known:
        if name in row:
            return name
    there = {plain(name): name for name in reversed(list(row))} if row else {}
    return next((there[plain(name)] for name in known if plain(name) in there), None)


def is_wanted(name: str, columns: Sequence[str] | None) -> bool:
    """Whether a column is one of those to read, perhaps in another spelling; None: all are."""
    return columns is None or name in columns or plain(name) in set(map(plain, columns))


def column(row: Row, given: str | None, known: Sequence[str], what: str, place: str) -> str:
    """The column to read; a `given` name is taken as it is. Raises InputError with those there."""
    name = (given if given in row else None) if given else find(row, known)
    if name is not None:
        return name
    wanted = repr(given) if given else " or ".join(map(repr, known))
    raise InputError(
        f"{place}: no column {wanted} for the {what}; there are {', '.join(row) or 'none'}"
    )


def as_rows(lists: dict[str, Any]) -> list[Row]:
    """Rows from a row of lists, as datasets before version 4 represented a list of rows."""
    columns = zip(*lists.values(), strict=True)
    return [dict(zip(lists, cells, strict=True)) for cells in columns]


def as_id(value: Any, name: str, place: str) -> str:
    """An id as text, from text or an integer. Raises InputError for any other value."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"{place}: {name!r} must be text that is not empty, or a whole number, not {value!r}"
        )
    return _encodable(value, name, place)


def as_text(value: Any, name: str, place: str) -> str:
    """A text; null and NaN are empty. Raises InputError for any other value."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {name!r} must be text, not {value!r}")
    return _encodable(value, name, place)


def as_vector(value: Any, name: str, place: str) -> np.ndarray:
    """A vector, float32 [dimension]. Raises InputError unless it is finite and not zero."""
    try:
        vector = np.asarray(value, dtype=np.float32)
    except (OverflowError, TypeError, ValueError):
        vector = np.empty(0, np.float32)
    if vector.ndim != 1 or not vector.size:
        raise InputError(f"{place}: {name!r} must be a list of numbers")
    if not np.isfinite(vector).all() or not vector.any():
        raise InputError(f"{place}: {name!r} is a vector that is not finite or is zero")
    return vector


_LARGEST_GRADE = 2**31 - 1  # grades are stored as int32


def as_grade(value: Any, place: str) -> int:
    """An integer grade; many tables store it as 1.0. Raises InputError for any other value."""
    grade = value
    if isinstance(value, str):
        with suppress(ValueError):
            grade = float(value) if "." in value else int(value)
    if isinstance(grade, float) and grade.is_integer():
        grade = int(grade)
    if isinstance(grade, bool) or not isinstance(grade, int):
        raise InputError(f"{place}: {value!r} is not a whole number")
    if abs(grade) > _LARGEST_GRADE:
        raise InputError(f"{place}: grade {grade} is too large")
    return grade


def _encodable(value: str, name: str, place: str) -> str:
    """Refuse halves of surrogate pairs, which JSON may escape and UTF-8 cannot encode."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise InputError(f"{place}: {name!r} holds {half!r}, which is half a character") from None
    return value
