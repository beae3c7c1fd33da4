"""A step is made again exactly when something that it reads has changed."""

from __future__ import annotations

import dataclasses
import os
import shutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from recipe_keys import (
    ANOTHER_ORDER,
    KEYS,
    LISTS,
    LIVE_INDEX,
    NOT_JUDGED,
    RUNS,
    SAME_DRAW,
    TRAINED,
    UNIT_LENGTH,
    UNTRAINED,
    Key,
    placed,
)
from tiny_runs import (
    STEPS,
    Change,
    Runs,
    moved,
    plans,
    reformatted,
    remade,
    replaced,
    rewritten,
    rewritten_parquet,
    shift_weights,
    swapped,
    without_line,
)

from tercet.config.recipe import Recipe
from tercet.config.training import TRAINING
from tercet.pipeline.needs import MODEL_KEYS


@dataclass(frozen=True)
class Case:
    """What changes in the run `run`, and the steps that this makes again."""

    name: str
    run: str
    change: Change
    steps: list[str]


def in_order(steps: str | tuple[str, ...]) -> list[str]:
    """Steps, as words or as they are, in the pipeline's order."""
    words = steps.split() if isinstance(steps, str) else steps
    assert set(words) <= set(STEPS)
    return [step for step in STEPS if step in words]


# ── files that are read ──────────────────────────────────────────────────────────────────────────

CORPUS, QUERIES = "beir/corpus.jsonl", "beir/queries.jsonl"
TEST, DEV = "beir/qrels/test.tsv", "beir/qrels/dev.tsv"
AFTER_QUERIES = "negatives scores triplets targets model evaluation"
AFTER_PASSAGES = f"corpus embeddings queries {AFTER_QUERIES}"

FILES = [
    Case(f"{name} ({run})", run, Change(edit=edit), in_order(steps))
    for name, run, edit, steps in (
        ("nothing", "whole", lambda: None, ""),
        ("the times of files", "whole", lambda: os.utime(CORPUS), ""),
        ("a word of a passage", "whole", replaced(CORPUS, "violin", "violet"), AFTER_PASSAGES),
        ("last words", "whole", replaced(CORPUS, "it is kept", "it is held", 99), AFTER_PASSAGES),
        ("a passage less", "whole", without_line(CORPUS, 0), AFTER_PASSAGES),
        ("the passages' order", "whole", swapped(CORPUS), AFTER_PASSAGES),
        (
            "a judged query",
            "whole",
            replaced(QUERIES, "violin", "violet"),
            "corpus queries evaluation",
        ),
        ("a test judgement less", "whole", without_line(TEST, -1), "corpus evaluation"),
        ("another grade", "whole", replaced(TEST, "p33\t2", "p33\t1"), "corpus evaluation"),
        ("a judgement of another split", "whole", without_line(DEV, -1), "corpus evaluation"),
        ("other grades", "gated", replaced(TEST, "\t2", "\t3", 99), "corpus model evaluation"),
        (
            "another passage judged",
            "sampled",
            replaced(TEST, "p35", "p59"),
            "corpus model evaluation",
        ),
        (
            "the student's weights",
            "whole",
            shift_weights("student"),
            f"embeddings student {AFTER_QUERIES}",
        ),
        (
            "the student's weights",
            "adapter",
            shift_weights("student"),
            f"embeddings student {AFTER_QUERIES}",
        ),
        (
            "the student's weights",
            "encoder",
            shift_weights("student"),
            f"embeddings student {AFTER_QUERIES}",
        ),
        ("the student's weights", "given", shift_weights("student"), f"student {AFTER_QUERIES}"),
        (
            "the teacher's weights",
            "whole",
            shift_weights("teacher"),
            "scores triplets targets model evaluation",
        ),
        (
            "the teacher's weights",
            "mixed",
            shift_weights("teacher"),
            "scores_teacher scores triplets targets model evaluation",
        ),
        (
            "a bi-encoder's weights",
            "mixed",
            shift_weights("other"),
            "embeddings_other scores_other scores triplets targets model evaluation",
        ),
        ("a writer's weights", "written", shift_weights("writer"), f"queries {AFTER_QUERIES}"),
        (
            "a prompted model's weights",
            "written",
            shift_weights("babbler"),
            f"queries {AFTER_QUERIES}",
        ),
        (
            "another retriever's weights",
            "other",
            shift_weights("other"),
            f"embeddings_other {AFTER_QUERIES}",
        ),
        (
            "another retriever's files with equal weights",
            "other",
            reformatted("other/config.json"),
            "embeddings_other negatives",
        ),
        ("the weights of a model that is not the recipe's", "whole", shift_weights("other"), ""),
        (
            "the given vectors",
            "given",
            lambda: shutil.copy("second_vectors.parquet", "vectors.parquet"),
            f"embeddings student {AFTER_QUERIES}",
        ),
        (
            "the given vectors' form",
            "given_adapter",
            lambda: rewritten_parquet("own_vectors.parquet"),
            "embeddings",
        ),
        (
            "the base model's files with equal weights",
            "given_adapter",
            reformatted("student/config.json"),
            "student negatives triplets targets model evaluation",
        ),
    )
]


