"""Which test fails when a step's manifest leaves out something that the step reads?

    python tests/need_mutants.py [-k WORDS]

For every entry of every step's `needs`, and every value of `condense`, one mutant: the step reads
it, and its manifest does not record it. For every artifact that is needed one more: the step reads
it without declaring it, and is refused. A mutant that no test notices has survived: a failure.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

# ruff: noqa: E402 (the tests' own modules are on no path)
sys.path[:0] = [str(Path(__file__).parent / name) for name in ("pipeline", "support")]

from recipe_keys import KEYS
from test_needs import KINDS, SOME, WITHIN
from test_staleness import (
    CASES,
    OF_STUDENTS,
    Case,
    in_order,
    planned,
    planned_by_metric,
    with_given,
)
from tiny_runs import RUN, Runs, copied, recipe_of, remade

from tercet.core.artifacts import MANIFEST, Stage
from tercet.core.files import read_json, write_json
from tercet.pipeline.needs import Needs, UndeclaredInput
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.run import Inputs, Run, Step
from tercet.pipeline.steps.evaluation import Evaluation
from tercet.pipeline.steps.model import Model
from tercet.pipeline.steps.negatives import Negatives
from tercet.pipeline.steps.scores import MixedScores, OneScorer
from tercet.pipeline.steps.targets import Targets
from tercet.pipeline.steps.triplets import Triplets

#: Mutants that change nothing that could be seen, with the reason.
INDISTINGUISHABLE: dict[str, str] = {}
#: The values of `condense`.
CONDENSED: dict[type[Step], tuple[str, ...]] = {
    Negatives: ("other",),
    OneScorer: ("max_length", "precision", "k1", "b", "language", "vectors"),
    MixedScores: ("scorers",),
    Triplets: ("judged", "mixture"),
    Targets: ("scorers", "weights"),
    Model: ("searched", "gate"),
    Evaluation: ("half",),
}
#: Recipe keys behind a property.
BEHIND = {
    "negatives_per_query": "triplets.negatives_per_query",
    "weight_arguments": "training.",
    "metrics": "evaluation.",
    "index.settings": "index.",
    "judged": "corpus.test_split",
    "lexical": "negatives.retrievers.",
    "gate": "evaluation.gate",
    "half": "evaluation.gate",
    "scorers": "teacher.scorers.",
    "mixture": "teacher.scorers.",
    "weights": "teacher.scorers.",
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A step whose manifest lacks the entry `name` of its `part`, "inputs" or "settings"."""

    kind: type[Step]
    part: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.__name__} without {self.name}"


def needs_of(kind: type[Step]) -> Needs:
    """What a kind of step needs."""
    return SOME[kind].needs if kind in SOME else kind.needs


def _mutants() -> Iterator[Mutant]:
    for kind in KINDS:
        needs = needs_of(kind)
        inputs = [*needs.artifacts, *(f"model {role}" for role in needs.models)]
        inputs += [f"source {source}" for source in needs.sources]
        settings = [*needs.recorded_keys, *CONDENSED.get(kind, ())]
        yield from (Mutant(kind, "inputs", name) for name in inputs)
        yield from (Mutant(kind, "settings", name) for name in settings)


def steps_by_kind(runs: Runs, name: str) -> dict[type[Step], str]:
    """The names of a run's steps by their kind."""
    run = runs[name]
    with chdir(run.root):
        steps = {type(step): name for name, step in Pipeline(recipe_of(run.keys)).steps.items()}
        within = {kind: name for kind, (name, _) in WITHIN.items() if (RUN / name).exists()}
        return steps | within


@contextmanager
def mutated(mutant: Mutant, step_name: str | None) -> Iterator[None]:
    """Manifests lack the entry: those that are written, and those of copied runs."""
    stage_of = Run.stage_of

    def without(self: Run, step: Step, inputs: Inputs) -> Stage:
        stage = stage_of(self, step, inputs)
        if type(step) is mutant.kind:
            left = {k: v for k, v in getattr(stage, mutant.part).items() if k != mutant.name}
            stage = dataclasses.replace(stage, **{mutant.part: left})
            inputs.plan = stage.plan
        return stage

    @contextmanager
    def lacking(run: Any) -> Iterator[Path]:
        with copied(run) as root:
            # Each scorer is one of a kind of step.
            folders = "scores_*" if mutant.kind is OneScorer else step_name
            for path in (root / RUN).glob(f"{folders}/{MANIFEST}") if step_name else ():
                manifest = read_json(path)
                manifest["plan"][mutant.part].pop(mutant.name, None)
                write_json(path, manifest)
            yield root

    with patch.object(Run, "stage_of", without), patch("tiny_runs.copied", lacking):
        yield


