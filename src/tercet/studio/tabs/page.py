"""The studio's page: the choice of a run above the tabs."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
from fastapi import FastAPI

from tercet.studio import pages
from tercet.studio.guard import LARGEST
from tercet.studio.places import Places
from tercet.studio.searchers import Searchers
from tercet.studio.tabs.chat import chat_tab
from tercet.studio.tabs.data import data_tab
from tercet.studio.tabs.recipe import recipe_tab
from tercet.studio.tabs.results import results_tab
from tercet.studio.tabs.run import run_tab
from tercet.studio.tabs.search import search_tab
from tercet.studio.tabs.widgets import name_dropdown

_SECONDS = 10.0  # between two looks for new runs


def mount_page(
    server: FastAPI, places: Places, host: str, port: int, root_path: str = ""
) -> FastAPI:
    """Serve the page at the root of `server`, and no file of the project."""
    font = ["system-ui", "sans-serif"]
    return gr.mount_gradio_app(
        server,
        _page(places, Searchers()).queue(default_concurrency_limit=4),
        path="",
        server_name=host,
        server_port=port,
        root_path=root_path or None,
        max_file_size=LARGEST,
        footer_links=[],
        ssr_mode=False,
        run_history=False,  # Gradio would keep the page's contents in the browser's storage
        allowed_paths=[],
        blocked_paths=[str(places.root)],
        theme=gr.themes.Base(font=font, font_mono=["ui-monospace", "monospace"]),
        css=pages.CSS,
    )


def _page(places: Places, searchers: Searchers) -> gr.Blocks:
    with gr.Blocks(title="Tercet") as page:
        gr.HTML(pages.HEADER)
        run = name_dropdown("Run", "one that changed last, or any other's name", elem_id="run")
        with gr.Tabs() as tabs:
            with gr.Tab("Recipe"):
                recipe_tab(places, run, tabs)
            with gr.Tab("Run", id="run") as watched:
                timer = run_tab(places, run, watched)
            others = {
                "Data": partial(data_tab, places),
                "Results": partial(results_tab, places),
                "Search": partial(search_tab, places, searchers),
                "Chat": partial(chat_tab, places, searchers),
            }
            for name, tab in others.items():
                with gr.Tab(name):
                    tab(run)
        for each in tabs.children:  # updating a run would slow the other tabs down
            switch = lambda on=each is watched: gr.Timer(active=on)  # noqa: E731
            each.select(switch, None, timer, show_progress="hidden")

        def new(chosen: str | None, before: list[str]) -> list[Any]:
            names = places.recent()
            if sorted(names) == before:  # new choices would undo what the user is typing
                return [gr.skip(), gr.skip()]
            # The value is sent only if it must change: the user may choose another meanwhile.
            first = {} if places.find(chosen) else {"value": next(iter(names), None)}
            return [gr.update(choices=names, **first), sorted(names)]

        known = gr.State([])
        gr.on(
            [page.load, gr.Timer(_SECONDS).tick],
            new,
            [run, known],
            [run, known],
            show_progress="hidden",
        )
    return page
