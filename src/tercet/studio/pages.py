"""Parts of the studio's page as HTML; texts of corpora, files and users are escaped."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet.core.text import bytes_text, seconds_text
from tercet.forecast.forecast import FORECAST, ROWS, read_forecast
from tercet.reports.forecast_table import size_in_words
from tercet.reports.report import metric_header, metric_rows
from tercet.studio.browse import Text
from tercet.studio.compare import COLUMNS, TEXTS, Compared, comparisons_of, ships_base
from tercet.studio.form import Filled, command
from tercet.studio.runs import State, read_process, report_of
from tercet.studio.searchers import Answer
from tercet.studio.watch import Stage

if TYPE_CHECKING:
    from tercet.serving.chat import Citation

SHOWN = 100  # rows of a long table that are laid out before "show all" is clicked
HEADER = """<header class="tercet"><h1>Tercet</h1>
<p>Adapt a retriever to a corpus that nobody labelled, and prove whether it got better.</p></header>
"""


def note(*parts: str) -> str:
    """A line in small print: the parts that are not empty, with dots between."""
    return f'<p class="note">{escape(" · ".join(part for part in parts if part))}</p>'


def refusal(why: str) -> str:
    """An error in one line."""
    return f'<p class="refusal">{escape(why)}</p>'


def _table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], texts: Sequence[int] = (0,)
) -> str:
    """A table that scrolls sideways if it is wide; the columns `texts` are aligned left."""

    def cells(row: Sequence[Any], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=text' if place in texts else ''}>{escape(str(cell))}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>"
    return f'<div class="scroll"><table class="plain">{head}<tbody>{body}</tbody></table></div>'


def recipe_summary(name: str, filled: Filled) -> str:
    """The command that is equal to a form, and the form's errors."""
    wrong = "".join(
        refusal(f"{key}: {why}" if key and key not in why else why)
        for key, why in filled.errors.items()
    )
    changed = f"{len(filled.options)} changed" if filled.options else "as the recipe has it"
    line = shlex.join(command(name, filled.options))
    return f"{note(changed)}<pre class=command>{escape(line)}</pre>{wrong}"


def forecast(run: Path) -> str:
    """A run's forecast of time, disk and cost, stage by stage, if there is one."""
    found = read_forecast(run)
    if found is None:
        return note(f"no forecast of {run.name} yet: it takes a minute or two")
    rows = [
        (name, f"{stage.rows:,} {ROWS[name][0]}", *_taken(stage))
        for name, stage in found.stages.items()
    ]
    left = found.left.values()
    whole = seconds_text(sum(stage.seconds for stage in left))
    dollars = sum(stage.dollars for stage in left)
    rows.append(("left", "", whole, bytes_text(sum(s.disk for s in left)), f"${dollars:,.2f}"))
    advice = "".join(note(line) for line in size_in_words(found.size))
    when = note(f"{FORECAST} of {run.name}: {whole} and ${dollars:,.2f} to come")
    return when + _table(("stage", "rows", "time", "disk", "cost"), rows, (0, 1)) + advice


def _taken(stage: Any) -> tuple[str, str, str]:
    if stage.done:
        return ("done", "", "")
    return (seconds_text(stage.seconds), bytes_text(stage.disk), f"${stage.dollars:,.2f}")


def status(run: Path, state: State) -> str:
    """A run's state, and the command that the studio started last."""
    process = read_process(run)
    line = shlex.join(process.command) if process else report_of(run).get("command", "")
    shown = f"<pre class=command>{escape(line)}</pre>" if line else ""
    return f'<p class="state {state}"><b>{escape(run.name)}</b> {state}</p>{shown}'


def stages(found: Sequence[Stage]) -> str:
    """Every stage with a progress bar, its rate and the time left."""
    rows = []
    for stage in found:
        took = "" if stage.seconds is None else str(timedelta(seconds=round(stage.seconds)))
        part = "" if stage.part is None else f"{stage.part:.0%}"
        bar = f'<div class="bar"><i style="width:{100 * (stage.part or 0):.0f}%"></i></div>'
        left = f"left {stage.left}" if stage.left else took
        progress = stage.state if stage.state != "at work" else part or "at work"
        columns = (progress, stage.rate, left, stage.counted)
        cells = "".join(f"<td>{escape(text)}</td>" for text in columns)
        rows.append(
            f'<tr class="{stage.state.replace(" ", "-")}"><th>{escape(stage.name)}</th>'
            f"<td>{bar}</td>{cells}</tr>"
        )
    return f'<div class="scroll"><table class="plain stages">{"".join(rows)}</table></div>'


