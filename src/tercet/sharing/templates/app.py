"""A web page that searches a run's passages and shows the results of adapting its model.

    pip install -r requirements.txt
    python app.py

Outside a Hugging Face Space it listens on this machine only. Its data is in the same folder:
`retriever.py` searches the passages, `results.json` has the metric values.
"""

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import gradio as gr
from retriever import EXPECTED, K, TercetRetriever

HERE = Path(__file__).parent
MOST = 50  # passages per search
LONGEST = 2_000  # characters of a query; the rest is ignored
HEAD = 360  # characters of a passage before it is opened
EXAMPLES = 6

# Gradio prefixes every selector, splitting at commas, so commas in brackets would break.
CSS = """
.gradio-container { --up: #0b5ea8; --down: #b04400; max-width: 860px; margin: 0 auto; }
.dark .gradio-container { --up: #74b6f5; --down: #f2975c; }
.gradio-container .main.app { padding: .5rem 1rem !important; }
.html-container { padding: 0; }
.head { padding-top: 1rem; }
.head h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
.quiet { color: var(--body-text-color-subdued); margin: 0; }
.query { align-items: end; }
.found { list-style: none; padding: 0; margin: .75rem 0 0; overflow-wrap: anywhere; }
.found > li { padding: 1.1rem 0; margin: 0; border-top: 1px solid var(--border-color-primary); }
.found h3 { font-size: 1.05rem; line-height: 1.35; margin: 0 0 .3rem; }
.found p, .found summary { line-height: 1.6; margin: 0; }
.found summary { cursor: pointer; }
.found .about { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin-top: .45rem; }
.found .about * { color: var(--body-text-color-subdued); font-size: .85rem; }
.found code { background: none; border: 0; padding: 0; }
.scroll { overflow-x: auto; }
.figures { width: 100%; border-collapse: collapse; margin: 0; }
.figures, .figures thead, .figures tbody, .figures tr { border: 0; }
.figures th, .figures td {
  text-align: right; vertical-align: baseline; white-space: nowrap; padding: .5rem 0 .5rem 1rem;
  border: 0; border-bottom: 1px solid var(--border-color-primary);
  font-variant-numeric: tabular-nums;
}
.figures th:first-child, .figures td:first-child { text-align: left; padding-left: 0; }
.figures th, .figures small { color: var(--body-text-color-subdued); }
.figures small { display: block; font-weight: 400; }
.figures .up { color: var(--up); font-weight: 600; }
.figures .down { color: var(--down); font-weight: 600; }
.notes { padding-left: 1.1rem; margin: .75rem 0 1rem; }
.notes li { color: var(--body-text-color-subdued); margin: .25rem 0; overflow-wrap: anywhere; }
.report { width: 100%; height: 85vh; border: 1px solid var(--border-color-primary); }
@media (max-width: 640px) {
  .figures th, .figures td { padding-left: .5rem; font-size: .8rem; }
  .figures small { font-size: .7rem; }
}
"""


class Search:
    """The search of the page and of its API."""

    def __init__(self, retriever: TercetRetriever) -> None:
        self._retriever = retriever

    def find(self, query: str, k: int = K) -> list[dict[str, Any]]:
        """Find the passages that best match a query: id, title, text and score of each."""
        text, k = query.strip()[:LONGEST], min(max(int(k), 1), MOST)
        return [
            {
                "id": found.metadata["id"],
                "title": found.metadata["title"],
                "text": found.page_content,
                "score": found.metadata["score"],
            }
            for found in (self._retriever.invoke(text, k=k) if text else [])
        ]

    def show(self, query: str, k: float | None) -> str:
        """The found passages as HTML."""
        if not query.strip():
            return note("Type a question, or choose an example.")
        start = perf_counter()
        try:
            found = self.find(query, int(k or K))
        except ValueError as error:
            return note(str(error))
        milliseconds = 1e3 * (perf_counter() - start)
        passages = f"{len(found)} passage{'' if len(found) == 1 else 's'}"
        return note(f"{passages}, in {milliseconds:,.0f} ms") + listed(found)


def note(text: str) -> str:
    """A line of text as HTML."""
    return f'<p class="quiet">{html.escape(text)}</p>'


def listed(found: Sequence[dict[str, Any]]) -> str:
    """Passages as HTML; their texts are escaped."""
    return f'<ol class="found">{"".join(map(_passage, found))}</ol>'


def _passage(found: dict[str, Any]) -> str:
    title, text = found["title"].strip(), found["text"].strip()
    heading = f'<h3 dir="auto">{html.escape(title)}</h3>' if title else ""
    about = f"<span>score {found['score']:.4f}</span><code>{html.escape(found['id'])}</code>"
    body = _text(text) if text != title else ""
    return f'<li>{heading}{body}<p class="about">{about}</p></li>'


