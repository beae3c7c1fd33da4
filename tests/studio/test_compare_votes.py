"""Runs compared, their CSV, and votes as qrels that the next evaluation reads."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline
from tercet.studio import compare
from tercet.studio.votes import Votes


def report(run: Path, **settings: Any) -> None:
    run.mkdir()
    interval = {"difference": 0.1, "low": 0.05, "high": 0.15}
    compared = {"measure": "ndcg@10", "before": 0.3, "after": 0.4, "interval": interval}
    whole = {"name": run.name, "evaluation.primary_metric": "ndcg@10", **settings}
    found = {"comparisons": [compared], "command": "python train.py", "seconds": {"model": 60.0}}
    (run / "metrics.json").write_text(json.dumps(found | {"settings": whole}))


def test_the_csv_has_a_row_for_each_run_with_all_settings(tmp_path: Path) -> None:
    report(tmp_path / "a", seed=1)
    report(tmp_path / "b", **{"queries.count": 5, "model.name": "=HYPERLINK(1)"})
    (tmp_path / "c").mkdir()
    rows = [*csv.DictReader(io.StringIO(compare.as_csv([tmp_path / n for n in "abc"])))]
    assert [row["run"] for row in rows] == ["a", "b"]
    assert rows[0]["seed"] == "1" and rows[1]["seed"] == "" and rows[1]["queries.count"] == "5"
    assert rows[0]["ndcg@10 low"] == "0.05"
    assert rows[1]["model.name"] == "'=HYPERLINK(1)", "a spreadsheet must not run it"
    table = compare.results([tmp_path / n for n in "abc"])
    assert [len(row) for row in table] == [len(compare.COLUMNS)] * 3
    assert table[0][6:9] == [0.3, 0.4, 0.1]


_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(_TEXTS, _TEXTS.map(str.strip).filter(bool), st.booleans()), max_size=12))
def test_the_last_vote_counts_and_all_are_read_again(votes: list[tuple[str, str, bool]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        kept, expected = Votes(Path(folder)), {}
        for query, passage, relevant in votes:
            if not query.split():
                with pytest.raises(InputError):
                    kept.cast(query, passage, relevant)
                continue
            kept.cast(query, passage, relevant)
            expected[" ".join(query.split()), passage] = int(relevant)
        again = Votes(Path(folder))
        texts = again.queries()
        assert {(texts[q], p): grade for (q, p), grade in again.qrels().items()} == expected
        for (query, passage), grade in expected.items():
            assert again.of(query)[passage] == grade


def test_the_next_evaluation_reads_them(tmp_path: Path, tiny_beir_path: Path) -> None:
    ids = [json.loads(line)["_id"] for line in (tiny_beir_path / "corpus.jsonl").open()]
    votes = Votes(tmp_path)
    votes.cast("who keeps the lighthouse?", ids[0], True)
    votes.cast("who keeps the lighthouse?", ids[1], False)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
name: voted
runs_dir: {tmp_path}/runs
corpus:
  source: tables
  passages: {{path: {tiny_beir_path}/corpus.jsonl, id: _id, title: title, text: text}}
  queries: {{path: {tmp_path}/votes/queries.jsonl, id: _id, text: text}}
  qrels: {{path: {tmp_path}/votes/qrels/test.tsv}}
"""
    )
    facts = Pipeline(load_recipe(recipe)).corpus.facts
    assert facts["judgements"] == 2 and facts["passages"] == len(ids)