def listing(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    texts: Sequence[int],
    caption: str = "",
    *,
    opens: bool = True,
) -> str:
    """A table for a component with the script `LISTING`.

    Its rows can be clicked if it `opens`. With a caption it can be sorted and filtered.
    """
    shown = _table(header, ([*("" if c is None else c for c in row)] for row in rows), texts)
    kind = "rows" if opens else ""
    if not caption:
        return f'<div class="{kind}">{shown}</div>'
    field = '<input class="filter" placeholder="Filter..." aria-label="Filter the rows">'
    more = '<button class="all" hidden></button>'
    return (
        f'<div class="{kind} sorts" data-shown="{SHOWN}">{field}{note(caption)}{shown}{more}</div>'
    )


def all_runs(rows: Sequence[Sequence[Any]]) -> str:
    """Every run in a table that sorts and filters."""
    texts = [n for n, name in enumerate(COLUMNS) if name in TEXTS]
    caption = f"{len(rows):,} run{'' if len(rows) == 1 else 's'}; a click on a column sorts by it"
    caption += ", a click on a run chooses it"
    return listing(COLUMNS, rows, texts, caption)


def texts(found: Sequence[Text]) -> str:
    """Texts side by side, the text that the others belong to first."""
    cards = "".join(
        f'<article class="{"first" if text.first else ""}"><h4>{escape(text.heading)}</h4>'
        f'<p class="note">{escape(" · ".join(text.facts))}</p><p>{escape(text.text)}</p></article>'
        for text in found
    )
    return f'<div class="cards">{cards}</div>'


def compared(first: str, second: str, found: Compared) -> str:
    """Two runs: their results with intervals, then the settings that differ."""
    header = ("metric", first, second, "difference", "95% interval")
    settings = note("all settings are the same")
    if found.settings:
        settings = _table(("key", first, second), found.settings, (0, 1, 2))
    return _table(header, metric_rows(found.comparisons)) + note(found.note) + settings


def report(run: Path) -> str:
    """The page that eval.py wrote, in a sandboxed frame; else train.py's results."""
    page, found = run / "results" / "report.html", report_of(run)
    if page.is_file() and not page.is_symlink():
        shown = escape(page.read_text(encoding="utf-8"))
        frame = f'<iframe class="report" sandbox="allow-scripts" srcdoc="{shown}"></iframe>'
        return verdict(run) + frame
    if not found:
        return note(f"{run.name} has no report yet")
    base = ships_base(run)
    notes = "".join(note(line) for line in (*found.get("more", ()), *found.get("notes", ())))
    rows = metric_rows(comparisons_of(run), base_ships=base)
    return verdict(run) + _table(metric_header(base_ships=base), rows) + notes


def verdict(run: Path) -> str:
    """The first line of a finished run: what ships, and why; empty before."""
    text = report_of(run).get("verdict", "")
    return f'<p class="verdict">{escape(text)}</p>' if text else ""


def answers(query: str, found: Sequence[Answer], votes: Sequence[Mapping[str, int]]) -> str:
    """Each system's answer side by side, with its votes: passage id -> grade."""
    columns = (
        f"<section>{_answer(answer)}{_hits(query, answer, of)}</section>"
        for answer, of in zip(found, votes, strict=True)
    )
    return f'<div class="answers">{"".join(columns)}</div>'


def _answer(found: Answer) -> str:
    """A system's name, its index and its time, or the reason why it did not answer."""
    name = f"<h3>{escape(found.system)}</h3>"
    if found.refusal:
        return name + refusal(found.refusal)
    return name + note(f"{found.milliseconds:.1f} ms", found.place)


def _hits(query: str, found: Answer, votes: Mapping[str, int]) -> str:
    """The passages found, each with two vote buttons."""

    def vote(passage: str, grade: int) -> str:
        of = {"query": query, "system": found.system, "passage": passage, "relevant": str(grade)}
        data = " ".join(f'data-{name}="{escape(value)}"' for name, value in of.items())
        pressed = str(votes.get(passage) == grade).lower()
        label = "relevant" if grade else "not relevant"
        return f'<button class="vote" {data} aria-pressed="{pressed}">{label}</button>'

    return "".join(
        f'<article class="hit"><h4>{place}. {escape(passage.title or passage.id)}</h4>'
        f'<p class="note">{escape(passage.id)} · {score:.4f}</p><p>{escape(passage.text)}</p>'
        f"{vote(passage.id, 1)}{vote(passage.id, 0)}</article>"
        for place, (passage, score) in enumerate(found.hits, 1)
    )


def cited(found: Sequence[Citation]) -> str:
    """The passages that an answer cites; a click shows their text."""
    if not found:
        return note("no passage is cited")
    return "".join(
        f'<details class="cited"><summary>[{c.number}] {escape(c.passage.title or c.passage.id)} '
        f"<small>{escape(c.passage.id)} · {c.score:.3f}</small></summary>"
        f"<p>{escape(c.passage.text)}</p></details>"
        for c in found
    )


def _beside(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


CSS = _beside("studio.css")
#: Scripts of `gr.HTML` components; Gradio supplies `element`, `trigger` and `watch`.
LISTING, VOTING = _beside("listing.js"), _beside("voting.js")
