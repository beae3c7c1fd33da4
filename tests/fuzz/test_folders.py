"""Mutated files of runs: read, left out, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fuzz_runner import Target, fuzz

from tercet.core.artifacts import MANIFEST, PLAN, Stage, existing
from tercet.core.resources import RESOURCES, Resources, read_resources
from tercet.core.schema import InputError
from tercet.forecast.forecast import FORECAST, ROWS, Expected, TrainingSize, read_forecast
from tercet.pipeline.choices import CHOICES, read_choices
from tercet.studio.compare import results
from tercet.studio.runs import find, report_of
from tercet.studio.votes import Votes
from tercet.studio.watch import curves, stages

pytestmark = pytest.mark.fault("fuzz")
pytest.importorskip("psutil")
EXAMPLES = 25  # of a target, here; `make fuzz` tries more

COMPARED = {"measure": "ndcg@10", "before": 0.1, "after": 0.2}
COMPARED |= {"interval": {"low": 0.01, "high": 0.2}}  # type: ignore[dict-item]


def metrics() -> dict[str, Any]:
    return {
        "command": "tercet adapt x",
        "shipped": "trained",
        "verdict": "better",
        "comparisons": [COMPARED],
        "seconds": {"corpus": 1.0},
        "settings": {"name": "x", "evaluation.primary_metric": "ndcg@10"},
    }


def forecast() -> dict[str, Any]:
    stage = asdict(Expected(1, 2, 3.0, 4.0, 5, 6))
    size = asdict(TrainingSize(1, 2, 3, 4, 5, 6.0))
    stages_of = dict.fromkeys(ROWS, stage)
    return {"stages": stages_of, "size": size, "notes": ["x"], "settings": {}, "seconds": 1.0}


def bookkeeping(run: Path) -> Target:
    """Each file that a run's folder keeps beside the artifacts; the hint is its path."""
    stage = Stage(run / "corpus", {"a": 1}, {"b": "c"})
    manifest = {"plan": stage.plan, "files": {"x.arrow": {"sha256": "0", "bytes": 1, "rows": 2}}}
    manifest |= {"facts": {"passages": 3}, "versions": {"tercet": "1"}}
    step = {"step": 1, "max_steps": 9, "time": 1.5, "began": 1.0, "loss": 0.5, "eval_mrr@10": 0.1}
    files: dict[str, Any] = {
        RESOURCES: {"corpus": asdict(Resources(1.0, 2.0, 3))},
        FORECAST: forecast(),
        CHOICES: {"queries.count": {"of": "1h", "choice": 100}},
        "metrics.json": metrics(),
        f"corpus/{MANIFEST}": manifest,
        f"queries.partial/{PLAN}": {"plan": stage.plan, "launch": ""},
        "training/curves.jsonl": step,
        "studio/process.json": {"pid": 1, "created": 1.0, "command": ["tercet"]},
    }

    def read(hint: str, data: bytes) -> None:
        for name, value in files.items():
            (run / name).parent.mkdir(exist_ok=True, parents=True)
            (run / name).write_bytes(data if name == hint else json.dumps(value).encode() + b"\n")
        read_resources(run), read_forecast(run), read_choices(run)
        Stage(run / "corpus", {"a": 1}, {"b": "c"}).finished()
        assert Stage(run / "queries", {"a": 1}, {"b": "c"}).has_partial in (True, False)
        if found := existing(run / "corpus"):
            assert found.digest and found.facts is not None
        stages(run), curves(run, ("mrr@10",)), report_of(run), results([run])

    seeds = [(name, json.dumps(value).encode() + b"\n") for name, value in files.items()]
    return Target("manifests and bookkeeping", seeds, read, "json")


def votes(run: Path) -> Target:
    """The votes that the page keeps; the hint is a file's name."""
    queries = b'{"_id": "vote-1", "text": "a lamp"}\n{"_id": "vote-2", "text": "a lens"}\n'
    qrels = b"query-id\tcorpus-id\tscore\nvote-1\tp1\t1\nvote-2\tp2\t0\n"

    def read(hint: str, data: bytes) -> None:
        (run / "votes" / "qrels").mkdir(exist_ok=True, parents=True)
        for name, content in (("queries.jsonl", queries), ("qrels/test.tsv", qrels)):
            (run / "votes" / name).write_bytes(data if name == hint else content)
        Votes(run).of("a lamp")
        Votes(run).cast("a lamp", "p3", True)

    seeds = [("queries.jsonl", queries), ("qrels/test.tsv", qrels)]
    return Target("votes", seeds, read, "jsonl")


@pytest.mark.parametrize("make", [bookkeeping, votes])
def test_mutated_files_of_a_run_are_left_out_or_refused_in_a_line(
    make: Callable[[Path], Target], tmp_path: Path
) -> None:
    assert fuzz(make(tmp_path / "run"), EXAMPLES).faults == {}


def test_a_vote_with_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "votes").mkdir()
    (tmp_path / "votes" / "queries.jsonl").write_text('{"_id": "vote-1", "text": "a \\ud800"}\n')
    with pytest.raises(InputError, match=r"queries\.jsonl is damaged"):
        Votes(tmp_path).cast("a lamp", "p3", True)


@pytest.mark.parametrize("pid", [-1, -(2**63) - 1, 2**31, 2**80])
def test_a_number_that_no_process_has_is_none(tmp_path: Path, pid: int) -> None:
    (tmp_path / "studio").mkdir()
    process = {"pid": pid, "created": 1.0, "command": ["tercet"]}
    (tmp_path / "studio" / "process.json").write_text(json.dumps(process))
    assert find(tmp_path) is None
