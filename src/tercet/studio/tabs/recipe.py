"""The tab Recipe: edit a recipe, forecast its run, start it or save it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.studio import form, pages, runs
from tercet.studio.places import Places
from tercet.studio.tabs.widgets import (
    edited,
    field_classes,
    field_widget,
    name_dropdown,
    show_errors,
)


def recipe_tab(places: Places, run: gr.Dropdown, tabs: gr.Tabs) -> None:
    """Build the form of a recipe's keys, with its errors, its forecast and its buttons."""
    fields = form.fields()
    with gr.Row():
        with gr.Column(scale=3):
            recipe = name_dropdown("Recipe", "or runs/NAME/recipe.yaml of any run")
            widgets: dict[str, Any] = {}
            for section in dict.fromkeys(field.section for field in fields):
                with (
                    gr.Accordion(section, open=section in ("run", "corpus")),
                    gr.Group(elem_classes="fields"),
                ):
                    for field in fields:
                        if field.section == section:
                            widgets[field.path] = field_widget(field)
        with gr.Column(scale=2, elem_classes="beside"):
            summary = gr.HTML()
            with gr.Row():
                forecast = gr.Button("Forecast")
                start = gr.Button("Start", variant="primary")
            expected = gr.HTML()
            with gr.Row():
                new = gr.Textbox(label="Save as", placeholder="name of a new recipe", scale=2)
                save = gr.Button("Save", scale=1)
    wrong, marked = gr.State({}), gr.State([])
    inputs = [recipe, *widgets.values()]

    def filled(name: str, values: tuple[Any, ...]) -> form.Filled:
        return form.fill(places, name, dict(zip(widgets, values, strict=True)))

    def unmarked(field: form.Field) -> dict[str, Any]:
        return {"info": field.meaning, "elem_classes": field_classes(field)}

    def show(name: str, before: list[str]) -> list[Any]:
        if not name:
            return [gr.skip()] * (len(widgets) + 4)
        try:
            loaded = load_recipe(places.recipe(name), cross_check=False)
            shown = form.values(loaded)
            updates = [
                gr.update(value=shown[f.path], **(unmarked(f) if f.path in before else {}))
                for f in fields
            ]
            summary_now = pages.recipe_summary(name, form.fill(places, name, shown))
            return [*updates, summary_now, {}, [], pages.forecast(places.runs / loaded.name)]
        except InputError as error:
            blank = [gr.skip()] * len(widgets)
            return [*blank, pages.refusal(str(error)), {}, [], ""]

    def check(name: str, *values: Any) -> list[Any]:
        found = filled(name, values)
        return [pages.recipe_summary(name, found), dict(found.errors)]

    def mark(errors: dict[str, str], before: list[str]) -> dict[Any, Any]:
        updates: dict[Any, Any] = {marked: [*errors]}
        for field in fields:
            if field.path in errors:
                updates[widgets[field.path]] = gr.update(
                    info=f"⚠ {errors[field.path]}", elem_classes=[*field_classes(field), "wrong"]
                )
            elif field.path in before:
                updates[widgets[field.path]] = gr.update(**unmarked(field))
        return updates

    def offered() -> Any:
        found = places.recipes()
        return gr.update(choices=found, value=next(iter(found), None))

    def starter(command: str) -> Callable[..., str]:
        def started(name: str, *values: Any) -> str:
            found = filled(name, values)
            run = found.whole().name
            runs.start(places, run, name, found.options, command)
            return run

        return started

    def saved(new: str, name: str, *values: Any) -> Any:
        found = filled(name, values)
        found.whole()
        path = form.save(places, name, new, found.options)
        gr.Info(f"saved {path.name}")
        return gr.update(choices=places.recipes(), value=path.relative_to(places.root).as_posix())

    recipe.change(show, [recipe, marked], [*widgets.values(), summary, wrong, marked, expected])
    events = [edited(each) for each in widgets.values()]
    hidden: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
    # The summary is updated at once. Updating every widget is slow, so `mark` updates only those
    # whose error changed.
    gr.on(events, show_errors(check), inputs, [summary, wrong], **hidden)
    wrong.change(mark, [wrong, marked], [marked, *widgets.values()], **hidden)
    for button, command in ((forecast, "forecast"), (start, "adapt")):
        clicked = button.click(show_errors(starter(command)), inputs, run)
        clicked.success(lambda: gr.Tabs(selected="run"), None, tabs)
    save.click(show_errors(saved), [new, *inputs], recipe)
    gr.on([gr.context.Context.root_block.load], offered, None, recipe)