def _text(text: str) -> str:
    """A text as HTML: its beginning, which opens to the rest."""
    cut = text.rfind(" ", HEAD // 2, HEAD) if len(text) > HEAD else -1
    cut = HEAD if cut < 0 and len(text) > HEAD else cut
    if cut < 0:
        return f'<p dir="auto">{html.escape(text)}</p>'
    head, rest = html.escape(text[:cut]), html.escape(text[cut:].strip())
    return f'<details><summary dir="auto">{head} …</summary><p dir="auto">… {rest}</p></details>'


def comparison(results: dict[str, Any]) -> str:
    """The metrics of the base and the adapted model as HTML; of the base alone where it ships."""
    base = results["shipped"] == "base"
    rows = "".join(
        f"<tr><td>{html.escape(c['measure'])}</td><td>{c['before']:.4f}</td>"
        + ("" if base else f"<td>{c['after']:.4f}</td>{_difference(c['interval'])}")
        + "</tr>"
        for c in results["comparisons"]
    )
    more = "<th>adapted</th><th>difference <small>95% interval</small></th>"
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in results["notes"])
    return (
        '<div class="scroll"><table class="figures"><thead><tr><th>metric</th><th>zero-shot</th>'
        f"{'' if base else more}</tr></thead>"
        f'<tbody>{rows}</tbody></table></div><ul class="notes">{notes}</ul>'
    )


def _difference(interval: dict[str, float]) -> str:
    """A table cell; significant differences are coloured."""
    side = "up" if interval["low"] > 0 else "down" if interval["high"] < 0 else "even"
    span = f"[{interval['low']:+.4f}, {interval['high']:+.4f}]"
    return (
        f'<td><span class="{side}">{interval["difference"]:+.4f}</span> <small>{span}</small></td>'
    )


def framed(page: str) -> str:
    """Another page in a sandboxed frame."""
    return (
        '<iframe class="report" title="All systems that were compared" sandbox="allow-scripts" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def build(retriever: TercetRetriever) -> gr.Blocks:
    """The page."""
    results = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    about = (HERE / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    with gr.Blocks(title=results["run"], analytics_enabled=False) as page:
        gr.HTML(_head(results))
        with gr.Tab("Search"):
            _search(Search(retriever))
        with gr.Tab("Results") as tab:
            gr.HTML(comparison(results))
            if (HERE / "report.html").exists():
                _report(tab)
        with gr.Tab("About"):
            gr.Markdown(about)
    return page


def _search(search: Search) -> None:
    with gr.Row(elem_classes="query"):
        query = gr.Textbox(label="Question", max_lines=4, scale=6, autofocus=True)
        most = {"minimum": 1, "maximum": MOST, "precision": 0}
        k = gr.Number(min(K, MOST), label="Passages", scale=1, min_width=90, **most)
        go = gr.Button("Search", variant="primary", scale=1, min_width=110)
    queries = [[query] for query, _ in EXPECTED[:EXAMPLES]]
    examples = gr.Examples(queries, [query], label="Examples: test queries", cache_examples=False)
    found = gr.HTML(note("Passages appear here."))
    for event in (go.click, query.submit, examples.load_input_event.then):
        event(search.show, [query, k], found, api_visibility="private", show_progress="minimal")
    gr.api(search.find, api_name="search")


def _head(results: dict[str, Any]) -> str:
    how = "unchanged" if results["shipped"] == "base" else "adapted to them"
    about = f"{results['passages']:,} passages, searched by {results['model']}, {how}."
    return f'<div class="head"><h1>{html.escape(results["run"])}</h1>{note(about)}</div>'


def _report(tab: gr.Tab) -> None:
    """The page of eval.py, loaded when its tab is first opened."""
    loaded, report = gr.State(False), gr.HTML()

    def load(loaded: bool) -> tuple[Any, bool]:
        page = (HERE / "report.html").read_text(encoding="utf-8")
        return (gr.skip() if loaded else framed(page)), True

    tab.select(load, [loaded], [report, loaded], api_visibility="private")


def main() -> None:
    """Serve the page."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    in_space = bool(os.environ.get("SPACE_ID"))
    build(TercetRetriever()).launch(
        server_name="0.0.0.0" if in_space else "127.0.0.1",
        server_port=7860 if in_space else None,
        share=False,
        ssr_mode=False,
        css=CSS,
        theme=gr.themes.Base(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ).set(body_text_color_subdued="*neutral_500"),
        footer_links=["api"],
        run_history=False,
        enable_monitoring=False,
    )


if __name__ == "__main__":
    main()
