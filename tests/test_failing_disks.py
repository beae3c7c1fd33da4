"""Whole runs on a disk that is full, or fails, at one of their writes."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
from disk_faults import Fault, Programs, programs_on_a_failing_disk
from programs import Finished, hashes
from recipes import tiny_recipe

from tercet.core.artifacts import existing
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
    Fault(1, errno.ENOSPC, True, "/vectors/", "write"),
    Fault(1, errno.EIO, False, "/results/", "rename"),
    Fault(1, errno.ENOSPC, True, "/results/report.html", "write"),
]


@dataclass(frozen=True)
class Place:
    """A tiny recipe, and programs on a disk that fails; each run is named."""

    recipe: Path
    programs: Programs

    def start(self, name: str, program: str = "train.py", fault: Fault | None = None) -> Finished:
        run = self.run(name)
        more = [] if program == "train.py" else ["--evaluation.latency_queries", "0"]
        log = self.recipe.with_name(f"{name}.log")
        log.unlink(missing_ok=True)
        given = (self.recipe, "--name", name, *more)
        return self.programs.run(program, *given, on=run, fault=fault or Fault(), log=log)

    def run(self, name: str) -> Path:
        return self.recipe.parent / "runs" / name

    def calls(self, name: str) -> list[tuple[str, str]]:
        """The calls of the last start: their name and file."""
        lines = self.recipe.with_name(f"{name}.log").read_text().splitlines()
        return [(line.split(" ")[1], line.split(" ", 2)[2]) for line in lines]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("disks")
    recipe = tiny_recipe(
        folder,
        corpus=tiny_beir_path,
        queries={"shard_passages": 16},
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": 128},
        model=tiny_encoder_path,
        index={"backend": "faiss", "factory": "IVF{lists},SQ8", "on_disk": True},
        triplets={"negatives_per_query": 3, "teacher_weight": 0.5},
        training={"num_train_epochs": 1, "learning_rate": 1e-3},
        evaluation={"interpolation_steps": 1},
    )
    with programs_on_a_failing_disk(folder / "programs") as programs:
        place = Place(recipe, programs)
        whole = place.start("whole")
        assert whole.returncode == 0, whole.stderr
        (recipe.with_name("whole.log")).rename(folder / "train.log")
        evaluated = place.start("whole", "eval.py")
        assert evaluated.returncode == 0, evaluated.stderr
        (recipe.with_name("whole.log")).rename(folder / "eval.log")
        yield place


def check_failure(place: Place, name: str, fault: Fault, result: Finished) -> None:
    """One line and exit code 1; every artefact that was finished is whole."""
    said = f"{fault}: {result.returncode} {result.stderr}"
    assert result.returncode == 1, said
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, said
    assert str(place.run(name).name) in result.stderr, f"{said} names no file"
    assert "run the same command again" in result.stderr, said
    for manifest in place.run(name).rglob("manifest.json"):
        if ".partial" not in str(manifest):
            artifact = existing(manifest.parent)
            assert artifact
            artifact.verify()


def check_end(place: Place, name: str) -> None:
    """The same bytes as the run without faults, and nothing that should not be there."""
    assert hashes(place.run(name)) == hashes(place.run("whole"))
    left = [path.name for path in place.run(name).rglob("*")]
    stray = [n for n in left if re.search(r"\.tmp$|\.partial$|\.old$|^scratch-|^_aside$|^sums$", n)]
    assert not stray


def survives(place: Place, name: str, program: str, faults: Sequence[Fault]) -> Counter[str]:
    """Start a run once with each fault, which it meets where the last start ended; then without.

    Returns how many faults ended the program, and how many it went on with.
    """
    met: Counter[str] = Counter()
    for fault in faults:
        result = place.start(name, program, fault)
        if result.returncode == 0 and is_tolerated(fault, place.calls(name)):
            met["went on"] += 1
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
    assert met.total() == len(STAGES) and not met["went on"], met
    check_end(place, "stages")
    met = survives(place, "stages", "eval.py", EVALUATION)
    assert met.total() == len(EVALUATION) and not met["went on"], met
    check_end(place, "stages")
    check_results(place, "stages")


def check_results(place: Place, name: str) -> None:
    """What eval.py wrote is as in the run without faults, but for times and the run's name."""
    ends = ("*.trec", "per_query.parquet", "rankings.parquet")
    for path in [found for end in ends for found in place.run("whole").rglob(end)]:
        other = place.run(name) / path.relative_to(place.run("whole"))
        assert file_sha256(other) == file_sha256(path), other


@pytest.mark.long
@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_a_disk_that_fails_at_any_write(place: Place, program: str) -> None:
    """Every tenth call of a run that writes; TERCET_EVERY_CALL takes each n-th, such as all."""
    name = "every"
    lines = (place.recipe.parent / f"{program[:-3]}.log").read_text().splitlines()
    calls = [(line.split(" ")[1], line.split(" ", 2)[2]) for line in lines]
    seen: Counter[tuple[str, str]] = Counter()
    points = []
    for call, path in calls:
        # The names of scratch files are drawn; a folder itself is made or synced at many moments.
        part = re.sub(r"scratch-.*", "scratch-", re.sub(r"/#\d+.*", "/#", path))
        seen[call, part] += 1
        if part.count("/") and not part.endswith("resources.json.tmp"):
            points.append((call, part, seen[call, part]))
    step = int(os.environ.get("TERCET_EVERY_CALL", "10"))
    codes, sticky = cycle(CODES), cycle((True, False))
    faults = [
        Fault(n, errno.EINVAL if call == "fsync" else next(codes), next(sticky), part, call)
        for call, part, n in points[::step]
    ]
    if program == "eval.py" and not (place.run(name) / "model").exists():
        assert place.start(name).returncode == 0
    met = survives(place, name, program, faults)
    print(program, dict(met))
    check_end(place, name)
    if program == "eval.py":
        check_results(place, name)