def _behind(mutant: Mutant, key: str) -> bool:
    name = BEHIND.get(mutant.name, mutant.name)
    name = f"teacher.scorers.N.{name}" if mutant.kind is OneScorer else name
    return key == name or key.startswith(name if name.endswith(".") else f"{name}.")


def _relevance(mutant: Mutant, step: str, case: Case) -> int:
    """Smaller for a case that is more likely to notice."""
    files = case.name.partition(" (")[0]
    if mutant.part == "inputs" and files == mutant.name.replace("/", " "):
        return 0
    if mutant.part == "inputs" and files.split()[0] == mutant.name.partition("/")[0]:
        return 1
    if mutant.part == "settings" and _behind(mutant, case.name):
        return 2
    return 3 + 2 * case.steps.index(step) + case.change.train


def noticing(runs: Runs, mutant: Mutant) -> Iterator[tuple[str, str | None, Callable[[], bool]]]:
    """Tests that may notice a mutant, the likeliest first: name, mutated step, whether it holds."""
    if mutant.part == "settings":
        for name, key in KEYS.items():
            if _behind(mutant, name):
                yield (
                    f"test_a_key_is_in_the_plans_of_its_steps_alone[{name}]",
                    None,
                    lambda name=name, key=key: planned(runs, name) == in_order(key.steps),
                )
        for run, name in OF_STUDENTS:
            if _behind(mutant, name) and mutant.kind in steps_by_kind(runs, run):
                yield (
                    f"test_a_key_of_the_base_model…[{run}-{name}]",
                    None,
                    lambda run=run, name=name: planned(runs, name, run) == with_given(name),
                )
    if mutant.name == "source live_metric":
        yield (
            "test_how_a_live_collection_compares…",
            None,
            lambda: planned_by_metric(runs) == ["embeddings"],
        )
    found = []
    for case in CASES:
        step = steps_by_kind(runs, case.run).get(mutant.kind)
        if mutant.kind is OneScorer:
            step = next((each for each in case.steps if each.startswith("scores_")), step)
        if step in case.steps:
            found.append((_relevance(mutant, step, case), case.name, step, case))
    for _, name, step, case in sorted(found, key=lambda each: each[:2]):
        train = case.change.train and step in ("model", "evaluation")
        change = dataclasses.replace(case.change, train=train)
        yield (
            f"case {name!r}",
            step,
            lambda case=case, change=change: remade(runs[case.run], change) == case.steps,
        )


def killer(runs: Runs, mutant: Mutant) -> str | None:
    """The first test that a mutant fails; None if it survives all."""
    for name, step, holds in noticing(runs, mutant):
        with mutated(mutant, step):
            try:
                held = holds()
            except Exception as error:
                return f"{name} ({type(error).__name__})"
            if not held:
                return name
    return None


def _say(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}", end=" ", flush=True)


@pytest.mark.parametrize("mutant", _mutants(), ids=str)
def test_what_a_manifest_leaves_out_is_noticed(
    runs: Runs, mutant: Mutant, capsys: pytest.CaptureFixture[str]
) -> None:
    found = killer(runs, mutant)
    _say(capsys, f"{mutant}: {f'killed by {found}' if found else 'SURVIVED'}")
    assert found or str(mutant) in INDISTINGUISHABLE


REMOVED = [(kind, name) for kind in KINDS for name in needs_of(kind).readable_artifacts]


@pytest.mark.parametrize(("kind", "name"), REMOVED)
def test_an_artifact_that_is_no_longer_declared_is_refused(
    runs: Runs, kind: type[Step], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = needs_of(kind)
    left = dataclasses.replace(
        needs,
        artifacts=tuple(each for each in needs.artifacts if each != name),
        unrecorded_artifacts=tuple(each for each in needs.unrecorded_artifacts if each != name),
    )
    make = Run.make

    def with_less(self: Run, step: Step, artifact: Any) -> Any:
        if type(step) is kind:
            step.needs = left
        return make(self, step, artifact)

    run = runs[KINDS[kind]]
    step = steps_by_kind(runs, KINDS[kind])[kind]
    try:
        with copied(run) as root, chdir(root), patch.object(Run, "make", with_less):
            shutil.rmtree(RUN / step)
            pipeline = Pipeline(recipe_of(run.keys))
            pipeline.artifact(WITHIN[kind][1] if kind in WITHIN else step)
    except UndeclaredInput as error:
        _say(capsys, f"{kind.__name__} undeclared {name}: refused, {error}")
    else:
        _say(capsys, f"{kind.__name__} undeclared {name}: SURVIVED")
        raise AssertionError("it was not refused")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "--no-header", "-p", "no:cacheprovider", *sys.argv[1:]]))
