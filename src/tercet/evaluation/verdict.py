"""The verdict of a finished run, read from its folder."""

from __future__ import annotations

from pathlib import Path

from tercet.core.artifacts import existing
from tercet.core.schema import InputError
from tercet.pipeline.verdict import Shipped as Shipped, Verdict as Verdict


def run_verdict(folder: Path) -> Verdict:
    """What the run in `folder` ships and why, as its evaluation has it.

    Raises InputError for a run that is not evaluated, or was by an earlier version.
    """
    evaluation = existing(folder / "evaluation")
    if evaluation is None:
        raise InputError(f"{folder} has no verdict yet: its run is not evaluated")
    facts = evaluation.facts
    if "verdict" not in facts:
        raise InputError(f"{folder} was evaluated by an earlier version: run it again")
    return Verdict(
        shipped=facts["shipped"],
        text=facts["verdict"],
        reason=facts["reason"],
        next=facts["next"],
        contradicted=facts["contradicted"],
        more=tuple(facts["more"]),
    )
