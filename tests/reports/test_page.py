"""The page of an experiment: numbers equal metrics.json's, texts are escaped, it fits."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from sample_results import PRIMARY, sample

from tercet.core.schema import InputError
from tercet.evaluation.results import Cell, Figure, Pair, Results, SystemFacts
from tercet.reports.files import results_from
from tercet.reports.page.numbers import FILTERS
from tercet.reports.page.page import check_page, page, write_page
from tercet.reports.page.tradeoffs import front
from tercet.reports.page.verdict import verdict
from tercet.reports.views import beyond_chance, pair_of

HOSTILE = "</script></style>\"'<img src=x onerror=window.canary=1><b class=planted>&lt;{{7*7}}%{y}"


def as_read(results: Results) -> dict[str, Any]:
    """The results as metrics.json gives them back, its keys sorted."""
    read: dict[str, Any] = json.loads(json.dumps(asdict(results), sort_keys=True))
    return read


def only(*systems: str, **changes: Any) -> Results:
    """The sample's results of these systems, nothing else measured of them."""
    whole = sample()
    cells = [Cell(c.system, c.index, c.figures) for c in whole.cells if c.index == "exact"]
    few = replace(
        whole,
        systems=[s for s in whole.systems if s.name in systems],
        cells=[cell for cell in cells if cell.system in systems],
        pairs=[p for p in whole.pairs if {p.first, p.second} <= set(systems)],
        indexes=[],
        slices=[],
        changes=[],
        notes=[],
        forgetting=None,
        curve=[],
        margins=None,
    )
    return replace(few, **changes)


