"""Numbers beyond what Python reads or writes, 4,300 digits, are refused in a line or left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tercet.config.corpus import CorpusSection, PassagesTable, QueriesTable
from tercet.config.loading import load_recipe
from tercet.core.disk import code_of
from tercet.core.metric_names import parse_metric
from tercet.core.schema import InputError
from tercet.core.text import seconds_of
from tercet.data.sources import open_source
from tercet.data.sources.cells import as_vector
from tercet.data.sources.climate_fever import _number
from tercet.modeling.api_client import retry_after
from tercet.studio.runs import PROGRESS
from tercet.studio.watch import _in_training, _rows

pytestmark = pytest.mark.fault("fuzz")
DIGITS, IN_HEX = "1" * 5000, f"0x{'1' * 5000}"


@pytest.mark.parametrize("number", [DIGITS, IN_HEX, f"0b{'1' * 20_000}", "1:" * 3000 + "1"])
def test_a_recipe_names_the_line_of_a_number_that_is_too_long(number: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"name: x\nseed: {number}\n")
    with pytest.raises(InputError, match=r"r\.yaml:2: .* is not a value that YAML has"):
        load_recipe(path)
    path.write_text("name: x\n")
    with pytest.raises(InputError, match="--seed: .* is not a value that YAML has"):
        load_recipe(path, [f"--seed={number}"])


def test_a_metrics_cutoff_is_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'ndcg@111.*: did you mean 'ndcg@10'"):
        parse_metric(f"ndcg@{DIGITS}")


def test_an_id_in_a_cell_stays_text(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"_id": "1", "text": "a lamp"}\n')
    (tmp_path / "q.csv").write_text(f'id,query,positives\nq,x,"[{IN_HEX}]"\n')
    source = open_source(
        CorpusSection(
            source="tables",
            passages=PassagesTable(path=str(tmp_path / "p.jsonl")),
            queries=QueriesTable(path=str(tmp_path / "q.csv"), positives="positives"),
        )
    )
    [found] = source.judgements()
    assert f"[{IN_HEX}]" in repr(found)


def test_other_numbers_of_outside_texts_are_left_out(tmp_path: Path) -> None:
    assert seconds_of(f"{DIGITS} min") is None
    assert _number(f"Ice:{DIGITS}") == (0, f"Ice:{DIGITS}")
    assert code_of(RuntimeError(f"os error {DIGITS}")) is None
    assert retry_after({"Retry-After": DIGITS}) is None
    assert retry_after({"Retry-After": "Mon, 01 Jan 0001 00:00:00 -0000"}) is None
    line = "  embed passages: 12 of 90 passages, 3.5 passages/s, 0:04 elapsed, 0:22 left"
    assert PROGRESS.match(line)
    assert PROGRESS.match(line.replace("12", DIGITS).replace("90", DIGITS)) is None


def test_a_log_of_training_may_hold_any_number(tmp_path: Path) -> None:
    row = {"step": 1, "max_steps": 9, "time": 1.5, "began": 1.0}
    (tmp_path / "training").mkdir()
    log = tmp_path / "training" / "curves.jsonl"
    for value in ("1e999", "NaN", "-1e999", DIGITS, "1" * 400):
        log.write_text(json.dumps(row).replace('"step": 1', f'"step": {value}') + "\n")
        assert _rows(tmp_path) == []
    assert _in_training([row, {**row, "step": 1 + 1e-9, "time": 9e11}]).left == ""


def test_a_vector_of_numbers_that_are_too_large_is_refused() -> None:
    with pytest.raises(InputError, match="a:1: 'vector' must be a list of numbers"):
        as_vector([10**400], "vector", "a:1")
