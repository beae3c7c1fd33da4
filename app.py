"""The studio: recipes, runs, data, results and search on one page.

    python app.py [--port 7860]

It listens on 127.0.0.1 alone, opens no tunnel, and reads and writes below `runs/` and `recipes/`.
Runs are processes of their own: closing the page, or the studio, stops none.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

# What Gradio would take from the environment: tunnels, other addresses, other folders.
for name in [name for name in os.environ if name.startswith("GRADIO_")]:
    del os.environ[name]
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

import gradio as gr  # noqa: E402
import pandas as pd  # noqa: E402
import uvicorn  # noqa: E402
from fastapi import FastAPI  # noqa: E402
from fastapi.middleware.trustedhost import TrustedHostMiddleware  # noqa: E402

from tercet import InputError  # noqa: E402
from tercet.config.loading import load_recipe  # noqa: E402
from tercet.core.console import console  # noqa: E402
from tercet.sharing.retriever import export_retriever  # noqa: E402
from tercet.studio import browse, compare, form, pages, runs, watch  # noqa: E402
from tercet.studio.places import Places  # noqa: E402
from tercet.studio.searchers import Answer, Searchers  # noqa: E402
from tercet.studio.votes import Votes  # noqa: E402

ROOT = Path(__file__).parent
PLACES, SEARCHERS = Places(ROOT), Searchers()
FIELDS = form.fields()
HOST = "127.0.0.1"
WIDE = ["wide"]  # of a form's columns it takes all
MEASURES = ("mrr@10", "map@10")
COLOURS = {"loss": "#0b5ea8", "mrr@10": "#0b5ea8", "map@10": "#b04400"}
COLOURS |= {f"mrr@10, {watch.ZERO_SHOT}": "#8fb6d9", f"map@10, {watch.ZERO_SHOT}": "#e0a98a"}
EVERY, NEW_EVERY = 2.0, 10.0  # seconds between two looks at a run, and for new ones
LOADING = "once; passages without an index yet are embedded first"


def refused(work: Callable[..., Any]) -> Callable[..., Any]:
    """The event's function, with what it refuses shown as a message on the page."""

    @contextmanager
    def telling() -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise gr.Error(escape(str(error)), print_exception=False) from None

    # Gradio reads the signature and the kind: an event's data has its own type.
    @functools.wraps(work)
    def told(*given: Any) -> Any:
        with telling():
            return work(*given)

    @functools.wraps(work)
    def told_in_pieces(*given: Any) -> Iterator[Any]:
        with telling():
            yield from work(*given)

    return told_in_pieces if inspect.isgeneratorfunction(work) else told


def no_run(name: str | None) -> str:
    """What is said where a name was typed that is no run's; nothing where none was."""
    return pages.refusal(f"{name} is no run of this project") if name else ""


def any_of(label: str, info: str, **given: Any) -> gr.Dropdown:
    """A choice of names; others may be typed, as there may be more than a page can offer."""
    return gr.Dropdown(label=label, info=info, allow_custom_value=True, interactive=True, **given)


def event_values(event: gr.EventData, *names: str) -> list[str]:
    """What the page says of an event, which is whatever somebody sends."""
    told = event._data if isinstance(event._data, dict) else {}
    if not all(isinstance(told.get(name), str) for name in names):
        raise InputError("that is no event of this page: load it again")
    return [told[name] for name in names]


# ── recipe ───────────────────────────────────────────────────────────────────────────────────────


def widget(field: form.Field) -> Any:
    """The component that fits a key."""
    given: dict[str, Any] = {"label": field.label, "info": field.meaning, "interactive": True}
    given["elem_classes"] = classes(field)
    if field.kind == "choice":
        choices = [*([form.UNSET] if field.optional else []), *field.choices]
        return gr.Dropdown(choices, **given)
    if field.kind == "flag":
        return gr.Checkbox(**given)
    if field.kind in ("whole", "number") and not field.optional:
        return gr.Number(precision=0 if field.kind == "whole" else None, **given)
    if field.kind == "yaml":
        return gr.Textbox(lines=3, max_lines=12, placeholder=form.UNSET, **given)
    return gr.Textbox(placeholder=form.UNSET, **given)


def classes(field: form.Field) -> list[str]:
    """How a field stands in its form."""
    return WIDE if field.kind == "yaml" else []


