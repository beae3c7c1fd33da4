"""Whole runs on a disk that is full, or fails, at one of their writes."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import pytest
from disk_faults import Fault, Place, check_end, check_failure, place_in

from tercet.core.files import file_sha256

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault("failing writes"),
    pytest.mark.fault("a full disk"),
]
CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
#: A write of every stage, in their order: its errno, and whether the disk stays as it is.
STAGES = [
    Fault(1, errno.ENOSPC, True, "/corpus.partial/passages-", "write"),
    Fault(1, errno.EINVAL, False, "/corpus.partial/twins-", "fsync"),
    Fault(2, errno.EDQUOT, True, "/embeddings.partial/vectors-", "write"),
    Fault(2, errno.EIO, False, "/queries.partial/", "rename"),
    Fault(1, errno.ESTALE, True, "/negatives.partial/candidates-", "fsync"),
    Fault(1, errno.ENOSPC, False, "/scores.partial/", "open"),
    Fault(1, errno.EDQUOT, False, "/triplets.partial/manifest.json", "write"),
    Fault(1, errno.ENOSPC, True, "/targets.partial/", "any"),
    Fault(1, errno.ENOSPC, True, "/scratch-", "fallocate"),
    Fault(1, errno.ENOSPC, True, "/training/checkpoint-", "write"),
    Fault(1, errno.EIO, False, "optimizer.pt", "write"),
    Fault(1, errno.EDQUOT, True, "/model.partial/.tmp", "write"),
    Fault(1, errno.ENOSPC, True, "/evaluation.partial/", "write"),
    Fault(1, errno.EIO, False, "/metrics.json", "write"),
]
#: The same of eval.py.
EVALUATION = [
    Fault(1, errno.ENOSPC, True, "/#", "fallocate"),  # BM25's postings, which have no name
    Fault(1, errno.EDQUOT, True, "/rankings/", "write"),
    Fault(1, errno.ENOSPC, True, ".partial/manifest.json", "write"),
    Fault(1, errno.EIO, False, "/results/", "rename"),
    Fault(1, errno.ENOSPC, True, "/results/report.html", "write"),
]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("disks")
    with place_in(folder, tiny_beir_path, tiny_encoder_path, tiny_cross_encoder_path) as place:
        yield place


def survives(place: Place, name: str, program: str, faults: Sequence[Fault]) -> Counter[str]:
    """Start a run once with each fault, which it meets where the last start ended; then without.

    Returns how many faults ended the program, by errno, and those that it went on with.
    """
    met: Counter[str] = Counter()
    for fault in faults:
        result = place.start(name, program, fault)
        if result.returncode == 0 and is_tolerated(fault, place.calls(name)):
            met[f"went on with {fault}"] += 1
            continue
        check_failure(place, name, fault, result)
        met[errno.errorcode[fault.code]] += 1
    last = place.start(name, program)
    assert last.returncode == 0, last.stderr
    return met


def is_tolerated(fault: Fault, calls: Sequence[tuple[str, str]]) -> bool:
    """Whether a fault does not matter: a folder that is there already, curves, or one not met."""
    harmless = fault.call == "mkdir" or "curves.jsonl" in fault.part
    of = [c for c, path in calls if fault.call in ("any", c) and fault.part in path]
    return harmless or len(of) < fault.n


def test_a_disk_that_fails_in_each_stage_is_one_line_and_the_run_ends_with_the_same_bytes(
    place: Place,
) -> None:
    met = survives(place, "stages", "train.py", STAGES)
    assert set(met) <= {*errno.errorcode.values()}, met
    check_end(place, "stages")


def test_a_disk_that_fails_as_eval_py_writes_is_one_line_and_its_results_are_the_same(
    place: Place,
) -> None:
    unevaluated(place, "evaluated")
    met = survives(place, "evaluated", "eval.py", EVALUATION)
    assert set(met) <= {*errno.errorcode.values()}, met
    check_end(place, "evaluated")
    check_results(place, "evaluated")


def unevaluated(place: Place, name: str) -> None:
    """A copy of the whole run, but for what eval.py wrote."""
    left_out = shutil.ignore_patterns("results", "rankings", "vectors")
    shutil.copytree(place.run("whole"), place.run(name), ignore=left_out)


def check_results(place: Place, name: str) -> None:
    """What eval.py wrote is as in the run without faults, but for times and the run's name."""
    ends = ("*.trec", "per_query.parquet", "rankings.parquet")
    for path in [found for end in ends for found in place.run("whole").rglob(end)]:
        other = place.run(name) / path.relative_to(place.run("whole"))
        assert file_sha256(other) == file_sha256(path), other


if "TERCET_EVERY_CALL" in os.environ:  # many minutes

    @pytest.mark.long
    @pytest.mark.parametrize("program", ["train.py", "eval.py"])
    def test_a_disk_that_fails_at_any_write(place: Place, program: str) -> None:
        """Each n-th call of a run that writes, where TERCET_EVERY_CALL gives n."""
        name = "every"
        lines = (place.recipe.parent / f"{program}.log").read_text().splitlines()
        calls = [(line.split(" ")[1], line.split(" ", 2)[2]) for line in lines]
        seen: Counter[tuple[str, str]] = Counter()
        points = []
        for call, path in calls:
            # Names of scratch files are drawn; a folder is made or synced at many moments.
            part = re.sub(r"(scratch-|/#|/\.tmp).*", r"\1", path)
            seen[call, part] += 1
            if part.count("/") and not part.endswith("resources.json.tmp"):
                points.append((call, part, seen[call, part]))
        step = int(os.environ["TERCET_EVERY_CALL"])
        codes, sticky = cycle(CODES), cycle((True, False))
        faults = [
            Fault(n, errno.EINVAL if call == "fsync" else next(codes), next(sticky), part, call)
            for call, part, n in points[::step]
        ]
        if program == "eval.py":
            unevaluated(place, name := "every evaluation")
        met = survives(place, name, program, faults)
        print(program, dict(met))
        check_end(place, name)
        if program == "eval.py":
            check_results(place, name)
