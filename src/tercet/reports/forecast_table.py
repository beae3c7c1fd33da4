"""A forecast, and its comparison with the run, in the terminal and in Markdown."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from tercet.core.console import console
from tercet.core.text import bytes_text, seconds_text
from tercet.forecast.forecast import (
    ROWS,
    Amount,
    ComparedForecast,
    Expected,
    Forecast,
    TrainingSize,
)

#: GPL's training: steps and triplets a step (its train.py), and the step at which its quality curve
#: has reached about half its gain (gpl_steps.png in its repository).
_GPL_STEPS, _GPL_BATCH, _GPL_HALFWAY = 140_000, 32, 10_000
#: Compute-optimal training tokens per parameter for a language model trained from scratch
#: (Hoffmann et al. 2022, arXiv 2203.15556).
_CHINCHILLA = 20


def print_forecast(forecast: Forecast) -> None:
    """Print the expected time and resources of each stage, advice, and the notes."""
    console.print(_forecast_table(forecast))
    for line in (*_outlook(forecast), *size_in_words(forecast.size), *forecast.notes):
        console.print(Text(f"  {line}"))


def _forecast_table(forecast: Forecast) -> Table:
    costs = any(stage.dollars for stage in forecast.stages.values())
    table = Table(title="forecast", title_style="bold", title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in ("rows", "tokens", "time", "disk", "memory", *(["dollars"] if costs else [])):
        table.add_column(name, justify="right", no_wrap=name != "rows")
    for name, stage in forecast.stages.items():
        money = [f"{stage.dollars:,.2f}"] if costs else []
        rows = f"{stage.rows:,} {ROWS[name][0]}"
        if stage.done:
            table.add_row(name, rows, "", "done", "", "", *["" for _ in money], style="dim")
            continue
        tokens = f"{stage.tokens:,}" if stage.tokens else ""
        peak = "" if stage.peak is None else bytes_text(stage.peak)
        taken = (seconds_text(stage.seconds), bytes_text(stage.disk), peak, *money)
        table.add_row(name, rows, tokens, *taken)
    left = forecast.left.values()
    table.add_section()
    table.add_row(
        "all" if len(left) == len(forecast.stages) else "left",
        "",
        f"{sum(stage.tokens for stage in left):,}",
        seconds_text(sum(stage.seconds for stage in left)),
        bytes_text(sum(stage.disk for stage in left)),
        bytes_text(max((stage.peak or 0 for stage in left), default=0)),
        *([f"{sum(stage.dollars for stage in left):,.2f}"] if costs else []),
        style="bold",
    )
    return table


def _outlook(forecast: Forecast) -> list[str]:
    """The longest stage, its share of the time, and settings that shorten it."""
    left = forecast.left
    if not left:
        return ["every stage is done: nothing is left to do"]
    total = forecast.total
    longest = max(left, key=lambda name: left[name].seconds)
    part = left[longest].seconds / total if total else 0.0
    lines = [
        f"times are for one process at the machine's present speed "
        f"({left[longest].gflops:.0f} GFLOP/s)"
    ]
    if total >= 60:
        lines.append(f"{longest} takes {part:.0%} of the time; {shorter(longest, left[longest])}")
    return lines


def shorter(stage: str, expected: Expected) -> str:
    """Advice on settings that shorten a stage."""
    if stage == "model":
        training = expected.parts["training_seconds"]
        encoding = expected.parts["encoding_seconds"]
        if encoding > training:
            return (
                "most of it encodes the corpus again for each evaluation: evaluation.passages, or "
                "fewer evaluation.interpolation_steps, shortens it"
            )
        return "proportional to queries.count and to the number of epochs"
    return {
        "queries": "proportional to queries.count; generators of kind spans take almost no time",
        "embeddings": "a smaller model.max_length or a smaller model shortens it",
        "scores": "proportional to negatives.candidates and to queries.count",
    }.get(stage, "a smaller queries.count shortens it")


def size_in_words(s: TrainingSize) -> list[str]:
    """Compare the training tokens with Chinchilla's rule and with GPL's setup, and advise."""
    triplets = _GPL_STEPS * _GPL_BATCH
    gpl = triplets * s.tokens_of_a_triplet / s.parameters
    half = gpl * _GPL_HALFWAY / _GPL_STEPS
    trained = ""
    if s.trained_parameters < s.parameters / 2:
        trained = f", of which {_number(s.trained_parameters)} are trained"
    return [
        f"training reads {_number(s.tokens)} tokens with {_number(s.parameters)} parameters"
        f"{trained}: {_ratio(s.ratio)} a parameter",
        f"for comparison: Chinchilla's rule is {_CHINCHILLA} a parameter for models trained from "
        "scratch (arXiv 2203.15556); fine-tuning starts from trained weights and needs far fewer",
        f"GPL's {_number(triplets)} triplets, with texts of this length, would be {_ratio(gpl)} a "
        f"parameter; it reached about half its gain at {_ratio(half)} "
        f"({_GPL_HALFWAY:,} of {_GPL_STEPS:,} steps)",
        f"advice: {_advice(s, half, gpl)}",
    ]


def _advice(s: TrainingSize, half: float, gpl: float) -> str:
    if s.ratio < half:
        return (
            "with anchored margins fewer tokens than that can be enough; where there is time, a "
            "larger queries.count can gain more"
        )
    if s.ratio < gpl:
        return "comparable to GPL's setup; the evaluations in the report show whether it is enough"
    return (
        "more than GPL's setup: check in the report whether the last evaluations still gain, and "
        "stop earlier if they do not (evaluation.early_stopping_patience)"
    )


#: Header of `forecast_rows`.
FORECAST_HEADER = ("stage", "", "forecast", "actual", "actual / forecast")


def forecast_rows(comparison: ComparedForecast) -> list[tuple[str, str, str, str, str]]:
    """A row of text for each quantity of a stage that has a forecast and an actual value."""
    rows = []
    for name, stage in comparison.stages.items():
        scaled = Amount(stage.scaled or 0, stage.seconds.fact)
        lines = [
            (ROWS[name][0], stage.rows, _count),
            ("tokens", stage.tokens, _count),
            ("time", stage.seconds, _precise),
            ("time, scaled", scaled, _precise),
            ("memory", stage.peak, bytes_text),
            ("disk", stage.disk, bytes_text),
        ]
        for quantity, amount, shown in lines:
            if amount.fact is None or not amount.expected:
                continue
            ratio = f"{amount.fact / amount.expected:.2f}"
            rows.append((name, quantity, shown(amount.expected), shown(amount.fact), ratio))
            name = ""
    return rows


def forecast_notes(comparison: ComparedForecast) -> list[str]:
    """How to read the comparison, or why there is none."""
    if comparison.changed:
        changes = ", ".join(comparison.changed)
        return [f"forecast.json is of other settings ({changes}) and is not compared"]
    return [
        "The forecast was made by `tercet forecast RECIPE` before the run. The speed of a "
        "shared machine changes: the scaled time is the forecast corrected for the speed of a "
        "matrix product when the stage began."
    ]


def print_compared(comparison: ComparedForecast) -> None:
    """Print the forecast compared with the run."""
    if comparison.changed:
        console.print(Text(f"  {forecast_notes(comparison)[0]}"))
        return
    table = Table(title="forecast and actual use", title_style="bold", title_justify="left")
    for name in FORECAST_HEADER:
        table.add_column(name, justify="left" if name in FORECAST_HEADER[:2] else "right")
    for row in forecast_rows(comparison):
        table.add_row(*row)
    console.print(table)


def _number(value: float) -> str:
    """A large number with three significant digits."""
    for unit, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _precise(seconds: float) -> str:
    return f"{seconds:.1f} s"
