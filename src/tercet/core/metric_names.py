"""Names of metrics: one of `METRICS` or a plug-in's, @, and a cutoff, such as ndcg@10."""

from __future__ import annotations

import difflib
import re

from tercet.core.plugins import is_plugin
from tercet.core.schema import InputError

METRICS = ("map", "mrr", "ndcg", "recall", "precision", "hit")
_OTHER_NAMES = {"ap": "map", "rr": "mrr", "r": "recall", "p": "precision", "success": "hit"}
_CUTOFF = "[1-9][0-9]{0,17}"  # an int64


def parse_metric(metric: str) -> tuple[str, int]:
    """Name and cutoff of a metric such as "ndcg@10".

    Raises InputError with the nearest valid name for an unknown metric.
    """
    match = re.fullmatch(rf"(.+)@({_CUTOFF})", metric)
    if match and (match[1] in METRICS or is_plugin("metrics", match[1])):
        return match[1], int(match[2])
    name, _, cutoff = metric.lower().partition("@")
    known = [*METRICS, *_OTHER_NAMES]
    nearest = (difflib.get_close_matches(name, known, n=1, cutoff=0.5) or ["ndcg"])[0]
    k = cutoff if re.fullmatch(_CUTOFF, cutoff) else "10"
    raise InputError(
        f"unknown metric {metric!r}: did you mean '{_OTHER_NAMES.get(nearest, nearest)}@{k}'? "
        f"The names are {', '.join(METRICS)}, each with @k, k at least 1"
    )
