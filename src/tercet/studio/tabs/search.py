"""The tab Search: one query, the results of several systems side by side, votes on passages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from tercet.core.schema import InputError
from tercet.studio import pages
from tercet.studio.places import Places
from tercet.studio.searchers import Answer, Searchers
from tercet.studio.tabs.widgets import event_values, show_errors
from tercet.studio.votes import Votes


def search_tab(places: Places, searchers: Searchers, run: gr.Dropdown) -> None:
    """Build the query box, the choice of systems and their results with vote buttons."""
    with gr.Row():
        query = gr.Textbox(label="Query", scale=4)
        k = gr.Slider(1, 20, value=5, step=1, label="Passages", scale=1)
    info = "of the runs that changed last; of any other, type run: adapted"
    many: dict[str, Any] = {"multiselect": True, "allow_custom_value": True, "info": info}
    systems = gr.Dropdown(label="Systems", interactive=True, **many)
    search = gr.Button("Search", variant="primary")
    last, shown = gr.State(None), gr.HTML(js_on_load=pages.VOTING)  # last: query and answers

    def known() -> Any:
        names = places.recent()
        of = [(name, each) for name in names for each in searchers.systems_of(places.runs / name)]
        return gr.update(choices=[f"{name}: {system}" for name, system in of])

    def own(name: str | None) -> list[str]:
        folder = places.find(name)
        found = searchers.systems_of(folder) if folder else []
        return [f"{name}: {system}" for system in found[:2]]

    def votes_of(answer: Answer) -> Votes:
        return Votes(places.run(answer.system.rsplit(": ", 1)[0]))

    def page(query: str, found: list[Answer]) -> str:
        return pages.answers(query, found, [votes_of(answer).of(query) for answer in found])

    def answers(query: str, chosen: list[str], k: int) -> Iterator[list[Any]]:
        if not query.strip() or not chosen:
            raise InputError("give a query, and choose at least one system")
        pairs = [label.rsplit(": ", 1) if ": " in label else [label, ""] for label in chosen]
        of = [(places.run(name), system) for name, system in pairs]
        new = [f"{run.name}: {system}" for run, system in of if searchers.must_load(run, system)]
        if new:
            once = "once; passages without an index yet are embedded first"
            yield [None, pages.note(f"loading {', '.join(new)}", once)]
        found = searchers.search(query, of, int(k))
        yield [(query, found), page(query, found)]

    def vote(last: Any, event: gr.EventData) -> str:
        names = ("query", "system", "passage", "relevant")
        voted, system, passage, relevant = event_values(event, *names)
        query, found = last or ("", [])
        of = {answer.system: answer for answer in found}.get(system)
        if voted != query or not of or passage not in {each.id for each, _ in of.hits}:
            raise InputError("these results are not the last ones: search again, then vote")
        votes_of(of).cast(query, passage, relevant == "1")
        return page(query, found)

    gr.on([gr.context.Context.root_block.load], known, None, systems)
    run.change(show_errors(own), run, systems)
    gr.on([search.click, query.submit], show_errors(answers), [query, systems, k], [last, shown])
    shown.click(show_errors(vote), last, shown, show_progress="hidden")