def done(component: Any) -> Any:
    """The event of somebody who has given a component its value: once, by mouse or keyboard."""
    return component.input if isinstance(component, gr.Checkbox) else component.blur


def recipe_tab(run: gr.Dropdown, tabs: gr.Tabs) -> None:
    """Choose a recipe, change its keys, see what it will take, begin it or keep it."""
    with gr.Row():
        with gr.Column(scale=3):
            recipe = any_of("Recipe", "or runs/NAME/recipe.yaml of any run")
            widgets: dict[str, Any] = {}
            for section in dict.fromkeys(field.section for field in FIELDS):
                with (
                    gr.Accordion(section, open=section in ("run", "corpus")),
                    gr.Group(elem_classes="fields"),
                ):
                    for field in FIELDS:
                        if field.section == section:
                            widgets[field.path] = widget(field)
        with gr.Column(scale=2, elem_classes="beside"):
            said = gr.HTML()
            with gr.Row():
                forecast = gr.Button("Forecast")
                begin = gr.Button("Start", variant="primary")
            expected = gr.HTML()
            with gr.Row():
                new = gr.Textbox(label="Save as", placeholder="name of a new recipe", scale=2)
                keep = gr.Button("Save", scale=1)
    wrong, marked = gr.State({}), gr.State([])
    inputs = [recipe, *widgets.values()]

    def filled(name: str, values: tuple[Any, ...]) -> form.Filled:
        return form.fill(PLACES, name, dict(zip(widgets, values, strict=True)))

    def unmarked(field: form.Field) -> dict[str, Any]:
        return {"info": field.meaning, "elem_classes": classes(field)}

    def show(name: str, before: list[str]) -> list[Any]:
        if not name:
            return [gr.skip()] * (len(widgets) + 4)
        try:
            loaded = load_recipe(PLACES.recipe(name), together=False)
            shown = form.values(loaded)
            updates = [
                gr.update(value=shown[f.path], **(unmarked(f) if f.path in before else {}))
                for f in FIELDS
            ]
            said_now = pages.recipe_said(name, form.fill(PLACES, name, shown))
            return [*updates, said_now, {}, [], told(loaded.name)]
        except InputError as error:
            blank = [gr.skip()] * len(widgets)
            return [*blank, pages.refusal(str(error)), {}, [], ""]

    def check(name: str, *values: Any) -> list[Any]:
        found = filled(name, values)
        return [pages.recipe_said(name, found), dict(found.errors)]

    def mark(errors: dict[str, str], before: list[str]) -> dict[Any, Any]:
        updates: dict[Any, Any] = {marked: [*errors]}
        for field in FIELDS:
            if field.path in errors:
                updates[widgets[field.path]] = gr.update(
                    info=f"⚠ {errors[field.path]}", elem_classes=[*classes(field), "wrong"]
                )
            elif field.path in before:
                updates[widgets[field.path]] = gr.update(**unmarked(field))
        return updates

    def offered() -> Any:
        found = PLACES.recipes()
        return gr.update(choices=found, value=next(iter(found), None))

    def told(name: str) -> str:
        return pages.forecast(PLACES.runs / name)

    def started(flag: list[str]) -> Callable[..., str]:
        def start(name: str, *values: Any) -> str:
            found = filled(name, values)
            run = found.whole().name
            runs.start(PLACES, run, name, [*found.options, *flag], "train.py")
            return run

        return start

    def kept(new: str, name: str, *values: Any) -> Any:
        found = filled(name, values)
        found.whole()
        path = form.save(PLACES, name, new, found.options)
        gr.Info(f"saved {path.name}")
        return gr.update(choices=PLACES.recipes(), value=path.relative_to(PLACES.root).as_posix())

    recipe.change(show, [recipe, marked], [*widgets.values(), said, wrong, marked, expected])
    events = [done(each) for each in widgets.values()]
    hidden: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
    # What is told comes back at once: a page takes long over widgets, so only those that changed.
    gr.on(events, refused(check), inputs, [said, wrong], **hidden)
    wrong.change(mark, [wrong, marked], [marked, *widgets.values()], **hidden)
    for button, flag in ((forecast, ["--forecast"]), (begin, [])):
        has_partial = button.click(refused(started(flag)), inputs, run)
        has_partial.success(lambda: gr.Tabs(selected="run"), None, tabs)
    keep.click(refused(kept), [new, *inputs], recipe)
    gr.on([gr.context.Context.root_block.load], offered, None, recipe)


