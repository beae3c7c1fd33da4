"""Fits a run to a time budget: how many queries, and how many candidates where few take long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tercet.data.queries import plan as passages_to_sample, usual_count
from tercet.forecast.forecast import Forecast
from tercet.forecast.probe import probe
from tercet.forecast.stage_estimates import check_forecast, forecast_of
from tercet.pipeline.pipeline import Pipeline

#: The fewest queries of a time budget: a fifth is held out, and of these a third confirms.
FEWEST_QUERIES = 500
#: The fewest candidates, unless the recipe has fewer.
FEWEST_CANDIDATES = 8
#: A budget in seconds that leaves time for a whole probe; of a smaller one the probe takes less.
_BUDGET_OF_A_PROBE = 1_200.0
_USED, _STEPS = 0.9, 6  # part of a budget that a forecast may fill; tries to fill it


@dataclass(frozen=True)
class Fitted:
    """The numbers that fit a time budget, their forecast, and whether even they fit."""

    queries: int
    candidates: int
    forecast: Forecast
    fits: bool


def fit(pipeline: Pipeline, budget: float) -> Fitted:
    """Find the largest number of queries whose run is forecast to take `budget` seconds or less.

    It is at most the recipe's, and at least `FEWEST_QUERIES`. Where these take longer, each has
    fewer candidates, at least `FEWEST_CANDIDATES`; with both at their least the run may take
    longer than the budget. The forecast itself takes a small part of it. Raises InputError where
    the run would.
    """
    recipe = pipeline.recipe
    check_forecast(recipe)
    began = time.monotonic()
    found = probe(pipeline, share=min(1.0, budget / _BUDGET_OF_A_PROBE))
    passages, section = found.reading.passages, recipe.queries
    most = section.count or usual_count(passages)
    per_passage, _ = passages_to_sample(passages, most, section.per_passage)
    allowed = _USED * budget - (time.monotonic() - began)

    def of(queries: int, candidates: int = recipe.negatives.candidates) -> Forecast:
        asked = replace(section, count=queries, per_passage=per_passage)
        listed = replace(recipe.negatives, candidates=candidates)
        return forecast_of(pipeline, found, replace(recipe, queries=asked, negatives=listed))

    fewest, all_candidates = min(most, FEWEST_QUERIES), recipe.negatives.candidates
    queries, forecast = _most_within(of, fewest, most, allowed)
    if forecast.total <= allowed:
        return Fitted(queries, all_candidates, forecast, fits=True)
    least = min(all_candidates, max(recipe.negatives_per_query, FEWEST_CANDIDATES))
    candidates, forecast = _most_within(partial(of, fewest), least, all_candidates, allowed)
    return Fitted(fewest, candidates, forecast, forecast.total <= allowed)


def _most_within(
    of: Callable[[int], Forecast], fewest: int, most: int, allowed: float
) -> tuple[int, Forecast]:
    """The largest number whose forecast is within `allowed` seconds; the fewest if none is."""
    high = most, of(most)
    if high[1].total <= allowed or most == fewest:
        return high
    low = fewest, of(fewest)
    if low[1].total > allowed:
        return low
    for _ in range(_STEPS):  # what is left grows nearly in proportion to the number
        part = (allowed - low[1].total) / (high[1].total - low[1].total)
        number = _rounded(low[0] + part * (high[0] - low[0]))
        if not low[0] < number < high[0]:
            break
        tried = number, of(number)
        low, high = (tried, high) if tried[1].total <= allowed else (low, tried)
    return low


def _rounded(number: float) -> int:
    """Rounded down to two significant digits."""
    unit = 10 ** max(0, len(str(int(number))) - 2)
    return int(number) // unit * unit
