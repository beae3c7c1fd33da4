"""The tab Results: all runs, two of them compared, changed queries, the report, retriever.py."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from tercet.core.schema import InputError
from tercet.sharing.retriever import export_retriever
from tercet.studio import browse, compare, pages, runs
from tercet.studio.places import Places
from tercet.studio.tabs.widgets import edited, event_values, name_dropdown, show_errors


def results_tab(places: Places, run: gr.Dropdown) -> None:
    """Build the table of all runs, and the sections on the chosen run below it."""
    every = gr.HTML(js_on_load=pages.LISTING)
    with gr.Row():
        refresh = gr.Button("Refresh", size="sm")
        download = gr.DownloadButton("Download CSV", size="sm")
    with gr.Accordion("Compare two runs", open=False):
        with gr.Row():
            pair = [name_dropdown(label, "or any run's name") for label in ("first", "second")]
        compared = gr.HTML()
    with gr.Accordion("Queries won and lost by the chosen run", open=False):
        metric = gr.Dropdown(label="by", interactive=True)
        changed = gr.HTML(js_on_load=pages.LISTING)
    with gr.Accordion("Report of the chosen run", open=False):
        report = gr.HTML()
    with gr.Accordion("Retriever for LangChain", open=False):
        write = gr.Button("Write retriever.py", size="sm")
        code = gr.Code(language="python", label="retriever.py", interactive=False, max_lines=24)

    downloads = tempfile.TemporaryDirectory(prefix="tercet-")  # Gradio may not serve from runs/

    def all_runs() -> str:
        return pages.all_runs(compare.results(places.run_folders()))

    def csv_file() -> str:
        path = Path(downloads.name) / "runs.csv"
        path.write_text(compare.as_csv(places.run_folders()), encoding="utf-8")
        return str(path)

    def chosen(event: gr.EventData) -> str:
        return places.run(*event_values(event, "id")).name

    def of_pair(first: str | None, second: str | None) -> str:
        if not first or not second:
            return ""
        try:
            found = compare.compare_runs(places.run(first), places.run(second))
        except InputError as error:  # in place of the pair compared before, which would mislead
            return pages.refusal(str(error))
        return pages.compared(first, second, found)

    def of_run(name: str | None) -> list[Any]:
        folder = places.find(name)
        if folder is None:
            return [gr.update(choices=[], value=None), ""]
        metrics = compare.metrics_of(folder)
        first = metrics[0] if metrics else None
        return [gr.update(choices=metrics, value=first), pages.report(folder)]

    def queries(name: str | None, metric: str | None) -> str:
        folder = places.find(name)
        if not folder or not metric:
            return ""
        rows = compare.wins_and_losses(folder, metric)
        texts = browse.Data(folder).queries(row[0] for row in rows)
        columns = ("id", "query", "before", "after", "difference")
        with_texts = [(row[0], texts.get(row[0], ""), *row[1:]) for row in rows]
        count = f"{len(rows):,} queries changed"
        return pages.listing(columns, with_texts, (0, 1), count, opens=False)

    def retriever(name: str) -> str:
        folder = places.run(name)
        path, *_ = export_retriever(runs.recipe_of(folder), folder / "retriever.py")
        return path.read_text(encoding="utf-8")

    offer = lambda: [gr.update(choices=places.recent())] * 2  # noqa: E731
    loaded = gr.on([gr.context.Context.root_block.load, refresh.click], all_runs, None, every)
    for work, outputs in ((offer, pair), (csv_file, download)):  # the visible table comes first
        loaded = loaded.then(work, None, outputs, show_progress="hidden")
    every.select(show_errors(chosen), None, run)
    for each in pair:
        each.change(of_pair, pair, compared)
    run.change(show_errors(of_run), run, [metric, report]).then(
        show_errors(queries), [run, metric], changed
    )
    edited(metric)(show_errors(queries), [run, metric], changed)
    write.click(show_errors(retriever), run, code)