# ── run ──────────────────────────────────────────────────────────────────────────────────────────


def drawn(points: list[dict[str, Any]]) -> pd.DataFrame | None:
    """A plot's points; no plot before there are any, as its axes and legend stay as first drawn."""
    return pd.DataFrame(points, columns=["step", "value", "series"]) if points else None


def run_tab(run: gr.Dropdown, tab: gr.Tab) -> gr.Timer:
    """What a run is at, its curves and its log; go on, stop. Gives the timer that looks."""
    with gr.Row():
        go_on = gr.Button("Go on", variant="primary")
        stop = gr.Button("Stop", variant="stop")
        evaluate = gr.Button("Compare systems (eval.py)")
    status, stages = gr.HTML(), gr.HTML()
    with gr.Row():
        plot = {"x": "step", "y": "value", "color": "series", "color_map": COLOURS, "height": 260}
        plot |= {"color_title": ""}
        # With all four names the legend is wider than a phone.
        held_out = {"title": "held-out queries; pale: zero-shot", "colors_in_legend": [*MEASURES]}
        measures = gr.LinePlot(**plot, **held_out)
        loss = gr.LinePlot(title="loss", **plot)
    log = gr.Textbox(label="Log", lines=14, max_lines=14, autoscroll=True, elem_classes="log")
    expected = gr.HTML()
    seen, timer = gr.State(None), gr.Timer(EVERY, active=False)

    def look(name: str | None, before: Any) -> list[Any]:
        folder = PLACES.find(name)
        if folder is None:
            return [no_run(name), "", None, None, "", "", None]
        lines, found = runs.tail(folder), watch.stages(folder)
        now = [name, runs.state(folder), found, lines[-3:], len(lines)]
        points = watch.curves(folder, MEASURES)
        now.append({kind: len(rows) for kind, rows in points.items()})
        if now == before:
            return [gr.skip()] * 7
        plots = [drawn(points[kind]) for kind in ("measures", "loss")]
        shown = [pages.status(folder, now[1]), pages.stages(found), *plots]
        return [*shown, "\n".join(lines[-400:]), pages.forecast(folder), now]

    def began(program: str) -> Callable[[str], None]:
        def start(name: str) -> None:
            recipe = runs_recipe(name)
            if not (PLACES.root / recipe).exists():
                raise InputError(f"{name} has no recipe.yaml: start it on the tab Recipe")
            runs.recipe_of(PLACES.run(name))
            runs.start(PLACES, name, recipe, [], program)

        return start

    outputs = [status, stages, measures, loss, log, expected, seen]
    has_partial = go_on.click(refused(began("train.py")), run)
    compared = evaluate.click(refused(began("eval.py")), run)
    stopped = stop.click(refused(lambda name: runs.stop(PLACES.run(name))), run)
    at_once = [event.then for event in (has_partial, compared, stopped)]
    for event in (timer.tick, run.change, tab.select, *at_once):
        event(refused(look), [run, seen], outputs, show_progress="hidden")
    return timer


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