# ── artefacts that are read ──────────────────────────────────────────────────────────────────────

#: Who reads each artefact, or these files of it, itself.
READERS = {
    "corpus passages": f"embeddings queries {AFTER_QUERIES}",
    "corpus queries": "queries evaluation",
    "corpus qrels": "evaluation",
    "corpus twins": "evaluation",
    "queries": "negatives",
    "embeddings": "negatives triplets targets model evaluation",
    "student": "negatives triplets targets model evaluation",
    "negatives": "scores",
    "scores": "triplets",
    "triplets": "targets model evaluation",
    "targets": "model",
    "model": "evaluation",
    "evaluation": "",
}
_WITH_GIVEN = {
    "corpus passages": f"{READERS['corpus passages']} student",
    "embeddings": f"student {READERS['embeddings']}",
    "student": READERS["embeddings"],
}
_WITH_ANOTHER = {"corpus passages": f"{READERS['corpus passages']} embeddings_other"}
_WITH_ANOTHER |= {"embeddings_other": "negatives"}
_OF_SCORERS = {f"scores_{name}": "scores" for name in ("teacher", "bm25", "other")}
_OF_SCORERS |= {"embeddings_other": "scores_other"}
_OF_SCORERS |= {
    "corpus passages": f"{READERS['corpus passages']} embeddings_other {' '.join(_OF_SCORERS)}"
}
_OF_SCORERS |= {"negatives": "scores_teacher scores_bm25 scores_other scores"}
_OF_QUERY_SIDE = ("corpus passages", "embeddings", "student", "triplets", "targets", "model")
ARTEFACTS = [
    Case(f"{files} ({run})", run, Change(edit=rewritten(*files.split())), in_order(steps))
    for run, readers in (
        ("whole", READERS),
        ("other", _WITH_ANOTHER),
        ("mixed", _OF_SCORERS),
        ("encoder", {name: READERS[name] for name in _OF_QUERY_SIDE}),
        ("adapter", {name: READERS[name] for name in _OF_QUERY_SIDE}),
        ("given_adapter", {name: READERS[name] for name in _OF_QUERY_SIDE} | _WITH_GIVEN),
        ("given", {name: READERS[name] for name in _OF_QUERY_SIDE} | _WITH_GIVEN),
    )
    for files, steps in readers.items()
]


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def _others(name: str) -> dict[str, Any]:
    """Lists that a key's place is in, where the run has none."""
    return {path: rows for path, rows in LISTS.items() if name.startswith(f"{path}.")}


def _moves(name: str) -> Change | None:
    """A key that says where the run is: it is changed as its folder is moved."""
    places = {"name": f"runs/{KEYS['name'].value}", "runs_dir": f"{KEYS['runs_dir'].value}/run"}
    return (
        Change({name: KEYS[name].value}, moved("runs/run", places[name]))
        if name in places
        else None
    )


def _single(name: str, key: Key) -> Case:
    """A key's case: to train is to wait, where plans tell as much."""
    steps = in_order(key.steps + key.then)
    train = "triplets" not in steps and steps != ["model"]
    return Case(name, key.run, Change({placed(name, key.place): key.value}, train=train), steps)


SINGLE = [_single(name, key) for name, key in KEYS.items() if key.steps and not key.missing]
SEVERAL = [
    Case(name, run, Change(keys), in_order(steps))
    for name, run, keys, steps in (
        (
            "no judgement of the test split",
            "whole",
            NOT_JUDGED,
            "triplets targets model evaluation",
        ),
        # Each that has the seed is made again for the seed alone.
        ("a seed that draws the same", "words", SAME_DRAW, "queries triplets targets model"),
        ("a seed", "given", {"seed": KEYS["seed"].value}, f"queries student {AFTER_QUERIES}"),
        ("a similarity", "given", UNIT_LENGTH, f"embeddings student {AFTER_QUERIES}"),
        ("the same scorers", "mixed", ANOTHER_ORDER, "scores triplets targets model evaluation"),
        ("an argument that weights depend on", "whole", TRAINED, "model evaluation"),
        ("arguments that none depends on", "whole", UNTRAINED, ""),
    )
]
MOVED = [
    Case(name, "whole", change, []) for name in ("name", "runs_dir") if (change := _moves(name))
]
#: All that a script needs to ask of each: does `remade(runs[case.run], case.change)` equal `steps`?
CASES = FILES + ARTEFACTS + SINGLE + SEVERAL + MOVED


