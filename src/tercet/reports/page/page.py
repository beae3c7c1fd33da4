"""The page of an experiment: one self-contained HTML file, made from the results alone.

Its texts come from the corpus and are not trusted: the template and the plots escape them, and a
content security policy permits the page's two scripts, no other scripts, and no requests.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tercet.core.files import write_file
from tercet.evaluation.results import Cell, Results, Slice
from tercet.reports.page import plots
from tercet.reports.page.numbers import FILTERS
from tercet.reports.page.tradeoffs import tradeoffs as tradeoffs_of
from tercet.reports.page.verdict import metric_name, verdict
from tercet.reports.views import pair_of, ranked

# Resolved, because an editable install may link to this file.
_HERE = Path(__file__).resolve().parent
_PHASES = ("encode", "search", "rerank")


def check_page() -> None:
    """Raises InputError unless plotly is installed."""
    plots.plotly_js()


def write_page(results: Results, path: Path) -> None:
    """Write the page of an experiment. Raises InputError without plotly."""
    write_file(path, page(results).encode())


def page(results: Results) -> str:
    """The page of an experiment as HTML. Raises InputError without plotly."""
    tradeoffs, curves = tradeoffs_of(results), plots.curves(results)
    drawn = {f"tradeoff-{t['id']}": t["plot"] for t in tradeoffs}
    drawn |= {f"curve-{name}": plot for name, plot in curves}
    if results.changes:
        drawn["differences"] = plots.differences(results)
    if results.margins:
        drawn["margins"] = plots.margins(results.margins)
    scripts = [plots.plotly_js(), _read("page.js")] if drawn else []
    first, more = verdict(results)
    notes = sorted({c.build.note for c in results.cells if c.build} - {""})
    template = _environment().get_template("page.html")
    text: str = template.render(
        r=results,
        first=first,
        more=more,
        ranked=ranked(results),
        gaps={s.name: pair_of(results, s.name, results.baseline) for s in results.systems},
        facts={system.name: system for system in results.systems},
        marks=plots.marks(results),
        key_metrics=_key_metrics(results),
        tradeoffs=tradeoffs,
        curves=curves,
        drawn=drawn,
        groups=_by_system(results),
        encoded_before=[s.name for s in results.systems if s.encoded_before],
        letters=dict(zip(notes, "abcdefghijklmnopqrstuvwxyz", strict=False)),
        phases=_PHASES,
        slices=_slices(results),
        sliced={row.system for row in results.slices},
        sections=_sections(results, bool(tradeoffs)),
        css=_read("page.css"),
        scripts=scripts,
        policy=_policy(scripts),
    )
    return text


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS | {"metric_name": metric_name}
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _policy(scripts: list[str]) -> str:
    """A content security policy: these scripts by digest, inline styles, no requests."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed or chr(39) + 'none' + chr(39)}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _key_metrics(results: Results) -> list[str]:
    """Up to four metrics that the main table shows beside the primary one."""
    cutoff = results.primary.partition("@")[2]
    depths = [int(m.partition("@")[2]) for m in results.measures if m.startswith("recall@")]
    wanted = [f"{name}@{cutoff}" for name in ("ndcg", "map", "mrr")]
    wanted += [f"recall@{max(depths, default=0)}", "hit@1"]
    return [m for m in wanted if m in results.measures and m != results.primary][:4]


def _by_system(results: Results) -> list[tuple[str, list[Cell]]]:
    """Each system with its cells, sorted as the results list systems and indexes."""
    order = {index.name: place for place, index in enumerate(results.indexes)}
    groups = []
    for system in results.systems:
        cells = [cell for cell in results.cells if cell.system == system.name]
        cells.sort(key=lambda cell: order.get(cell.index, len(order)))
        if cells:
            groups.append((system.name, cells))
    return groups


def _slices(results: Results) -> dict[str, dict[str, dict[str, Slice]]]:
    """Rows by slice, value and system."""
    found: dict[str, dict[str, dict[str, Slice]]] = {}
    for row in results.slices:
        found.setdefault(row.slice, {}).setdefault(row.value, {})[row.system] = row
    return found


def _sections(results: Results, tradeoffs: bool) -> dict[str, str]:
    """Section ids and titles, without the sections that would be empty."""
    cells = results.cells
    known = {
        "systems": ("Systems", ranked(results)),
        "tradeoffs": ("Quality and cost", tradeoffs),
        "indexes": ("Indexes", any(c.build or c.refused for c in cells)),
        "latency": ("Latency", any(c.single or c.batched for c in cells)),
        "pairs": ("All pairs", results.pairs),
        "differences": ("Query by query", any(c.differences for c in results.changes)),
        "slices": ("Slices", results.slices),
        "changes": ("Gains and losses", any(c.gained or c.lost for c in results.changes)),
        "metrics": ("All metrics", ranked(results)),
        "training": ("Training", results.curve or results.margins),
        "forgetting": ("Forgetting", results.forgetting),
        "setup": ("Setup", True),
    }
    return {id: name for id, (name, there) in known.items() if there}