def data_tab(run: gr.Dropdown) -> None:
    """Whatever a run's stages wrote; a row opens its texts."""
    with gr.Row():
        kind = gr.Dropdown(label="Show", interactive=True, scale=2)
        search = gr.Textbox(label="That hold", placeholder="words", scale=3)
    note = gr.HTML()
    table = gr.HTML(js_on_load=pages.LISTING)
    with gr.Row():
        back, on = gr.Button("← back", size="sm"), gr.Button("on →", size="sm")
    texts, number = gr.HTML(), gr.State(0)

    def kinds(name: str | None) -> Any:
        folder = PLACES.find(name)
        found = browse.Data(folder).kinds if folder else []
        return gr.update(choices=found, value=found[0] if found else None)

    def show(name: str | None, kind: str | None, search: str, number: int) -> list[Any]:
        folder = PLACES.find(name)
        if not folder or not kind:
            said = pages.note("nothing is made yet") if folder else no_run(name)
            return [said, "", 0, ""]
        data = browse.Data(folder)
        page = data.page(kind, search or "", number)
        if number and not page.rows:  # other words have fewer pages
            number = max(0, page.total - 1) // browse.SIZE
            page = data.page(kind, search or "", number)
        rows = pages.listing(page.columns, page.rows, range(len(page.columns)))
        first = number * browse.SIZE
        said = f"{first + 1:,} to {first + len(page.rows):,} of {page.total:,}"
        said = said if page.rows else "none"
        return [pages.note(said, page.note), rows, number, ""]

    def opened(name: str, kind: str, event: gr.EventData) -> str:
        (id,) = event_values(event, "id")
        return pages.texts(browse.Data(PLACES.run(name)).texts(kind, id))

    outputs = [note, table, number, texts]
    first = refused(lambda *given: show(*given, 0))
    # Another run may have data of the same kinds, and then no dropdown changes.
    run.change(refused(kinds), run, kind).then(first, [run, kind, search], outputs)
    gr.on([done(kind), search.submit], first, [run, kind, search], outputs)
    for button, step in ((back, -1), (on, 1)):
        move = lambda n, k, s, at, step=step: show(n, k, s, max(0, at + step))  # noqa: E731
        button.click(refused(move), [run, kind, search, number], outputs)
    table.select(refused(opened), [run, kind], texts)


# ── results ──────────────────────────────────────────────────────────────────────────────────────


def results_tab(run: gr.Dropdown) -> None:
    """All runs, two side by side, each query that changed, the report, the retriever's file."""
    every = gr.HTML(js_on_load=pages.LISTING)
    with gr.Row():
        refresh = gr.Button("Refresh", size="sm")
        download = gr.DownloadButton("Download CSV", size="sm")
    with gr.Accordion("Compare two runs", open=False):
        with gr.Row():
            pair = [any_of(label, "or any run's name") for label in ("first", "second")]
        compared = gr.HTML()
    with gr.Accordion("Queries won and lost by the chosen run", open=False):
        measure = gr.Dropdown(label="by", interactive=True)
        changed = gr.HTML(js_on_load=pages.LISTING)
    with gr.Accordion("Report of the chosen run", open=False):
        report = gr.HTML()
    with gr.Accordion("Retriever for LangChain", open=False):
        write = gr.Button("Write retriever.py", size="sm")
        code = gr.Code(language="python", label="retriever.py", interactive=False, max_lines=24)

    kept = tempfile.TemporaryDirectory(prefix="tercet-")  # what Gradio may serve is not in runs/

    def all_runs() -> str:
        return pages.all_runs(compare.results(PLACES.run_folders()))

    def sheet() -> str:
        path = Path(kept.name) / "runs.csv"
        path.write_text(compare.as_csv(PLACES.run_folders()), encoding="utf-8")
        return str(path)

    def chosen(event: gr.EventData) -> str:
        return PLACES.run(*event_values(event, "id")).name

    def of_pair(first: str | None, second: str | None) -> str:
        if not first or not second:
            return ""
        try:
            found = compare.compare_runs(PLACES.run(first), PLACES.run(second))
        except InputError as error:  # not beside what was compared before
            return pages.refusal(str(error))
        return pages.compared(first, second, found)

    def of_run(name: str | None) -> list[Any]:
        folder = PLACES.find(name)
        if folder is None:
            return [gr.update(choices=[], value=None), ""]
        measures = compare.measures_of(folder)
        first = measures[0] if measures else None
        return [gr.update(choices=measures, value=first), pages.report(folder)]

    def queries(name: str | None, measure: str | None) -> str:
        folder = PLACES.find(name)
        if not folder or not measure:
            return ""
        rows = compare.wins_and_losses(folder, measure)
        asked = browse.Data(folder).queries(row[0] for row in rows)
        columns = ("id", "query", "zero-shot", "adapted", "difference")
        with_texts = [(row[0], asked.get(row[0], ""), *row[1:]) for row in rows]
        said = f"{len(rows):,} queries changed"
        return pages.listing(columns, with_texts, (0, 1), said, opens=False)

    def retriever(name: str) -> str:
        folder = PLACES.run(name)
        path, *_ = export_retriever(runs.recipe_of(folder), folder / "retriever.py")
        return path.read_text(encoding="utf-8")

    offer = lambda: [gr.update(choices=PLACES.recent())] * 2  # noqa: E731
    looked = gr.on([gr.context.Context.root_block.load, refresh.click], all_runs, None, every)
    for work, outputs in ((offer, pair), (sheet, download)):  # after what is looked at
        looked = looked.then(work, None, outputs, show_progress="hidden")
    every.select(refused(chosen), None, run)
    for each in pair:
        each.change(of_pair, pair, compared)
    run.change(refused(of_run), run, [measure, report]).then(
        refused(queries), [run, measure], changed
    )
    done(measure)(refused(queries), [run, measure], changed)
    write.click(refused(retriever), run, code)