class Reader(HTMLParser):
    """A page's numbers with all their digits, and all other visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.numbers: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self._inside: list[str] = []
        self._number = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self._inside.append(tag)
        if "id" in known:
            self.ids.append(known["id"] or "")
        if tag == "a":
            self.links.append(known["href"] or "")
        if tag == "data":
            self._number = known["value"] or ""

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass
        self._number = ""

    def handle_data(self, text: str) -> None:
        if self._number:
            self.numbers.append((self._number, text))
        elif not {"script", "style"} & set(self._inside):
            self.words.append(text.strip())


def as_page(read: dict[str, Any]) -> str:
    """The page of what metrics.json holds."""
    return page(results_from(read, "metrics.json"))


def numbers_in(value: Any) -> set[float]:
    """All numbers of a JSON value."""
    if isinstance(value, bool):
        return set()
    if isinstance(value, int | float):
        return {value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(numbers_in, inner))


def reads_as(text: str) -> tuple[float, float]:
    """What a text on the page says, and by how much its rounding may have moved it."""
    match = re.fullmatch(r"(<?)([+−]?)\$?([\d,]+)(\.\d+)?(e[+-]?\d+)?(?: (B|kB|MB|GB|TB))?", text)
    assert match, f"not a number as the page writes them: {text!r}"
    less, sign, whole, fraction, exponent, unit = match.groups()
    units = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
    scale = units.get(unit, 1.0) * (-1 if sign == "−" else 1)
    # With its exponent, as the power of ten alone may underflow.
    value = float(whole.replace(",", "") + (fraction or "") + (exponent or ""))
    step = 10.0 ** -(len(fraction or ".") - 1) * float(f"1{exponent or 'e0'}") * abs(scale)
    return value * scale, (1.0 if less else 0.5) * step * (1 + 1e-9)


# ── numbers ──────────────────────────────────────────────────────────────────────────────────


def test_every_number_is_in_metrics_json() -> None:
    read = as_read(sample())
    shown = Reader(as_page(read)).numbers
    known = numbers_in(read)
    known |= {-number for number in numbers_in(read["pairs"])}  # seen from the other system
    values = set()
    for digits, text in shown:
        value = json.loads(digits)
        values.add(value)
        assert value in known, f"{value} is not in metrics.json"
        seen, slack = reads_as(text)
        assert abs(seen - value) <= slack, f"{value} is shown as {text}"
    for cell in read["cells"]:
        wanted = numbers_in(cell["figures"].get(PRIMARY, {}))
        wanted |= {cell["overlap"]} if cell["index"] != "exact" else set()
        for part in [cell[name] for name in ("single", "batched") if cell[name]]:
            wanted |= numbers_in([part["total"], part["phases"]])
        assert cell["refused"] or wanted <= values, f"{cell['system']} over {cell['index']}"
    for pair in read["pairs"]:
        assert numbers_in(pair) <= values


def test_no_figure_stands_outside_its_element() -> None:
    read = as_read(sample())
    texts: set[str] = set()

    def gather(value: Any) -> None:
        if isinstance(value, str):
            texts.add(value)
        for inner in value if isinstance(value, list | dict) else []:
            gather(inner)
        for inner in value.values() if isinstance(value, dict) else []:
            gather(inner)

    gather(read)
    long = [text for text in texts if len(text) > 4 or re.search("[A-Za-z]", text)]
    long.sort(key=len, reverse=True)
    names = r"(nDCG|MAP|MRR|recall|precision|hit rate)@\d+"
    for words in Reader(as_page(read)).words:
        rest = "" if words in texts else words
        for text in long:
            rest = rest.replace(text, "")
        rest = re.sub(rf"{names}|95%|80%|\bp(50|95|99)\b", "", rest)
        assert not re.search(r"\d", rest), f"{words!r} has a figure that no test compares"


def test_plots_draw_the_numbers_of_metrics_json() -> None:
    read = as_read(sample())
    found = re.search(r'id="plots">(.*?)</script>', as_page(read))
    assert found
    drawn = json.loads(found[1])
    means = [cell["figures"][PRIMARY]["mean"] for cell in read["cells"] if cell["figures"]]
    costs = [cell["single"]["total"]["p50"] for cell in read["cells"] if cell["single"]]
    latency = drawn["tradeoff-latency"]["data"]
    assert {y for trace in latency for y in trace["y"]} <= set(means)
    assert {x for trace in latency for x in trace["x"]} <= set(costs)
    sizes = [cell["build"]["memory"] for cell in read["cells"] if cell["build"]]
    points = [x for trace in drawn["tradeoff-memory"]["data"][1:] for x in trace["x"]]
    assert sorted(points) == sorted(sizes)
    bars = drawn["differences"]["data"]
    for i, changes in enumerate(read["changes"]):
        shown = bars[2 * i]["y"] + bars[2 * i + 1]["y"]
        assert shown == sorted(d for d in changes["differences"].values() if d)
    assert drawn["margins"]["data"][0]["y"][:-1] == read["margins"]["student"]
    assert drawn["margins"]["data"][1]["y"][:-1] == read["margins"]["teacher"]
    for measure in ("ndcg@10", "map@10", "mrr@10", "recall@100"):
        assert drawn[f"curve-{measure}"]["data"][1]["y"] == [row[measure] for row in read["curve"]]


@given(st.floats(-1e12, 1e12) | st.integers(-(10**12), 10**12), st.sampled_from(sorted(FILTERS)))
def test_what_is_shown_is_the_number_rounded(value: float, how: str) -> None:
    if how in ("size", "dollars", "p"):
        value = abs(value)
    ((digits, text),) = Reader(str(FILTERS[how](value))).numbers
    assert json.loads(digits) == value
    seen, slack = reads_as(text)
    assert math.isclose(seen, value, rel_tol=1e-12, abs_tol=slack)


# ── words ────────────────────────────────────────────────────────────────────────────────────


def two(difference: float, low: float, high: float, p_holm: float, first: str = "new") -> Results:
    """Two systems, the baseline `old` among them."""
    second = "old" if first == "new" else "new"
    mean = {first: 0.6 + difference, second: 0.6}
    pair = Pair(first, second, difference, low, high, p_holm, p_holm, 0.04, 6, 4, 2)
    return only(
        systems=[SystemFacts(name, "dense", "") for name in ("old", "new")],
        cells=[
            Cell(name, "exact", {PRIMARY: Figure(mean[name], mean[name] - 0.1, mean[name] + 0.1)})
            for name in ("old", "new")
        ],
        pairs=[pair],
        baseline="old",
    )


@pytest.mark.parametrize(
    ("results", "says"),
    [
        (
            two(0.05, 0.01, 0.09, 0.01),
            "^new has the highest .* above the baseline old, a significant difference",
        ),
        (
            two(0.05, -0.01, 0.09, 0.2),
            "^new has the highest .* its lead of 0.0500 over the baseline old may be due",
        ),
        (
            two(0.05, 0.01, 0.09, 0.06),
            "^new has the highest .* that is significant is open",
        ),
        (
            two(0.05, 0.01, 0.09, 0.01, "old"),
            "^old, the baseline, has the highest .* above new, a significant",
        ),
        (
            two(0.05, -0.01, 0.09, 0.5, "old"),
            "^old, the baseline, has the highest .* but .* may be due to chance",
        ),
        (
            only("base"),
            r"^base, the baseline, is the only system evaluated, with nDCG@10: [.\d]+$",
        ),
        (only(), "No system was evaluated"),
    ],
)
def test_the_verdict_says_what_the_pairs_bear(results: Results, says: str) -> None:
    first, _ = verdict(results)
    assert re.search(says, re.sub("<[^>]*>", "", first)), first


def test_an_adapted_model_that_is_worse_is_named() -> None:
    results = two(0.05, 0.01, 0.09, 0.01, "old")
    systems = [SystemFacts("old", "base", ""), SystemFacts("new", "adapted", "")]
    third = Pair("best", "old", 0.1, 0.05, 0.15, 0.001, 0.001, 0.04, 8, 2, 2)
    top = Cell("best", "exact", {PRIMARY: Figure(0.75, 0.7, 0.8)})
    results = replace(
        results,
        systems=[*systems, SystemFacts("best", "dense", "")],
        cells=[*results.cells, top],
        pairs=[*results.pairs, third, replace(third, second="new", difference=0.15)],
    )
    _, more = verdict(results)
    sentences = [re.sub("<[^>]*>", "", sentence) for sentence in more]
    assert any(
        s.startswith("new is below old: −0.0500") and s.endswith(", significant.")
        for s in sentences
    )


def test_a_pair_seen_from_its_other_end_is_its_mirror() -> None:
    results = sample()
    for pair in results.pairs:
        back = pair_of(results, pair.second, pair.first)
        assert back and pair_of(results, pair.first, pair.second) == pair
        assert (back.first, back.second) == (pair.second, pair.first)
        assert (back.difference, back.low, back.high) == (-pair.difference, -pair.high, -pair.low)
        assert (back.wins, back.losses, back.ties) == (pair.losses, pair.wins, pair.ties)
        assert beyond_chance(back) == beyond_chance(pair)


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1)


@given(points)
def test_the_front_is_what_nothing_beats(places: list[tuple[int, int]]) -> None:
    chosen = [places[i] for i in front(places)]
    assert chosen == sorted(set(chosen)) and [y for _, y in chosen] == sorted(
        {y for _, y in chosen}
    )
    for cost, quality in places:
        beaten = any((x <= cost and y >= quality) and (x, y) != (cost, quality) for x, y in places)
        assert ((cost, quality) in chosen) != beaten


# ── the file ─────────────────────────────────────────────────────────────────────────────────


def test_a_page_without_data_has_no_sections_for_them() -> None:
    html = as_page(as_read(only("base", machine={}, versions={}, settings={})))
    there = {id for id in Reader(html).ids if not id.endswith("-title")}
    assert there == {"main", "systems", "metrics", "setup"}
    assert "<script" not in html and "script-src 'none'" in unescape(html)


def test_every_link_leads_somewhere_and_ids_are_unique() -> None:
    reader = Reader(as_page(as_read(sample())))
    assert len(reader.ids) == len(set(reader.ids))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert len(reader.links) > 10


def test_what_is_not_an_experiment_is_refused() -> None:
    with pytest.raises(InputError, match="no results of eval.py .*systems"):
        as_page({"title": "a run", "comparisons": []})


def test_a_missing_plotly_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match="plotly is not installed: pip install plotly"):
        check_page()
    with pytest.raises(InputError, match="plotly"):
        write_page(sample(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def hostile(value: Any, key: str = "") -> Any:
    """Every text of the results, and every name that anyone may choose, made to do harm."""
    if isinstance(value, dict):
        named = {"settings", "machine", "versions", "differences"}
        return {
            name + HOSTILE if key in named else name: hostile(inner, name)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [hostile(inner, key) for inner in value]
    kept = value in ("", "exact") or key in ("primary", "measures", "kind")
    if isinstance(value, str) and not kept:
        return value + HOSTILE
    return value


def test_hostile_texts_add_no_element() -> None:
    read = as_read(sample())
    tame, wild = Reader(as_page(read)), Reader(as_page(hostile(read)))
    assert wild.tags == tame.tags
    assert any(HOSTILE in words for words in wild.words)


# ── in a browser ─────────────────────────────────────────────────────────────────────────────

SIZES = {"laptop": (1280, 800), "phone": (390, 844)}


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens results as a file from disk, offline; at the end nothing may have been complained of.

    Nor may anything but the file have been asked for.
    """
    complaints: list[str] = []
    requests: list[str] = []
    path = tmp_path / "report.html"
    contexts = []

    def show(results: dict[str, Any], size: str = "laptop", scheme: str = "light") -> Any:
        write_page(results_from(results, "metrics.json"), path)
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        opened.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(path.as_uri())
        opened.wait_for_load_state("networkidle")
        return opened

    yield show
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) == {path.as_uri()}


