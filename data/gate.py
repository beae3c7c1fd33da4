"""Judged queries that gate, apart from those that are reported.

Judgements that took part in a choice cannot measure it: a gating query shares neither its id, nor
its text, nor a relevant passage with a reported one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tercet.core.schema import InputError
from tercet.data.near_duplicates import normalised
from tercet.data.sources import Source

_Grades = Mapping[str, Mapping[str, int]]  # by query and passage


def check_gate(source: Source, gate: str, reported: str, seed: int) -> None:
    """Refuse a gate that has no queries, or shares something with what is reported."""
    splits: dict[str, dict[str, dict[str, int]]] = {}
    for _, split, query, passage, grade in source.judgements():
        splits.setdefault(split, {}).setdefault(query, {})[passage] = grade
    if gate not in splits:
        known = f"there are {', '.join(sorted(splits))}" if splits else "there are none"
        raise InputError(f"evaluation.gate {gate}: no judgements of this split: {known}")
    texts = {query.id: query.text for _, query in source.queries()}
    if gate == reported:
        halves(splits[gate], texts, seed)
    else:
        _check_apart(gate, splits[gate], reported, splits.get(reported, {}), texts)


def _check_apart(
    gate: str, gating: _Grades, reported: str, others: _Grades, texts: Mapping[str, str]
) -> None:
    held = {
        value: query for query, grades in others.items() for value in _marks(query, grades, texts)
    }
    for query, grades in gating.items():
        for kind, value in _marks(query, grades, texts):
            if (kind, value) in held:
                raise InputError(
                    f"evaluation.gate {gate}: its query {query!r} shares the {kind} {value!r} with "
                    f"query {held[kind, value]!r} of split {reported}, which is reported: take it "
                    f"out of one of them, or gate with a half: evaluation.gate {reported}"
                )


def _marks(
    query: str, grades: Mapping[str, int], texts: Mapping[str, str]
) -> Iterable[tuple[str, str]]:
    """What another set of queries must not share: the id, the text, the relevant passages."""
    yield "id", query
    if text := normalised(texts.get(query, "")):
        yield "text", text
    for passage, grade in grades.items():
        if grade > 0:
            yield "relevant passage", passage


def halves(qrels: _Grades, texts: Mapping[str, str], seed: int) -> tuple[set[str], set[str]]:
    """Query ids that gate, and those that are reported: halves that share nothing.

    Queries that are linked by a text or a relevant passage, directly or through others, stay
    together. The groups are dealt in a seeded order, each to the smaller half. Raises InputError if
    one group holds all queries.
    """
    groups = _linked({query: {*_marks(query, grades, texts)} for query, grades in qrels.items()})
    if len(groups) < 2:
        raise InputError(
            "evaluation.gate: the judged queries cannot be halved, because all are linked by "
            "relevant passages that they share: give another split of judgements"
        )
    gating: set[str] = set()
    reported: set[str] = set()
    for place in np.random.default_rng(seed).permutation(len(groups)).tolist():
        smaller = gating if len(gating) < len(reported) else reported
        smaller |= groups[place]
    return gating, reported


def _linked(marks: Mapping[str, set[tuple[str, str]]]) -> list[set[str]]:
    """Groups of queries that share a mark, directly or through others, in order of their ids."""
    group: dict[str, str] = {query: query for query in marks}

    def root(query: str) -> str:
        while group[query] != query:
            group[query] = group[group[query]]
            query = group[query]
        return query

    first: dict[tuple[str, str], str] = {}
    for query in sorted(marks):
        for mark in marks[query]:
            other = root(first.setdefault(mark, query))
            mine = root(query)
            group[max(mine, other)] = min(mine, other)
    found: dict[str, set[str]] = {}
    for query in sorted(marks):
        found.setdefault(root(query), set()).add(query)
    return list(found.values())