# ── search ───────────────────────────────────────────────────────────────────────────────────────


def search_tab(run: gr.Dropdown) -> None:
    """One query against several systems; votes are kept."""
    with gr.Row():
        query = gr.Textbox(label="Query", scale=4)
        k = gr.Slider(1, 20, value=5, step=1, label="Passages", scale=1)
    info = "of the runs that changed last; of any other, type run: adapted"
    many: dict[str, Any] = {"multiselect": True, "allow_custom_value": True, "info": info}
    systems = gr.Dropdown(label="Systems", interactive=True, **many)
    ask = gr.Button("Search", variant="primary")
    asked, shown = gr.State(None), gr.HTML(js_on_load=pages.VOTING)

    def known() -> Any:
        names = PLACES.recent()
        of = [(name, each) for name in names for each in SEARCHERS.systems_of(PLACES.runs / name)]
        return gr.update(choices=[f"{name}: {system}" for name, system in of])

    def own(name: str | None) -> list[str]:
        folder = PLACES.find(name)
        found = SEARCHERS.systems_of(folder) if folder else []
        return [f"{name}: {system}" for system in found[:2]]

    def votes_of(answer: Answer) -> Votes:
        return Votes(PLACES.run(answer.system.rsplit(": ", 1)[0]))

    def page(query: str, found: list[Answer]) -> str:
        return pages.answers(query, found, [votes_of(answer).of(query) for answer in found])

    def answers(query: str, chosen: list[str], k: int) -> Iterator[list[Any]]:
        if not query.strip() or not chosen:
            raise InputError("give a query, and choose at least one system")
        pairs = [label.rsplit(": ", 1) if ": " in label else [label, ""] for label in chosen]
        of = [(PLACES.run(name), system) for name, system in pairs]
        new = [f"{run.name}: {system}" for run, system in of if SEARCHERS.must_load(run, system)]
        if new:
            yield [None, pages.note(f"loading {', '.join(new)}", LOADING)]
        found = SEARCHERS.ask(query, of, int(k))
        yield [(query, found), page(query, found)]

    def vote(asked: Any, event: gr.EventData) -> str:
        said, system, passage, relevant = event_values(
            event, "query", "system", "passage", "relevant"
        )
        query, found = asked or ("", [])
        of = {answer.system: answer for answer in found}.get(system)
        if said != query or not of or passage not in {each.id for each, _ in of.hits}:
            raise InputError("these results are not the last ones: search again, then vote")
        votes_of(of).cast(query, passage, relevant == "1")
        return page(query, found)

    gr.on([gr.context.Context.root_block.load], known, None, systems)
    run.change(refused(own), run, systems)
    gr.on([ask.click, query.submit], refused(answers), [query, systems, k], [asked, shown])
    shown.click(refused(vote), asked, shown, show_progress="hidden")


# ── chat ─────────────────────────────────────────────────────────────────────────────────────────


