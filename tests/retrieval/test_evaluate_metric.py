"""`evaluate.load` takes the module in a process of its own, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tercet.retrieval.metrics import evaluate, mean

pytest.importorskip("evaluate")

MODULE = Path(__file__).parents[2] / "retrieval" / "evaluate_metric.py"
PREDICTIONS = [["d3", "d1", "d9"], ["d2"], [], ["d7", "d8"]]
REFERENCES = [["d1", "d2"], ["d2"], ["d4"], []]
GRADES = [[1, 3], [2], [1], []]
PROGRAM = """
import json, sys
import evaluate
path, calls = sys.argv[1], json.loads(sys.argv[2])
metric = evaluate.load(path)
answers = []
for call in calls:
    try:
        answers.append(metric.compute(**call))
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    both = {"predictions": PREDICTIONS, "references": REFERENCES}
    calls = [
        both,
        both | {"k": [2], "measures": ["ndcg", "map"], "grades": GRADES},
        both | {"measures": ["mpa"]},
        both | {"grades": GRADES[:3]},
        {"predictions": [["d1", "d1"]], "references": [["d1"]]},
        {"predictions": [["d1"]], "references": [["d1", "d1"]]},
    ]
    offline = {"HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    home = {"HF_HOME": str(tmp_path_factory.mktemp("cache"))}
    command = [sys.executable, "-c", PROGRAM, str(MODULE), json.dumps(calls)]
    result = subprocess.run(
        command,
        env=os.environ | offline | home,
        cwd=home["HF_HOME"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def expected(measures, grades):
    qrels = {
        str(i): dict(zip(ids, of_ids, strict=True))
        for i, (ids, of_ids) in enumerate(zip(REFERENCES, grades, strict=True))
    }
    run = {
        str(i): [(id, 1 / (1 + rank)) for rank, id in enumerate(ids)]
        for i, ids in enumerate(PREDICTIONS)
    }
    return mean(evaluate(qrels, run, measures))


def test_it_gives_our_figures_at_its_default_cut_offs(answers):
    names = ("map", "mrr", "ndcg", "recall", "precision", "hit")
    measures = [f"{name}@{k}" for name in names for k in (1, 5, 10)]
    assert answers[0] == expected(measures, [[1] * len(ids) for ids in REFERENCES])
    assert answers[0]["mrr@10"] == (1 / 2 + 1) / 4  # the query without references counts as zero


def test_cut_offs_measures_and_grades_can_be_chosen(answers):
    assert answers[1] == expected(["ndcg@2", "map@2"], GRADES)
    assert answers[1]["ndcg@2"] != expected(["ndcg@2"], [[1, 1], [1], [1], []])["ndcg@2"]


def test_faults_are_named(answers):
    assert answers[2].startswith("InputError: unknown metric 'mpa@1': did you mean 'map@1'")
    assert answers[3].startswith("InputError: the grades are not as many as the references")
    assert answers[4].startswith("InputError: query '0' ranks passage 'd1' twice")
    assert answers[5].startswith("InputError: references 0 hold a passage twice")
