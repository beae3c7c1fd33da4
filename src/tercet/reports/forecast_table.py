"""A forecast, and a forecast beside what happened, in the terminal and in Markdown."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from tercet.core.console import console
from tercet.forecast.forecast import (
    ROWS,
    Amount,
    ComparedForecast,
    Expected,
    Forecast,
    TrainingSize,
)

#: GPL's training: steps and triplets a step (its train.py), and the step by which its curve of
#: quality has made about half its gain (its repository's gpl_steps.png).
GPL_STEPS, GPL_BATCH, GPL_HALFWAY = 140_000, 32, 10_000
#: Tokens a parameter with which a language model is best trained from nothing for its compute
#: (Hoffmann et al. 2022, arXiv 2203.15556).
CHINCHILLA = 20


def print_forecast(forecast: Forecast) -> None:
    """What is left to do, stage by stage; what to make of it; what it rests on."""
    console.print(_plan_table(forecast))
    for line in (*_outlook(forecast), *size_in_words(forecast.size), *forecast.notes):
        console.print(Text(f"  {line}"))


def _plan_table(forecast: Forecast) -> Table:
    costs = any(stage.dollars for stage in forecast.stages.values())
    table = Table(title="what is expected", title_style="bold", title_justify="left")
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
        taken = (clock(stage.seconds), size(stage.disk), size(stage.peak), *money)
        table.add_row(name, rows, tokens, *taken)
    left = forecast.left.values()
    table.add_section()
    table.add_row(
        "all" if len(left) == len(forecast.stages) else "left",
        "",
        f"{sum(stage.tokens for stage in left):,}",
        clock(sum(stage.seconds for stage in left)),
        size(sum(stage.disk for stage in left)),
        size(max((stage.peak or 0 for stage in left), default=0)),
        *([f"{sum(stage.dollars for stage in left):,.2f}"] if costs else []),
        style="bold",
    )
    return table


def _outlook(forecast: Forecast) -> list[str]:
    """How long in all, which stage is the longest, and what would make it shorter."""
    left = forecast.left
    if not left:
        return ["every stage is done: nothing is left to do"]
    total = sum(stage.seconds for stage in left.values())
    longest = max(left, key=lambda name: left[name].seconds)
    part = left[longest].seconds / total if total else 0.0
    lines = [
        f"time is for one process and a machine that goes on as it is now "
        f"({left[longest].gflops:.0f} GFLOP/s)"
    ]
    if total >= 60:
        lines.append(f"{longest} takes {part:.0%} of it; {_shorter(longest, left[longest])}")
    return lines


def _shorter(stage: str, expected: Expected) -> str:
    """What to change where a stage takes too long."""
    if stage == "model":
        training = expected.parts["training_seconds"]
        encoding = expected.parts["encoding_seconds"]
        if encoding > training:
            return (
                "most of that is encoding the corpus anew for each evaluation: shorter with "
                "evaluation.passages, or fewer evaluation.interpolation_steps"
            )
        return "shorter in proportion with a smaller queries.count, or fewer epochs"
    return {
        "queries": "shorter in proportion with a smaller queries.count, or with spans",
        "embeddings": "shorter with a smaller model.max_length, or a smaller model",
        "scores": "shorter in proportion with fewer negatives.candidates, or a smaller "
        "queries.count",
    }.get(stage, "shorter with a smaller queries.count")


def size_in_words(s: TrainingSize) -> list[str]:
    """The student's training beside Chinchilla's rule and GPL's practice, as advice."""
    triplets = GPL_STEPS * GPL_BATCH
    gpl = triplets * s.tokens_of_a_triplet / s.parameters
    half = gpl * GPL_HALFWAY / GPL_STEPS
    trained = ""
    if s.trained_parameters < s.parameters / 2:
        trained = f", of which {_number(s.trained_parameters)} are trained"
    return [
        f"training reads {_number(s.tokens)} tokens with {_number(s.parameters)} parameters"
        f"{trained}: {_ratio(s.ratio)} a parameter",
        f"beside that: {CHINCHILLA} a parameter are Chinchilla's, for models trained from nothing "
        "(arXiv 2203.15556); fine-tuning begins from weights that have had theirs",
        f"GPL's {_number(triplets)} triplets, with texts as long as these, would be "
        f"{_ratio(gpl)}, and about half its gain came by {_ratio(half)} "
        f"({GPL_HALFWAY:,} of {GPL_STEPS:,} steps)",
        f"as advice: {_advice(s, half, gpl)}",
    ]


def _advice(s: TrainingSize, half: float, gpl: float) -> str:
    if s.ratio < half:
        return (
            "fewer than that is no fault where margins are anchored; more of queries.count or "
            "training.num_train_epochs is worth trying while the last epoch is still the best"
        )
    if s.ratio < gpl:
        return "of the order of GPL's practice; the report's evaluations tell when it is enough"
    return (
        "more than GPL's practice: see in the report whether the last evaluations still gain, and "
        "save the rest (evaluation.early_stopping_patience)"
    )


#: Columns of the comparison.
HEADER = ("stage", "", "expected", "happened", "of expected")


def comparison_rows(comparison: ComparedForecast) -> list[tuple[str, str, str, str, str]]:
    """Each stage's figures that can be compared, as text, a line for each."""
    rows = []
    for name, stage in comparison.stages.items():
        scaled = Amount(stage.scaled or 0, stage.seconds.fact)
        lines = [
            (ROWS[name][0], stage.rows, _count),
            ("tokens", stage.tokens, _count),
            ("time", stage.seconds, _precise),
            ("time, scaled", scaled, _precise),
            ("memory", stage.peak, size),
            ("disk", stage.disk, size),
        ]
        for what, amount, shown in lines:
            if amount.fact is None or not amount.expected:
                continue
            ratio = f"{amount.fact / amount.expected:.2f}"
            rows.append((name, what, shown(amount.expected), shown(amount.fact), ratio))
            name = ""
    return rows


def comparison_notes(comparison: ComparedForecast) -> list[str]:
    """What the figures must not be read without."""
    if comparison.changed:
        changes = ", ".join(comparison.changed)
        return [f"forecast.json is of other settings ({changes}), and is not compared"]
    return [
        "Expected before the run, by `train.py RECIPE --forecast`. A machine that others use too "
        "is not always as fast: the scaled time is what was expected at the speed that a matrix "
        "product had as the stage began."
    ]


def print_compared(comparison: ComparedForecast) -> None:
    """The forecast beside the run."""
    if comparison.changed:
        console.print(Text(f"  {comparison_notes(comparison)[0]}"))
        return
    table = Table(title="forecast and fact", title_style="bold", title_justify="left")
    for name in HEADER:
        table.add_column(name, justify="left" if name in HEADER[:2] else "right")
    for row in comparison_rows(comparison):
        table.add_row(*row)
    console.print(table)


def _number(value: float) -> str:
    """Three figures of a large number."""
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


def clock(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def size(amount: float | None) -> str:
    """Bytes as a person says them."""
    if amount is None:
        return ""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= unit:
            return f"{amount / unit:.3g} {name}"
    return f"{amount:.0f} B"
