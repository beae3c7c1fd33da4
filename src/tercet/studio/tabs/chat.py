"""The tab Chat: a language model answers from a run's passages and cites them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from tercet.config.loading import load_recipe
from tercet.studio import form, pages
from tercet.studio.places import Places
from tercet.studio.searchers import Searchers
from tercet.studio.tabs.widgets import field_widget, show_errors


def chat_tab(places: Places, searchers: Searchers, run: gr.Dropdown) -> None:
    """Build the chat, the cited passages and the keys of the recipe's `chat` section."""
    fields = [field for field in form.fields() if field.section == "chat"]
    options: dict[str, Any] = {"render_markdown": False, "buttons": ["copy"]}  # no share button
    with gr.Row():
        with gr.Column(scale=3):
            talk = gr.Chatbot(**options, height=460, show_label=False)
            with gr.Row():
                box = gr.Textbox(placeholder="a question", show_label=False, scale=5)
                send = gr.Button("Ask", variant="primary", scale=1)
        with gr.Column(scale=2):
            gr.HTML("<h3>Cited passages</h3>")
            cited = gr.HTML()
            with gr.Accordion("What answers", open=False):
                settings = [field_widget(field) for field in fields]
    turns = gr.State([])

    def usual(name: str | None) -> list[Any]:
        folder = places.find(name)
        if folder is None or not (folder / "recipe.yaml").exists():
            return [gr.skip()] * len(fields)
        shown = form.values(load_recipe(folder / "recipe.yaml", cross_check=False))
        return [shown[field.path] for field in fields]

    def answer(name: str, question: str, turns: list[Any], *values: Any) -> Iterator[list[Any]]:
        shown = dict(zip([field.path for field in fields], values, strict=True))
        filled = form.fill(places, places.recipe_of_run(name), shown)
        filled.whole()
        chat = searchers.chat(places.run(name), filled.options)
        citations, pieces = chat.ask(question, turns)
        text, typed = "", gr.update(value="")
        for piece in pieces:
            text += piece
            yield [messages([*turns, (question, text)]), pages.cited(citations), typed, turns]
            typed = gr.skip()  # the next question may be typed while the answer arrives
        turns = [*turns, (question, text)]
        yield [messages(turns), pages.cited(citations), typed, turns]

    def messages(turns: list[Any]) -> list[dict[str, str]]:
        return [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]

    outputs, inputs = [talk, cited, box, turns], [run, box, turns, *settings]
    asking = gr.on([send.click, box.submit], show_errors(answer), inputs, outputs)
    # An answer that is still arriving would restore the old turns, so it is cancelled.
    run.change(lambda: ([], "", []), None, [talk, cited, turns], cancels=[asking])
    talk.clear(lambda: ([], ""), None, [turns, cited], cancels=[asking])
    run.change(show_errors(usual), run, settings)
