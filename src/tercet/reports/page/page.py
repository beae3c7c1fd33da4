"""The page of an experiment: one HTML file that needs nothing else, made from metrics.json alone.

Every text in it may come from anyone's corpus: the template escapes them, plots get them escaped,
and the page's policy lets its own two scripts run and no others, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tercet.core.files import write_file
from tercet.core.schema import InputError
from tercet.evaluation.results import Results
from tercet.reports.page import plots
from tercet.reports.page.numbers import FILTERS, Number, with_keys
from tercet.reports.page.tradeoffs import tradeoffs as tradeoffs_of
from tercet.reports.page.verdict import gap, measure_name, ranked, verdict

# A link's target, where the package is installed from a checkout by links.
_HERE = Path(__file__).resolve().parent
PHASES = ("encode", "search", "rerank")


def check_page() -> None:
    """Raises InputError unless plotly, which is an extra, is there to make a page with."""
    plots.plotly_js()


def write_page(results: Mapping[str, Any], path: Path) -> None:
    """Write the page of what metrics.json holds. Raises InputError as `page` does."""
    write_file(path, page(results).encode())


def page(results: Mapping[str, Any]) -> str:
    """The page of what metrics.json holds, or of `dataclasses.asdict(Results)`.

    Raises InputError if they are not an experiment's results, or without plotly.
    """
    missing = [field.name for field in fields(Results) if field.name not in results]
    if missing:
        raise InputError(
            f"these are not the results of eval.py: {', '.join(missing)} missing; "
            "give the metrics.json in its `results` folder"
        )
    found = with_keys(dict(results))
    tradeoffs, curves = tradeoffs_of(found), plots.curves(found)
    drawn = {f"tradeoff-{t['id']}": t["plot"] for t in tradeoffs}
    drawn |= {f"curve-{name}": plot for name, plot in curves}
    if found["changes"]:
        drawn["differences"] = plots.differences(found)
    if found["margins"]:
        drawn["margins"] = plots.margins(found)
    scripts = [plots.plotly_js(), _read("page.js")] if drawn else []
    first, more = verdict(found)
    notes = sorted({c["build"]["note"] for c in found["cells"] if c["build"]} - {""})
    template = _environment().get_template("page.html")
    text: str = template.render(
        r=found,
        first=first,
        more=more,
        ranked=ranked(found),
        gaps={s["name"]: gap(found, s["name"], found["baseline"]) for s in found["systems"]},
        facts={system["name"]: system for system in found["systems"]},
        marks=plots.marks(found),
        key_measures=_key_measures(found),
        tradeoffs=tradeoffs,
        curves=curves,
        drawn=drawn,
        groups=_by_system(found),
        encoded_before=[s["name"] for s in found["systems"] if s["encoded_before"]],
        letters=dict(zip(notes, "abcdefghijklmnopqrstuvwxyz", strict=False)),
        phases=PHASES,
        slices=_slices(found),
        sliced={row["system"] for row in found["slices"]},
        sections=_sections(found, bool(tradeoffs)),
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
    environment.filters |= FILTERS | {"measure": measure_name}
    environment.tests["a_number"] = lambda value: isinstance(value, Number)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _policy(scripts: list[str]) -> str:
    """A content policy: these scripts by their digests, styles within the page, nothing fetched."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed or chr(39) + 'none' + chr(39)}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _key_measures(results: dict[str, Any]) -> list[str]:
    """The few that stand in the main table beside the primary one."""
    cutoff = results["primary"].partition("@")[2]
    depths = [int(m.partition("@")[2]) for m in results["measures"] if m.startswith("recall@")]
    wanted = [f"{name}@{cutoff}" for name in ("ndcg", "map", "mrr")]
    wanted += [f"recall@{max(depths, default=0)}", "hit@1"]
    return [m for m in wanted if m in results["measures"] and m != results["primary"]][:4]


def _by_system(results: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Systems, in the results' order, with their cells, in that of the indexes."""
    order = {index["name"]: place for place, index in enumerate(results["indexes"])}
    groups = []
    for system in results["systems"]:
        own = [cell for cell in results["cells"] if cell["system"] == system["name"]]
        own.sort(key=lambda cell: order.get(cell["index"], len(order)))
        if own:
            groups.append((system["name"], own))
    return groups


def _slices(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Slice -> value -> system -> figures."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in results["slices"]:
        found.setdefault(row["slice"], {}).setdefault(row["value"], {})[row["system"]] = row
    return found


def _sections(results: dict[str, Any], tradeoffs: bool) -> dict[str, str]:
    """Those that there is something for, with their names in the contents."""
    cells = results["cells"]
    known = {
        "systems": ("Systems", ranked(results)),
        "tradeoffs": ("Quality and cost", tradeoffs),
        "indexes": ("Indexes", any(c["build"] or c["refused"] for c in cells)),
        "clock": ("Clock", any(c["single"] or c["batched"] for c in cells)),
        "pairs": ("All pairs", results["pairs"]),
        "differences": ("Query by query", any(c["differences"] for c in results["changes"])),
        "slices": ("Slices", results["slices"]),
        "changes": ("Gained and lost", any(c["gained"] or c["lost"] for c in results["changes"])),
        "measures": ("All measures", ranked(results)),
        "training": ("Training", results["curve"] or results["margins"]),
        "forgetting": ("Forgetting", results["forgetting"]),
        "setup": ("Setup", True),
    }
    return {id: name for id, (name, there) in known.items() if there}
