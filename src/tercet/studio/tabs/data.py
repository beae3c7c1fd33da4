"""The tab Data: the passages, queries and candidate lists that a run's stages wrote."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tercet.studio import browse, pages
from tercet.studio.places import Places
from tercet.studio.tabs.widgets import edited, event_values, show_errors, unknown_run


def data_tab(places: Places, run: gr.Dropdown) -> None:
    """Build a searchable table of the chosen run's data; a click on a row shows its texts."""
    with gr.Row():
        kind = gr.Dropdown(label="Show", interactive=True, scale=2)
        search = gr.Textbox(label="That hold", placeholder="words", scale=3)
    note = gr.HTML()
    table = gr.HTML(js_on_load=pages.LISTING)
    with gr.Row():
        back, on = gr.Button("← back", size="sm"), gr.Button("on →", size="sm")
    texts, number = gr.HTML(), gr.State(0)

    def kinds(name: str | None) -> Any:
        folder = places.find(name)
        found = browse.Data(folder).kinds if folder else []
        return gr.update(choices=found, value=found[0] if found else None)

    def show(name: str | None, kind: str | None, search: str, number: int) -> list[Any]:
        folder = places.find(name)
        if not folder or not kind:
            empty = pages.note("nothing is made yet") if folder else unknown_run(name)
            return [empty, "", 0, ""]
        data = browse.Data(folder)
        page = data.page(kind, search or "", number)
        if number and not page.rows:  # the new search words match fewer pages
            number = max(0, page.total - 1) // browse.SIZE
            page = data.page(kind, search or "", number)
        rows = pages.listing(page.columns, page.rows, range(len(page.columns)))
        first = number * browse.SIZE
        count = f"{first + 1:,} to {first + len(page.rows):,} of {page.total:,}"
        return [pages.note(count if page.rows else "none", page.note), rows, number, ""]

    def opened(name: str, kind: str, event: gr.EventData) -> str:
        (id,) = event_values(event, "id")
        return pages.texts(browse.Data(places.run(name)).texts(kind, id))

    outputs = [note, table, number, texts]
    first = show_errors(lambda n, k, s: show(n, k, s, 0))
    # Not on a change of `kind`: two runs with the same kinds of data leave the dropdown unchanged.
    run.change(show_errors(kinds), run, kind).then(first, [run, kind, search], outputs)
    gr.on([edited(kind), search.submit], first, [run, kind, search], outputs)
    for button, step in ((back, -1), (on, 1)):
        move = lambda n, k, s, at, step=step: show(n, k, s, max(0, at + step))  # noqa: E731
        button.click(show_errors(move), [run, kind, search, number], outputs)
    table.select(show_errors(opened), [run, kind], texts)