def overflow(opened: Any) -> int:
    """By how many pixels the page is wider than the window."""
    return int(opened.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


#: Texts of plots that stand out of their plot's box, which cuts them off.
CUT_OFF = """() => [...document.querySelectorAll("[data-plot]")].flatMap((plot) => {
  const box = plot.getBoundingClientRect();
  return [...plot.querySelectorAll("svg text")].filter((text) => {
    const b = text.getBoundingClientRect();
    return b.width && (b.left < box.left - 1 || b.right > box.right + 1 ||
      b.top < box.top - 1 || b.bottom > box.bottom + 1);
  }).map((text) => `${plot.dataset.plot}: ${text.textContent}`);
})"""
#: Labels of one axis that overlap.
OVERLAPS = """() => [...document.querySelectorAll(".xaxislayer-above")].flatMap((axis) => {
  const boxes = [...axis.querySelectorAll("text")].map((t) => t.getBoundingClientRect());
  boxes.sort((a, b) => a.left - b.left);
  return boxes.slice(1).filter((b, i) => b.left < boxes[i].right).map((b) => b.left);
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_opens_without_a_network_and_fits(open_page: Open, size: str, scheme: str) -> None:
    opened = open_page(as_read(sample()), size, scheme)
    plots = opened.locator("[data-plot]")
    assert plots.count() == 9
    assert all(plot.locator(".main-svg").count() for plot in plots.all())
    assert opened.locator("[data-plot='differences'] .point").count() > 100
    assert overflow(opened) == 0
    assert opened.evaluate(CUT_OFF) == []
    assert opened.evaluate(OVERLAPS) == []
    opened.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert overflow(opened) == 0


def test_hostile_texts_are_shown_and_do_nothing(open_page: Open) -> None:
    opened = open_page(hostile(as_read(sample())), "phone")
    assert overflow(opened) == 0
    opened.evaluate(
        "Plotly.Fx.hover(document.querySelector('[data-plot=tradeoff-latency]'),"
        "[{curveNumber: 1, pointNumber: 0}])"
    )
    label = opened.locator("[data-plot=tradeoff-latency] .hovertext").text_content()
    assert f"bm25{HOSTILE}" in label
    assert opened.evaluate("window.canary") is None
    assert opened.locator(".planted, img").count() == 0
    assert f"base{HOSTILE}" in opened.locator("#systems").inner_text()


def test_another_systems_differences_can_be_chosen(open_page: Open) -> None:
    read = as_read(sample())
    opened = open_page(read)
    shown = (
        "[...document.querySelector('[data-plot=differences]').data]"
        ".filter((trace) => trace.visible).flatMap((trace) => [...trace.y])"
    )
    for changes in (c for c in read["changes"] if c["system"] in ("adapted", "hybrid")):
        opened.locator("select").select_option(changes["system"])
        assert opened.evaluate(shown) == sorted(d for d in changes["differences"].values() if d)


def test_a_page_of_little_opens_too(open_page: Open) -> None:
    opened = open_page(as_read(only("base", "bm25")), "phone")
    assert overflow(opened) == 0
    assert opened.locator("#systems tbody tr").count() == 2
