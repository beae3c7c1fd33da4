"""Components and event handling that several tabs share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr

from tercet.core.schema import InputError
from tercet.studio import pages
from tercet.studio.form import UNSET, Field


def show_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an event handler so that its InputError becomes a message on the page."""

    @contextmanager
    def shown() -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None

    # Gradio inspects the handler: its signature, and whether it is a generator.
    @functools.wraps(handler)
    def call(*args: Any) -> Any:
        with shown():
            return handler(*args)

    @functools.wraps(handler)
    def generate(*args: Any) -> Iterator[Any]:
        with shown():
            yield from handler(*args)

    return generate if inspect.isgeneratorfunction(handler) else call


def unknown_run(name: str | None) -> str:
    """A refusal for a typed name that is not a run's; empty if no name was typed."""
    return pages.refusal(f"{name} is no run of this project") if name else ""


def name_dropdown(label: str, info: str, **options: Any) -> gr.Dropdown:
    """A dropdown that also accepts typed names: there may be more than a page can list."""
    return gr.Dropdown(label=label, info=info, allow_custom_value=True, interactive=True, **options)


def event_values(event: gr.EventData, *names: str) -> list[str]:
    """The named values of an event from the browser, checked: a client may send anything."""
    data = event._data if isinstance(event._data, dict) else {}
    if not all(isinstance(data.get(name), str) for name in names):
        raise InputError("that is no event of this page: load it again")
    return [data[name] for name in names]


def field_widget(field: Field) -> Any:
    """The input component for a recipe key."""
    options: dict[str, Any] = {"label": field.label, "info": field.meaning, "interactive": True}
    options["elem_classes"] = field_classes(field)
    if field.kind == "choice":
        choices = [*([UNSET] if field.optional else []), *field.choices]
        return gr.Dropdown(choices, allow_custom_value=field.plugin, **options)
    if field.kind == "flag":
        return gr.Checkbox(**options)
    if field.kind in ("whole", "number") and not field.optional:
        return gr.Number(precision=0 if field.kind == "whole" else None, **options)
    if field.kind == "yaml":
        return gr.Textbox(lines=3, max_lines=12, placeholder=UNSET, **options)
    return gr.Textbox(placeholder=UNSET, **options)


def field_classes(field: Field) -> list[str]:
    """CSS classes of a recipe key's component; "wide" spans all columns of the form."""
    return ["wide"] if field.kind == "yaml" else []


def edited(component: Any) -> Any:
    """The event that fires once when the user has finished changing a component's value."""
    return component.input if isinstance(component, gr.Checkbox) else component.blur
