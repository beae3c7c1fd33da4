"""Whatever a language model wraps its queries in, they are read, and nothing else is."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, strategies as st

from tercet.modeling.generators.answers import grades_in, queries_in, spoken

PROMPT = """Examples of what is asked for:

Passage: Rosin is rubbed on a bow.
Search query: why rosin

Write 3 different texts. Answer with JSON alone.

Passage: Lamps are lit at dusk.
Search query:"""
WANTED = ["when are lamps lit", "who lights a lamp", "dusk"]


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"queries": WANTED}),
        json.dumps(WANTED),
        json.dumps({"queries": [{"query": text} for text in WANTED]}),
        json.dumps({f"query{i}": text for i, text in enumerate(WANTED)}),
        f"```json\n{json.dumps({'queries': WANTED}, indent=2)}\n```",
        f"Here you are:\n\n{json.dumps({'queries': WANTED})}\n\nI hope this helps!",
        f'<think>The {{"queries": ["no"]}} must be three.</think>\n{json.dumps(WANTED)}',
        f'Hm, ["no", "not this"]\n</think>\n\n{json.dumps(WANTED)}',
        f"{PROMPT} {json.dumps({'queries': WANTED})}",
        "\n".join(["Here are 3 queries:", *(f"{i}. {t}" for i, t in enumerate(WANTED, 1))]),
        "\n".join(f'- "{text}"' for text in WANTED),
        "\n".join(WANTED),
        json.dumps({"queries": [*WANTED, "one more", "and more"]}),
        json.dumps({"queries": ["Lamps are lit at dusk.", "why rosin", WANTED[0], *WANTED]}),
    ],
)
def test_queries_are_found(answer: str) -> None:
    assert queries_in(answer, 3, PROMPT) == WANTED


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"queries": ["when are lamps lit", "who lights a l', WANTED[:1]),
        ('{"queries": ["when are lamps lit",', WANTED[:1]),
        ('```json\n["when are lamps lit", "who', WANTED[:1]),
        ('{"queries": ["a \\"lamp\\"", "b', ['a "lamp"']),
        ('{"queries": ["when are l', []),
        ("```json\n{", []),
        ('{"queries": []}', []),
        ("", []),
        ("<think>I must write three queries, such as", []),
        (PROMPT, []),
        ('{"queries": [1, null, ["dusk"]]}', ["dusk"]),
    ],
)
def test_half_an_answer_gives_what_is_whole(answer: str, found: list[str]) -> None:
    assert queries_in(answer, 3, PROMPT) == found


@given(st.text(max_size=200), st.integers(1, 5))
def test_any_text_is_read_without_a_fault(answer: str, most: int) -> None:
    found = queries_in(answer, most, PROMPT)
    assert len(found) <= most and len(set(found)) == len(found)
    assert all(text and "\n" not in text for text in found)
    assert grades_in(answer, 2) in (None, [0, 0], [0, 1], [1, 0], [1, 1], [2, 2])


@pytest.mark.parametrize("piece", ["[", '{"a":"', "<think>", '"queries": [', "- a\n"])
def test_long_nonsense_takes_no_time(piece: str) -> None:
    start = time.monotonic()
    queries_in(piece * 100_000, 3, PROMPT)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("answer", "grades"),
    [
        ('{"grades": [2, 0, 1]}', [2, 0, 1]),
        ("[2, 0, 1]", [2, 0, 1]),
        ('<think>{"grades": [0, 0, 0]}</think> {"grades": [2, 2, 2]}', [2, 2, 2]),
        ('{"grades": [2, 0]}', None),
        ('{"grades": [2, 0, 3]}', None),
        ('{"grades": [2, 0, true]}', None),
        ('{"grades": [2, 0, 1', None),
        ("all of them", None),
    ],
)
def test_grades_are_as_many_as_queries_or_none(answer: str, grades: list[int] | None) -> None:
    assert grades_in(answer, 3) == grades


def test_thoughts_are_not_spoken() -> None:
    assert spoken("<THINK>a</THINK>b") == "b" and spoken("a</think>b") == "b"
    assert spoken("<think>a") == "" and spoken("a < b > c") == "a < b > c"
