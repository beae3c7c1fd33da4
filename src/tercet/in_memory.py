"""Passages, judged queries and systems as Python has them, written as the files of a run.

Lists, mappings, rows of dicts, pandas' DataFrame and datasets' Dataset, told apart by what they can
do; none of those libraries is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tercet.core.files import replacing, slug
from tercet.core.schema import InputError
from tercet.data.look import inspect_files
from tercet.data.sources.cells import IDS, TEXTS, TITLES
from tercet.pipeline.pipeline import Pipeline

#: A path, texts, id -> text, or rows: dicts, a DataFrame or a Dataset.
Passages: TypeAlias = str | os.PathLike[str] | Mapping[Any, Any] | Iterable[Any]
#: A path, query -> ids, query -> {id: grade}, or rows of clicks.
Judged: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | Iterable[Mapping[str, Any]]

_Row = dict[str, Any]


def corpus_section(passages: Passages, judged: Judged | None, folder: Path) -> _Row:
    """The `corpus` section of a recipe; what is in memory is written below `folder`.

    Files, and rows of clicks, are looked at as `tercet init` does. Raises InputError naming the
    item that cannot be used.
    """
    path = _path(passages) or _written(folder / "passages.jsonl", _passages(passages))
    if judged is not None and not isinstance(judged, Mapping):
        return inspect_files(path, _path(judged) or _written_clicks(judged, folder)).corpus
    if _path(passages):
        given = inspect_files(path).corpus
    else:
        given = {"source": "tables", "passages": {"path": path}}
    if judged is not None:
        queries: dict[str, str] = {}  # text -> id
        grades = list(_grades(judged, queries))
        rows = ({"id": id, "text": text} for text, id in queries.items())
        given["queries"] = {"path": _written(folder / "queries.jsonl", rows)}
        given["qrels"] = {"path": _written(folder / "test.jsonl", grades)}
    return given


def _path(given: Any) -> str | None:
    return str(given) if isinstance(given, str | os.PathLike) else None


def _written_clicks(judged: Any, folder: Path) -> str:
    rows = _rows(judged)
    if rows is None:
        raise InputError(
            f"judged queries are a {type(judged).__name__}: give query -> ids, query -> "
            "{id: grade}, or rows of clicks"
        )
    clicks = []
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"judged[{place}] is a {type(row).__name__}: give a row with columns")
        clicks.append({name: None if value != value else value for name, value in row.items()})
    return _written(folder / "judged.jsonl", clicks)


def _rows(table: Any) -> Iterator[Any] | None:
    """The rows of a DataFrame, or what iterates as a list of dicts and texts; else None."""
    if hasattr(table, "to_dict") and hasattr(table, "columns"):
        return iter(table.to_dict("records"))
    return iter(table) if isinstance(table, Iterable) else None


def _passages(passages: Passages) -> Iterator[_Row]:
    if isinstance(passages, Mapping):
        items: Iterable[tuple[Any, Any]] = passages.items()
    elif (rows := _rows(passages)) is not None:
        items = ((None, row) for row in rows)
    else:
        raise InputError(f"passages are a {type(passages).__name__}: give texts, rows or a path")
    for place, (id, given) in enumerate(items):
        where = f"passages[{place if id is None else id!r}]"
        row = given if isinstance(given, Mapping) else {"text": given}
        own = _value(row, IDS) if id is None else id
        text = _value(row, TEXTS)
        if not isinstance(text, str):
            names = ", ".join(map(repr, row)) or "none"
            raise InputError(
                f"{where} has no text ({text!r}; its fields: {names}): give `text`, and `id` and "
                "`title` if there are any"
            )
        title = _value(row, TITLES)
        own = place if own is None else own
        yield {"id": str(own), "title": title if isinstance(title, str) else "", "text": text}


def _value(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of the fields that the row has, or None; a missing value of pandas is none."""
    value = next((row[name] for name in names if name in row), None)
    return None if isinstance(value, float) and value != value else value


def _grades(judged: Mapping[str, Any], queries: dict[str, str]) -> Iterator[_Row]:
    """Judgements; `queries` gets the id of each text, in the order given."""
    for query, relevant in judged.items():
        if not isinstance(query, str) or not query.strip():
            raise InputError(f"judged[{query!r}]: a query is a text")
        id = queries.setdefault(query, f"q{len(queries):06d}")
        if isinstance(relevant, str | Integral):
            relevant = [relevant]
        graded = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1)
        for passage, grade in graded.items():
            if isinstance(grade, bool) or not isinstance(grade, Integral):
                raise InputError(f"judged[{query!r}][{passage!r}]: grade {grade!r} is no integer")
            yield {"query_id": id, "passage_id": str(passage), "grade": int(grade)}


def _written(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as JSON lines, unless the file has the same ones; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for row in rows:
            text = json.dumps(row, ensure_ascii=False, default=_plain, allow_nan=False)
            file.write((text + "\n").encode())
    return str(path)


def _plain(value: Any) -> Any:
    """A number of numpy as Python's, and anything else as its text: a date, an id of a database."""
    return value.item() if hasattr(value, "item") else str(value)


# ── systems ──────────────────────────────────────────────────────────────────────────────────────


def system_settings(system: Any, name: str | None, pipeline: Pipeline) -> _Row:
    """An entry of `evaluation.systems` for a model's name, a mapping, an encoder or vectors.

    An encoder's vectors of the passages and judged queries, or the vectors given, are written to
    the run's folder. Raises InputError for anything else, and for another number of vectors.
    """
    named = {"name": name} if name else {}
    if isinstance(system, Mapping):
        return {**system, **named}
    if isinstance(system, str | os.PathLike):
        kind = {"kind": "bm25"} if system == "bm25" else {"kind": "dense", "model": system}
        return {**kind, **named}
    queries = pipeline.corpus.dataset("queries")
    if isinstance(system, tuple) and len(system) == 2:
        passage_vectors, query_vectors = system
        label = name or "vectors"
    elif hasattr(system, "encode_passages") or hasattr(system, "encode_document"):
        # The second names are those of sentence-transformers.
        passages, asked = (
            getattr(system, first, None) or getattr(system, second)
            for first, second in (
                ("encode_passages", "encode_document"),
                ("encode_queries", "encode_query"),
            )
        )
        passage_vectors = passages(list(pipeline.passages.contents))
        query_vectors = asked(list(queries["text"]))
        label = name or slug(str(getattr(system, "name", None) or type(system).__name__))
    else:
        raise InputError(
            f"{type(system).__name__} is no system: give a model's name, an encoder, a pair "
            "(passage vectors, query vectors), or a mapping with `kind`"
        )
    folder = pipeline.recipe.folder / "given" / slug(label)
    return {
        "kind": "vectors",
        "name": label,
        "passages": _vectors(folder / "passages.parquet", pipeline.passages.ids, passage_vectors),
        "queries": _vectors(folder / "queries.parquet", queries["id"], query_vectors),
        "similarity": "dot" if hasattr(system, "encode_passages") else "cosine",
    }


def _vectors(path: Path, ids: Sequence[str], vectors: Any) -> str:
    """Write vectors, of ids or in their order, as Parquet; return its path."""
    if isinstance(vectors, Mapping):
        ids, vectors = [str(id) for id in vectors], list(vectors.values())
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or len(rows) != len(ids):
        raise InputError(
            f"{path.stem}: vectors of shape {list(rows.shape)} are given for {len(ids):,} texts"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    with replacing(path) as file:
        pq.write_table(pa.table({"id": pa.array(list(ids), pa.string()), "vector": flat}), file)
    return str(path)