def chat_tab(run: gr.Dropdown) -> None:
    """Questions answered from a run's passages, which are cited."""
    fields = [field for field in FIELDS if field.section == "chat"]
    said: dict[str, Any] = {"render_markdown": False, "buttons": ["copy"]}  # none that shares
    with gr.Row():
        with gr.Column(scale=3):
            talk = gr.Chatbot(**said, height=460, show_label=False)
            with gr.Row():
                box = gr.Textbox(placeholder="a question", show_label=False, scale=5)
                send = gr.Button("Ask", variant="primary", scale=1)
        with gr.Column(scale=2):
            gr.HTML("<h3>Cited passages</h3>")
            cited = gr.HTML()
            with gr.Accordion("What answers", open=False):
                settings = [widget(field) for field in fields]
    turns = gr.State([])

    def usual(name: str | None) -> list[Any]:
        folder = PLACES.find(name)
        if folder is None or not (folder / "recipe.yaml").exists():
            return [gr.skip()] * len(fields)
        shown = form.values(load_recipe(folder / "recipe.yaml", together=False))
        return [shown[field.path] for field in fields]

    def answer(name: str, question: str, turns: list[Any], *values: Any) -> Iterator[list[Any]]:
        shown = dict(zip([field.path for field in fields], values, strict=True))
        filled = form.fill(PLACES, runs_recipe(name), shown)
        filled.whole()
        chat = SEARCHERS.chat(PLACES.run(name), filled.options)
        citations, pieces = chat.ask(question, turns)
        said, typed = "", gr.update(value="")
        for piece in pieces:
            said += piece
            yield [messages([*turns, (question, said)]), pages.cited(citations), typed, turns]
            typed = gr.skip()  # meanwhile the next question may be typed
        turns = [*turns, (question, said)]
        yield [messages(turns), pages.cited(citations), typed, turns]

    def messages(turns: list[Any]) -> list[dict[str, str]]:
        return [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]

    outputs = [talk, cited, box, turns]
    asking = gr.on([send.click, box.submit], refused(answer), [run, box, turns, *settings], outputs)
    # An answer that still comes would bring the old turns back.
    run.change(lambda: ([], "", []), None, [talk, cited, turns], cancels=[asking])
    talk.clear(lambda: ([], ""), None, [turns, cited], cancels=[asking])
    run.change(refused(usual), run, settings)


def runs_recipe(name: str) -> str:
    """The recipe that a run was made with, as `Places.recipe` knows it."""
    return (PLACES.run(name) / "recipe.yaml").relative_to(PLACES.root).as_posix()


# ── the page ─────────────────────────────────────────────────────────────────────────────────────


def studio() -> gr.Blocks:
    """All of it."""
    with gr.Blocks(title="Tercet") as page:
        gr.HTML(pages.HEADER)
        run = any_of("Run", "one that changed last, or any other's name", elem_id="run")
        with gr.Tabs() as tabs:
            with gr.Tab("Recipe"):
                recipe_tab(run, tabs)
            with gr.Tab("Run", id="run") as looked_at:
                timer = run_tab(run, looked_at)
            others = {
                "Data": data_tab,
                "Results": results_tab,
                "Search": search_tab,
                "Chat": chat_tab,
            }
            for name, tab in others.items():
                with gr.Tab(name):
                    tab(run)
        for each in tabs.children:  # looking costs the other tabs time
            turned = lambda on=each is looked_at: gr.Timer(active=on)  # noqa: E731
            each.select(turned, None, timer, show_progress="hidden")

        def new(chosen: str | None, before: list[str]) -> list[Any]:
            names = PLACES.recent()
            if sorted(names) == before:  # while somebody types, choices that come undo the typing
                return [gr.skip(), gr.skip()]
            # What is chosen is sent back only if it must change: another may be chosen meanwhile.
            first = {} if PLACES.find(chosen) else {"value": next(iter(names), None)}
            return [gr.update(choices=names, **first), sorted(names)]

        known = gr.State([])
        gr.on(
            [page.load, gr.Timer(NEW_EVERY).tick],
            new,
            [run, known],
            [run, known],
            show_progress="hidden",
        )
    return page


def main() -> None:
    """Serve the page on this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=7860)
    given = parser.parse_args()
    os.chdir(ROOT)
    font = ["system-ui", "sans-serif"]
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A page of another site, whose name was made to lead here, is not answered.
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    served = gr.mount_gradio_app(
        server,
        studio().queue(default_concurrency_limit=4),
        path="",
        server_name=HOST,
        server_port=given.port,
        footer_links=[],
        ssr_mode=False,
        run_history=False,  # Gradio's own would keep what is shown in the browser's storage
        allowed_paths=[],
        blocked_paths=[str(ROOT)],
        theme=gr.themes.Base(font=font, font_mono=["ui-monospace", "monospace"]),
        css=pages.CSS,
    )
    console.print(f"the studio is at http://{HOST}:{given.port}; Ctrl-C ends it, and no run")
    # Not by Gradio's own launch, which can open tunnels.
    uvicorn.run(served, host=HOST, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