def planned(runs: Runs, name: str, run_name: str = "") -> list[str]:
    """The steps whose plans differ by a key's value, above one and the same artefacts."""
    key = KEYS[name]
    run, given = runs[run_name or key.run], {**_others(name), **key.given}
    before = plans(run.root, {**run.keys, **given})
    after = plans(run.root, {**run.keys, **given, placed(name, key.place): key.value})
    return [step for step in STEPS if before.get(step) != after.get(step)]


# ── tests ────────────────────────────────────────────────────────────────────────────────────────


def _named(cases: list[Case]) -> Any:
    """Parametrized by cases; one that another case or a comparison of plans covers is slow."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, id=case.name, marks=[pytest.mark.slow] * _has_another(case))
            for case in cases
        ],
    )


def _has_another(case: Case) -> bool:
    """Whether a faster test says the same but for what steps make of it."""
    key = KEYS.get(case.name)
    return case.run == "encoder" or bool(key and not key.then and case.change.train)


@_named(FILES)
def test_a_file_makes_stale_what_reads_it(runs: Runs, case: Case) -> None:
    assert remade(runs[case.run], case.change) == case.steps


@_named(ARTEFACTS)
def test_an_artefact_makes_stale_the_steps_that_read_it_themselves(runs: Runs, case: Case) -> None:
    assert remade(runs[case.run], case.change) == case.steps


@_named(SINGLE + SEVERAL)
def test_a_key_makes_stale_its_steps_and_those_whose_inputs_change(runs: Runs, case: Case) -> None:
    assert remade(runs[case.run], case.change) == case.steps


@_named(MOVED)
def test_a_run_that_is_moved_stays_fresh(runs: Runs, case: Case) -> None:
    assert remade(runs[case.run], case.change) == case.steps


#: Read when the source is opened, which needs the collection.
OF_A_SERVER = ("corpus.tenant",)


@pytest.mark.parametrize(
    "name", [name for name in KEYS if not _moves(name) and name not in OF_A_SERVER]
)
def test_a_key_is_in_the_plans_of_its_steps_alone(runs: Runs, name: str) -> None:
    assert planned(runs, name) == in_order(KEYS[name].steps)


#: Keys with which the base model is read, where the vectors are given, and who holds them.
OF_STUDENTS = [(run, name) for run in ("given", "given_adapter") for name in MODEL_KEYS["base"]]


@pytest.mark.parametrize(("run", "name"), OF_STUDENTS)
def test_a_key_of_the_base_model_beside_given_vectors_is_in_the_students_plan(
    runs: Runs, run: str, name: str
) -> None:
    assert planned(runs, name, run) == with_given(name)


def with_given(name: str) -> list[str]:
    """The steps whose plans hold a key of the base model, where the vectors are given."""
    return in_order("embeddings student" if name == "model.similarity" else "student")


def test_keys_of_no_step_make_nothing_again(runs: Runs) -> None:
    keys = {
        placed(name): key.value
        for name, key in KEYS.items()
        if not key.steps and not key.missing and not _moves(name)
    }
    assert len(keys) > 50
    assert remade(runs["whole"], Change({**LISTS, **keys})) == []


def test_every_key_of_a_recipe_is_in_the_table() -> None:
    assert sorted(KEYS) == sorted(_keys_of(Recipe))


def _keys_of(kind: Any, path: str = "") -> Iterator[str]:
    """Dotted names of a settings class's keys, those of a list's items with `N` for the place."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"{path}{field.name}"
        inner = next(iter(typing.get_args(hints[field.name])), None)
        if name == "training":
            yield from (f"training.{argument}" for argument in TRAINING)
        elif dataclasses.is_dataclass(hints[field.name]):
            yield from _keys_of(hints[field.name], f"{name}.")
        elif dataclasses.is_dataclass(inner):
            yield from _keys_of(inner, f"{name}.N.")
        else:
            yield name


@pytest.mark.slow
def test_every_run_is_whole_and_stays_so(runs: Runs) -> None:
    for name in RUNS:
        assert remade(runs[name], Change()) == [], name


def planned_by_metric(runs: Runs) -> list[str]:
    """The steps whose plans differ by how a live collection compares its vectors."""
    run, found = runs["given"], {}
    for metric in ("dot", "cosine"):
        live = SimpleNamespace(metric=metric, discard=lambda: None)
        with patch("tercet.retrieval.open_live", lambda settings, live=live: live):
            found[metric] = plans(run.root, {**run.keys, **UNIT_LENGTH, **LIVE_INDEX})
    return [step for step in STEPS if found["dot"].get(step) != found["cosine"].get(step)]


def test_how_a_live_collection_compares_belongs_to_the_vectors_that_are_kept(runs: Runs) -> None:
    assert planned_by_metric(runs) == ["embeddings"]
