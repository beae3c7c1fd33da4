"""Break the core one line at a time, and see that the tests named for each break notice.

python tests/mutants.py [NAME ...]

A mutant is one piece of the code replaced in a temporary copy of the package. It is killed if every
test named for it fails. Exit code 1 if one survives, if its text is not found exactly once, or if
its tests fail without it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

import accelerate.data_loader  # noqa: F401
import datasets  # noqa: F401
import pytest
import torch  # noqa: F401
import transformers.trainer  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]


class Mutant(NamedTuple):
    """One break: where, the text that stands there once, its replacement, and who must notice."""

    name: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]


TRIAL = "modeling/training/adapter_trial.py"
EVALUATION = "modeling/training/retrieval_evaluation.py"
CALLBACKS = "modeling/training/callbacks.py"
TRAINER = "modeling/training/trainer.py"
STEPS = "src/tercet/pipeline/steps"
HELD_OUT, NEGATIVES, TARGETS = (
    f"{STEPS}/{step}.py" for step in ("triplets", "negatives", "targets")
)
KNOWN = "data/triplets.py"
SIGNIFICANCE = "retrieval/significance.py"
EXACT = "retrieval/exact_index.py"

_TRAINER = "tests/modeling/training/test_trainer.py::"
OWN_VECTORS = _TRAINER + "test_every_epoch_is_searched_with_the_vectors_of_its_own_weights"
OWN_DRAWS = (
    _TRAINER + "test_each_epoch_trains_on_its_own_draws_and_one_that_is_resumed_halfway_on_the_same"
)
GRADIENT = (
    _TRAINER + "test_a_gradient_that_is_not_finite_stops_training_before_it_reaches_the_weights"
)
ONE_GRADIENT = _TRAINER + "test_one_gradient_that_is_not_finite_is_enough_to_stop"
BEST = _TRAINER + "test_the_best_checkpoint_outlives_later_ones_and_is_what_training_ends_with"
DRAWS = "tests/data/test_triplets.py::test_draws_differ_across_epochs_and_repeat_within_one"
TRAINING_ALONE = (
    "tests/modeling/training/test_adapter_trial.py::"
    "test_the_adapter_learns_from_training_queries_alone"
)
_SPLITS = "tests/pipeline/test_splits.py::"
TRIED_ON = _SPLITS + "test_lambda_is_tried_on_validation_queries_by_adapters_of_training_queries"
SHARES = _SPLITS + "test_of_what_is_held_out_two_thirds_choose_and_a_third_guards"
SHARES_UNJUDGED = _SPLITS + "test_without_judgements_half_as_many_again_test"
NO_NEGATIVE = _SPLITS + "test_a_passage_of_the_sources_text_is_never_its_negative"
KNOWN_ITEMS = _SPLITS + "test_every_passage_of_the_sources_text_is_what_its_query_should_find"
TWINS = "tests/data/test_negatives.py::test_the_positive_and_passages_of_its_text_are_no_negatives"
_SIGNIFICANCE = "tests/retrieval/test_significance.py::"
WIDENING = _SIGNIFICANCE + "test_few_queries_widen_both_intervals_as_students_t_does"
P_BY_HAND = _SIGNIFICANCE + "test_the_randomisation_test_counts_all_changes_of_sign"
PAIRS = (
    "tests/evaluation/test_analysis.py::"
    "test_a_pairs_p_is_the_randomisation_tests_and_holms_of_all_pairs"
)
ERRING = (
    "tests/retrieval/test_exact_index.py::"
    "test_products_that_err_as_far_as_float32_may_lose_no_best_passage"
)

MUTANTS = [
    Mutant(
        "epochs search zero-shot vectors",
        EVALUATION,
        "self.zero_shot_vectors if zero_shot or self.frozen else None",
        "self.zero_shot_vectors",
        (OWN_VECTORS,),
    ),
    Mutant(
        "every evaluation is called zero-shot",
        TRAINER,
        "zero_shot=self.state.global_step == 0",
        "zero_shot=True",
        (OWN_VECTORS,),
    ),
    Mutant(
        "draws stuck at epoch 0",
        CALLBACKS,
        "set_epoch(int(state.epoch or 0))",
        "set_epoch(0)",
        (OWN_DRAWS,),
    ),
    Mutant(
        "epochs not told to the draws",
        TRAINER,
        "EpochDraws(train_dataset),",
        "",
        (OWN_DRAWS,),
    ),
    Mutant(
        "draws that ignore the epoch",
        "data/triplets.py",
        "self.epoch = epoch",
        "self.epoch = 0",
        (DRAWS,),
    ),
    Mutant(
        "gradients not looked at",
        CALLBACKS,
        "if not torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all():",
        "if False:",
        (GRADIENT,),
    ),
    Mutant(
        "one finite gradient is enough",
        CALLBACKS,
        "torch._foreach_norm(gradients))).all()",
        "torch._foreach_norm(gradients))).any()",
        (ONE_GRADIENT,),
    ),
    Mutant("the finite-gradient guard off", TRAINER, "FiniteGradients(),", "", (GRADIENT,)),
    Mutant(
        "lambda's adapter learns from all queries",
        TRIAL,
        'np.array(lists["split"]) == "train"',
        'np.array(lists["split"]) != ""',
        (TRAINING_ALONE, TRIED_ON),
    ),
    Mutant(
        "lambda's adapter learns from validation queries",
        TRIAL,
        'np.array(lists["split"]) == "train"',
        'np.array(lists["split"]) == "validation"',
        (TRAINING_ALONE, TRIED_ON),
    ),
    Mutant(
        "lambda is tried on training queries",
        TARGETS,
        'held_out, qrels, _ = inputs.split("validation")',
        'held_out, qrels, _ = inputs.split("train")',
        (TRIED_ON,),
    ),
    Mutant(
        "the guard's share doubled",
        HELD_OUT,
        '"guard": part / 3',
        '"guard": part * 2 / 3',
        (SHARES, SHARES_UNJUDGED),
    ),
    Mutant("no share for the guard", HELD_OUT, '"guard": part / 3', '"guard": 0', (SHARES,)),
    Mutant(
        "validation and guard swapped",
        HELD_OUT,
        '{"validation": part * 2 / 3, "guard": part / 3}',
        '{"validation": part / 3, "guard": part * 2 / 3}',
        (SHARES, SHARES_UNJUDGED),
    ),
    Mutant(
        "as many test as are held out",
        HELD_OUT,
        'held_out["test"] = part / 2',
        'held_out["test"] = part',
        (SHARES_UNJUDGED,),
    ),
    Mutant(
        "a duplicate of the source is a negative",
        "data/negatives.py",
        "set(duplicates.get(positive, [positive]))",
        "{positive}",
        (TWINS, NO_NEGATIVE),
    ),
    Mutant(
        "duplicates kept from mining",
        NEGATIVES,
        "passages.duplicates,",
        "{},",
        (NO_NEGATIVE,),
    ),
    Mutant(
        "a duplicate of the source is no known item",
        KNOWN,
        "dict.fromkeys(duplicates.get(source, [source]), 1)",
        "{source: 1}",
        (KNOWN_ITEMS,),
    ),
    Mutant(
        "the best checkpoint rotated away",
        "modeling/training/checkpoints.py",
        "kept, self.state.best_model_checkpoint)",
        "kept)",
        (BEST,),
    ),
    Mutant(
        "a difference's interval unwidened",
        SIGNIFICANCE,
        "reach *= _widening(queries, level) / _normal(level)",
        "",
        (WIDENING,),
    ),
    Mutant(
        "a mean's interval unwidened",
        SIGNIFICANCE,
        "NormalDist().cdf(-_widening(queries, level))",
        "NormalDist().cdf(-_normal(level))",
        (WIDENING,),
    ),
    Mutant(
        "widened without the divisor n - 1",
        SIGNIFICANCE,
        "return t * math.sqrt(queries / freedom)",
        "return t",
        (WIDENING,),
    ),
    Mutant(
        "a halved p",
        SIGNIFICANCE,
        "(reached + 1) / (permutations + 1)",
        "(reached + 1) / (permutations + 1) / 2",
        (P_BY_HAND,),
    ),
    Mutant("a one-sided p", SIGNIFICANCE, "np.abs(signs @ sizes)", "(signs @ sizes)", (P_BY_HAND,)),
    Mutant(
        "a pair's p halved",
        "src/tercet/evaluation/analysis.py",
        "randomisation_test(differences, permutations=resamples, seed=seed)",
        "randomisation_test(differences, permutations=resamples, seed=seed) / 2",
        (PAIRS,),
    ),
    Mutant(
        "a pair's p uncorrected",
        "src/tercet/evaluation/analysis.py",
        "holm(ps)",
        "ps",
        (PAIRS,),
    ),
    Mutant(
        "exact search without its error bound",
        EXACT,
        "error = error * np.linalg.norm(queries, axis=1)",
        "error = 0 * np.linalg.norm(queries, axis=1)",
        (ERRING,),
    ),
    Mutant(
        "a quarter of the error bound",
        EXACT,
        "error = error * np.linalg.norm(queries, axis=1)",
        "error = error * np.linalg.norm(queries, axis=1) / 4",
        (ERRING,),
    ),
    Mutant(
        "an error bound for short vectors",
        EXACT,
        "* self._longest",
        "",
        (ERRING + "[64-8]", ERRING + "[64-512]"),
    ),
]


def main(names: list[str]) -> int:
    """Run the mutants of these names, or all."""
    unknown = sorted(set(names) - {mutant.name for mutant in MUTANTS})
    if unknown:
        print(f"no mutant is called {', '.join(unknown)}: {[mutant.name for mutant in MUTANTS]}")
        return 1
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    with tempfile.TemporaryDirectory() as folder:
        package = _copy_package(Path(folder))
        intact = _failed({test for mutant in chosen for test in mutant.tests}, package)
        if intact:
            print("these fail without any mutant:", *sorted(intact), sep="\n  ")
            return 1
        wrong = [mutant.name for mutant in chosen if not _killed(mutant, package)]
    print(f"{len(chosen) - len(wrong)} of {len(chosen)} killed")
    return 1 if wrong else 0


def _copy_package(folder: Path) -> Path:
    """`tercet` as it is installed: three of its packages lie beside `src` in a checkout."""
    package = folder / "tercet"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "tercet", package, ignore=ignored)
    for name in ("data", "modeling", "retrieval"):
        shutil.copytree(ROOT / name, package / name, ignore=ignored)
    return package


def _killed(mutant: Mutant, package: Path) -> bool:
    file = package / mutant.file.removeprefix("src/tercet/")
    code = file.read_text(encoding="utf-8") if file.exists() else ""
    if code.count(mutant.text) != 1:
        print(f"NOT FOUND  {mutant.name}: once in {mutant.file}: {mutant.text}")
        return False
    began = time.monotonic()
    file.write_text(code.replace(mutant.text, mutant.replacement), encoding="utf-8")
    try:
        missed = set(mutant.tests) - _failed(set(mutant.tests), package)
    finally:
        file.write_text(code, encoding="utf-8")
    verdict = "SURVIVED " if missed else "killed   "
    print(
        f"{verdict}  {mutant.name} ({time.monotonic() - began:.0f} s)", *sorted(missed), sep="\n  "
    )
    return not missed


def _failed(tests: set[str], package: Path) -> set[str]:
    """Those of the tests that fail, for one of their parameters at least, with this package."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        child = os.fork()  # which has the heavy libraries, and imports the package afresh
        if not child:
            _report(sorted(tests), package, Path(report.name))
        os.waitpid(child, 0)
        output = report.read()
    found = json.loads(output) if output else {"code": "nothing"}
    if found["code"] not in (0, 1):
        raise SystemExit(f"pytest ended with {found['code']}: run {' '.join(sorted(tests))}")
    return {test for test in tests if any(id.startswith(test) for id in found["failed"])}


def _report(tests: list[str], package: Path, file: Path) -> NoReturn:
    """Write pytest's exit code and the tests that failed to a file, and end the process."""
    failed = []

    class Failures:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    sys.path.insert(0, str(package.parent))
    sys.dont_write_bytecode = True  # two mutants of one size within a second would share it
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    os.chdir(ROOT)
    code = pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[Failures()])
    file.write_text(json.dumps({"code": int(code), "failed": failed}))
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
