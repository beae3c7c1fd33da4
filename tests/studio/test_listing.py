"""A long table in a real browser: sorted, filtered, cut, and kept so when it is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tercet.studio import pages

pytestmark = pytest.mark.browser
#: The names that Gradio supplies to a component's script.
LOAD = """script => {
  const element = document.querySelector("main");
  window.chosen = [];
  const trigger = (event, data) => window.chosen.push([event, data.id]);
  const watch = (name, act) => { window.renew = act; };
  new Function("element", "trigger", "watch", script)(element, trigger, watch);
}"""
Row = tuple[str, float | None]


@pytest.fixture
def table(browser: Any) -> Callable[[Sequence[Row]], Any]:
    page = browser.new_page()

    def shown(rows: Sequence[Row]) -> Any:
        html = pages.listing(("run", "value"), rows, (0,), f"{len(rows)} runs")
        if page.locator("main").count():
            page.evaluate(
                "html => { document.querySelector('main').innerHTML = html; renew(); }", html
            )
        else:
            page.set_content(f"<main>{html}</main>")
            page.evaluate(LOAD, pages.LISTING)
        return page

    return shown


def names(page: Any) -> list[str]:
    return page.locator("tbody tr:visible td:first-child").all_inner_texts()


def test_the_first_matching_rows_are_shown(
    table: Callable[[Sequence[Row]], Any],
) -> None:
    rows: list[Row] = [(f"run-{n:03}", n * 7 % 250 / 100) for n in range(250)]
    rows[3] = ("run-003", None)
    page = table(rows)
    assert names(page) == [name for name, _ in rows[: pages.SHOWN]]  # before any click
    button = page.locator("button.all")
    assert button.inner_text() == "show all 250"

    page.locator("th").nth(1).click()
    by_value = sorted(rows, key=lambda row: -1.0 if row[1] is None else row[1])
    assert names(page) == [name for name, _ in by_value[: pages.SHOWN]]
    page.locator("th").nth(1).click()
    assert names(page) == [name for name, _ in by_value[::-1][: pages.SHOWN]]
    assert page.locator("th").nth(1).get_attribute("aria-sort") == "descending"

    page.get_by_label("Filter the rows").fill("RUN-1")
    found = [name for name, _ in by_value[::-1] if name.startswith("run-1")]
    assert len(found) == pages.SHOWN and names(page) == found and button.is_hidden()
    page.get_by_label("Filter the rows").fill("run-")
    assert button.is_visible() and len(names(page)) == pages.SHOWN
    button.click()
    assert names(page) == [name for name, _ in by_value[::-1]] and button.is_hidden()

    page.get_by_label("Filter the rows").fill("run-00")
    table([*rows, ("run-00x", 9.0)])  # a new table keeps the order and the filter
    assert names(page)[0] == "run-00x" and len(names(page)) == 11
    assert page.get_by_label("Filter the rows").input_value() == "run-00"
    page.locator("tbody tr:visible").nth(1).click()
    assert json.dumps(page.evaluate("chosen")) == json.dumps([["select", names(page)[1]]])


def test_a_short_table_has_no_button(table: Callable[[Sequence[Row]], Any]) -> None:
    page = table([("one", 1.0), ("<b>two</b>", None)])
    assert names(page) == ["one", "<b>two</b>"]
    assert page.locator("button.all").is_hidden() and page.locator("td b").count() == 0
