"""The tab Run: a run's stages, training curves and log; resume it, stop it, evaluate it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import pandas as pd

from tercet.core.schema import InputError
from tercet.studio import pages, runs, watch
from tercet.studio.places import Places
from tercet.studio.tabs.widgets import show_errors, unknown_run

_METRICS = ("mrr@10", "map@10")
_COLOURS = {"loss": "#0b5ea8", "mrr@10": "#0b5ea8", "map@10": "#b04400"}
_COLOURS |= {f"mrr@10, {watch.ZERO_SHOT}": "#8fb6d9", f"map@10, {watch.ZERO_SHOT}": "#e0a98a"}
_SECONDS = 2.0  # between two updates


def run_tab(places: Places, run: gr.Dropdown, tab: gr.Tab) -> gr.Timer:
    """Build the view of the chosen run; returns the timer that updates it, inactive at first."""
    with gr.Row():
        resume = gr.Button("Go on", variant="primary")
        stop = gr.Button("Stop", variant="stop")
        evaluate = gr.Button("Compare systems")
    status, stages = gr.HTML(), gr.HTML()
    with gr.Row():
        plot = {"x": "step", "y": "value", "color": "series", "color_map": _COLOURS, "height": 260}
        plot |= {"color_title": ""}
        # With all four names the legend is wider than a phone.
        held_out = {"title": "held-out queries; pale: zero-shot", "colors_in_legend": [*_METRICS]}
        metrics = gr.LinePlot(**plot, **held_out)
        loss = gr.LinePlot(title="loss", **plot)
    log = gr.Textbox(label="Log", lines=14, max_lines=14, autoscroll=True, elem_classes="log")
    expected = gr.HTML()
    seen, timer = gr.State(None), gr.Timer(_SECONDS, active=False)

    def look(name: str | None, before: Any) -> list[Any]:
        folder = places.find(name)
        if folder is None:
            return [unknown_run(name), "", None, None, "", "", None]
        state, lines, found = runs.state(folder), runs.tail(folder), watch.stages(folder)
        points = watch.curves(folder, _METRICS)
        counts = {kind: len(rows) for kind, rows in points.items()}
        now = [name, state, found, lines[-3:], len(lines), counts]
        if now == before:
            return [gr.skip()] * 7
        plots = [_plotted(points[kind]) for kind in ("metrics", "loss")]
        shown = [pages.status(folder, state), pages.stages(found), *plots]
        return [*shown, "\n".join(lines[-400:]), pages.forecast(folder), now]

    def starter(command: str) -> Callable[[str], None]:
        def started(name: str) -> None:
            recipe = places.recipe_of_run(name)
            if not (places.root / recipe).exists():
                raise InputError(f"{name} has no recipe.yaml: start it on the tab Recipe")
            runs.recipe_of(places.run(name))
            runs.start(places, name, recipe, [], command)

        return started

    outputs = [status, stages, metrics, loss, log, expected, seen]
    resumed = resume.click(show_errors(starter("adapt")), run)
    evaluated = evaluate.click(show_errors(starter("eval")), run)
    stopped = stop.click(show_errors(lambda name: runs.stop(places.run(name))), run)
    at_once = [event.then for event in (resumed, evaluated, stopped)]
    for event in (timer.tick, run.change, tab.select, *at_once):
        event(show_errors(look), [run, seen], outputs, show_progress="hidden")
    return timer


def _plotted(points: list[dict[str, Any]]) -> pd.DataFrame | None:
    """A plot's points, or None: an empty plot would keep its first axes and legend."""
    return pd.DataFrame(points, columns=["step", "value", "series"]) if points else None
