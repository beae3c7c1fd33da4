"""An artefact is whole or not there, and the same however often its making was interrupted."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from tercet.core.artifacts import Artifact, Stage, Writer, differences, produce
from tercet.core.files import digest, file_sha256, read_json, write_file, write_json
from tercet.core.mapped import arrow_rows
from tercet.core.processes import locked
from tercet.core.resources import read_times
from tercet.core.schema import InputError

SHARDS = 4


HERE = {"device": "cpu", "torch": "2"}


def stage(run: Path, **settings: object) -> Stage:
    return Stage(run / "stage", {"size": 1, "kind": "a"} | settings, {"corpus": "0" * 64})


def table(number: int, size: int = 1) -> pa.Table:
    return pa.table({"x": pa.array(range(number, number + 10 * size), type=pa.int64())})


def maker(made: list[int], size: int = 1, fail: int = -1) -> Callable[[Writer], None]:
    """Writes four shards and two other files, and notes in `made` which shards it computed."""

    def make(writer: Writer) -> None:
        for number in range(SHARDS):
            if number == fail:
                raise RuntimeError("cut")

            def compute(number: int = number) -> pa.Table:
                made.append(number)
                return table(number, size)

            writer.shard("rows", number, compute)
        write_json(writer.folder / "more.json", {"b": 1, "a": [2]})
        (writer.folder / "inner").mkdir(exist_ok=True)
        write_file(writer.folder / "inner" / "bytes.bin", bytes(range(256)))
        writer.facts |= {"rows": 10 * size * SHARDS, "mean": 0.5}

    return make


def tree(folder: Path) -> dict[str, bytes]:
    """What a run's folder holds, but for the clock."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith("resources.json")
    }


def test_a_finished_stage_is_reused_without_a_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[int] = []
    first = produce(stage(tmp_path), maker(made))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    second = produce(stage(tmp_path), maker(made))
    assert made == list(range(SHARDS))
    assert first == second
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "make  stage: new"
    assert lines[-1] == "reuse stage: inputs and settings unchanged"


def test_the_manifest_tells_what_is_there(tmp_path: Path) -> None:
    artifact = produce(stage(tmp_path), maker([]))
    names = {f"rows-{n:05}.arrow" for n in range(SHARDS)} | {"more.json", "inner/bytes.bin"}
    assert set(artifact.manifest["files"]) == names
    assert set(tree(artifact.path)) == names | {"manifest.json"}
    for name, entry in artifact.manifest["files"].items():
        assert entry["sha256"] == file_sha256(artifact.path / name)
        assert entry["bytes"] == (artifact.path / name).stat().st_size
        assert entry.get("rows") == (10 if name.endswith(".arrow") else None)
    assert artifact.facts == {"rows": 40, "mean": 0.5}
    assert artifact.dataset("rows")["x"][:] == [x for n in range(SHARDS) for x in range(n, n + 10)]
    assert read_times(tmp_path).keys() == {"stage"}


def test_equal_runs_have_equal_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    produce(stage(tmp_path / "here"), maker([]))
    time.sleep(0.01)
    produce(stage(tmp_path / "elsewhere" / "deeper"), maker([]))
    assert tree(tmp_path / "here") == tree(tmp_path / "elsewhere" / "deeper")
    assert str(tmp_path).encode() not in b"".join(tree(tmp_path / "here").values())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda run: stage(run, size=2), "changed: size 1 -> 2"),
        (lambda run: stage(run, kind="[/b] c"), "changed: kind a -> [/b] c"),
        (lambda run: stage(run, extra={"deep": True}), "changed: extra"),
        (lambda run: stage(run, extra="x" * 99), "changed: extra"),
        (
            lambda run: Stage(run / "stage", {"size": 1, "kind": "a"}, {"corpus": "1" * 64}),
            "corpus",
        ),
        (
            lambda run: Stage(run / "stage", {"size": 1, "kind": "a"}, {"corpus": "0" * 64}, 2),
            "changed: revision 1 -> 2",
        ),
    ],
)
def test_what_depends_on_a_change_is_made_again_and_names_it(
    tmp_path: Path,
    changed: Callable[[Path], Stage],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[int] = []
    produce(stage(tmp_path), maker(made))
    capsys.readouterr()
    artifact = produce(changed(tmp_path), maker(made, size=2))
    assert reason in capsys.readouterr().out.splitlines()[0]
    assert made == list(range(SHARDS)) * 2
    assert arrow_rows(artifact.path / "rows-00000.arrow") == 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["resources.json", "stage"]


def test_a_stage_that_failed_goes_on_where_it_was(tmp_path: Path) -> None:
    made: list[int] = []
    for fail in (1, 3, 3):
        with pytest.raises(RuntimeError, match="cut"):
            produce(stage(tmp_path), maker(made, fail=fail))
    assert made == [0, 1, 2]
    produce(stage(tmp_path), maker(made))
    assert made == [0, 1, 2, 3]
    produce(stage(tmp_path / "straight"), maker([]))
    assert tree(tmp_path / "stage") == tree(tmp_path / "straight" / "stage")


@pytest.mark.fault("a resume that changed")
def test_what_a_killed_run_of_other_settings_left_is_not_used(tmp_path: Path) -> None:
    made: list[int] = []
    with pytest.raises(RuntimeError):
        produce(stage(tmp_path), maker(made, fail=3))
    produce(stage(tmp_path, size=2), maker(made, size=2))
    assert made == [0, 1, 2, 0, 1, 2, 3]


def test_a_failure_leaves_the_older_artefact_whole(tmp_path: Path) -> None:
    old = produce(stage(tmp_path), maker([]))
    before = tree(old.path)
    with pytest.raises(RuntimeError):
        produce(stage(tmp_path, size=2), maker([], size=2, fail=2))
    assert tree(old.path) == before
    made: list[int] = []
    assert produce(stage(tmp_path), maker(made)) == old and made == []


@pytest.mark.parametrize("shards", [0, 1])
@pytest.mark.parametrize("resumable", [True, False])
def test_a_refusal_leaves_nothing_but_shards_worth_resuming(
    tmp_path: Path, resumable: bool, shards: int
) -> None:
    def refuse(writer: Writer) -> None:
        for number in range(shards):
            writer.shard("rows", number, lambda: table(0))
        raise InputError("no")

    refused = Stage(tmp_path / "stage", {}, {}, resumable=resumable)
    with pytest.raises(InputError):
        produce(refused, refuse)
    assert list(tmp_path.iterdir()) == ([refused.partial] if resumable and shards else [])


@pytest.mark.fault("precision of a resume")
def test_what_was_begun_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    made: list[int] = []
    with pytest.raises(RuntimeError, match="cut"):
        produce(replace(stage(tmp_path), made_on=HERE), maker(made, fail=2))
    there = replace(stage(tmp_path), made_on=HERE | {"device": "cuda", "torch": "3"})
    before = tree(tmp_path)
    with pytest.raises(InputError) as refused:
        produce(there, maker(made))
    assert str(refused.value) == (
        f"{tmp_path}/stage.partial was begun elsewhere (device cpu -> cuda, torch 2 -> 3), and "
        "shards of both would be mixed: go on there, or give --restart to begin this stage anew"
    )
    assert tree(tmp_path) == before and made == [0, 1]
    produce(replace(stage(tmp_path), made_on=HERE), maker(made))
    assert made == [0, 1, 2, 3], "where it was begun it goes on"


@pytest.mark.fault("precision of a resume")
def test_what_is_finished_is_kept_elsewhere_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = produce(replace(stage(tmp_path), made_on=HERE), maker([]))
    assert first.manifest["made_on"] == HERE
    capsys.readouterr()
    made: list[int] = []
    again = produce(replace(stage(tmp_path), made_on=HERE | {"device": "cuda"}), maker(made))
    assert again == first and not made
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "reuse stage: inputs and settings unchanged (made elsewhere: device cpu -> cuda)"
    ]


@pytest.mark.fault("precision of a resume")
def test_a_process_that_computes_otherwise_than_the_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = replace(stage(tmp_path), made_on=HERE, launch="one")
    with pytest.raises(RuntimeError, match="cut"):
        produce(first, maker([], fail=2))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    second = replace(first, made_on=HERE | {"device": "cuda"})
    with pytest.raises(InputError, match="device cpu -> cuda"):
        produce(second, maker([], fail=0), all_processes=True)


def test_a_stage_that_cannot_resume_starts_anew(tmp_path: Path) -> None:
    made: list[int] = []
    anew = Stage(tmp_path / "stage", {}, {}, resumable=False)
    with pytest.raises(RuntimeError):
        produce(anew, maker(made, fail=2))
    produce(anew, maker(made))
    assert made == [0, 1, 0, 1, 2, 3]


def files_of(artifact: Artifact) -> list[Path]:
    return [artifact.path / name for name in artifact.manifest["files"]]


@pytest.mark.fault("a damaged artifact")
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
@pytest.mark.parametrize("place", range(SHARDS + 2))
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, place: int, damage: str) -> None:
    file = files_of(produce(stage(tmp_path), maker([])))[place]
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        produce(stage(tmp_path), maker([]))
    folder = tmp_path / "stage"
    assert str(caught.value) == (
        f"{file} does not match its manifest: remove {folder} to make it again"
    )


@pytest.mark.fault("a damaged artifact")
@pytest.mark.parametrize("content", [b"", b"{", b'{"plan": ', b"\xff\xfe"])
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    artifact = produce(stage(tmp_path), maker([]))
    (artifact.path / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="stage/manifest.json is damaged"):
        produce(stage(tmp_path), maker([]))


# ── killed ───────────────────────────────────────────────────────────────────────────────────────

# A child that dies, as by SIGKILL, instead of its n-th change to the file system.
DYING = """
import os, sys
sys.path.insert(0, sys.argv[1])
import test_artifacts as t
from pathlib import Path
run, size, last = Path(sys.argv[2]), int(sys.argv[3]), 0

def attempt(n):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0
    def dying(real):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == n:
                os._exit(9)
            return real(*args, **kwargs)
        return call
    for name in ("replace", "unlink", "rmdir", "mkdir", "fsync"):
        setattr(os, name, dying(getattr(os, name)))
    t.produce(t.stage(run / str(n), size=size), t.maker([], size=size))
    os._exit(0)

if size == 2:
    old = t.tree(run / "old")
n = 0
while True:
    n += 1
    if size == 2:
        t.produce(t.stage(run / str(n)), t.maker([]))
    code = attempt(n)
    left = t.tree(run / str(n))
    if size == 2 and code == 9:
        whole = {k: v for k, v in left.items() if k.startswith("stage/")}
        moved = {"stage/" + k.removeprefix("stage.old/"): v for k, v in left.items()
                 if k.startswith("stage.old/")}
        new = any(k == "stage.partial/manifest.json" for k in left) or whole == t.tree(run / "new")
        assert whole == old or new, (n, sorted(left))
    made = []
    finished = sum(k.endswith(".arrow") and k.startswith("stage.partial/") for k in left)
    t.produce(t.stage(run / str(n), size=size), t.maker(made, size=size))
    after = {k: v for k, v in t.tree(run / str(n)).items() if not k.startswith("stage.old/")}
    assert after == t.tree(run / "new"), (n, sorted(after))
    assert len(made) <= t.SHARDS - finished, (n, made)
    if code == 0:
        break
print(n)
"""


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.slow
def test_killed_before_any_change_to_the_disk_it_ends_with_the_same_bytes(
    tmp_path: Path, size: int
) -> None:
    produce(stage(tmp_path / "new", size=size), maker([], size=size))
    produce(stage(tmp_path / "old"), maker([]))
    # The worker compares whole runs, in which the stage is one folder.
    command = [sys.executable, "-c", DYING, str(Path(__file__).parent), str(tmp_path), str(size)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout.split()[-1]) > 20


@pytest.mark.slow
def test_killed_between_two_shards_it_resumes(tmp_path: Path) -> None:
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_artifacts as t
from pathlib import Path
def make(writer):
    for number in range(2):
        writer.shard("rows", number, lambda number=number: t.table(number))
    (writer.folder / "rows-00002.arrow.tmp").write_bytes(b"half of a shard")
    os.kill(os.getpid(), signal.SIGKILL)
t.produce(t.stage(Path(sys.argv[2])), make)
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    made: list[int] = []
    produce(stage(tmp_path), maker(made))
    assert made == [2, 3]
    produce(stage(tmp_path / "straight"), maker([]))
    assert tree(tmp_path / "stage") == tree(tmp_path / "straight" / "stage")


# ── a disk that is full ──────────────────────────────────────────────────────────────────────────


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing more fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_write_that_fails_leaves_neither_half_a_file_nor_its_temporary(tmp_path: Path) -> None:
    write_file(tmp_path / "f", b"old")
    with full_after(100), pytest.raises(OSError):
        write_file(tmp_path / "f", bytes(1000))
    assert tree(tmp_path) == {"f": b"old"}


def test_a_full_disk_leaves_the_older_artefact_whole_and_the_shards_that_fitted(
    tmp_path: Path,
) -> None:
    old = produce(stage(tmp_path), maker([]))
    before = tree(old.path)
    made: list[int] = []

    def make(writer: Writer) -> None:
        writer.shard("rows", 0, lambda: table(0, 2))
        with full_after(100):
            maker(made, size=2)(writer)

    with pytest.raises(OSError):
        produce(stage(tmp_path, size=2), make)
    assert tree(old.path) == before
    left = {"plan.json", "rows-00000.arrow", "sums/rows-00000.arrow.sha256"}
    assert set(tree(tmp_path / "stage.partial")) == left
    produce(stage(tmp_path, size=2), maker(made, size=2))
    produce(stage(tmp_path / "straight", size=2), maker([], size=2))
    assert tree(tmp_path / "stage") == tree(tmp_path / "straight" / "stage")


# ── two runs at once ─────────────────────────────────────────────────────────────────────────────

HOLDING = """
import sys
from pathlib import Path
from tercet.core.processes import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.fault("two runs in one folder")
def test_a_second_run_in_a_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    command = [sys.executable, "-c", HOLDING, str(run)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin and holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="in use by another run"), locked(run):
        pass
    with locked(tmp_path / "runs" / "b"):
        pass
    assert run.is_dir()
    holder.stdin.close()
    assert holder.wait(60) == 0
    holder.stdout.close()
    assert list(tmp_path.iterdir()) == []
    with locked(run):
        (run / "made").touch()
    assert (run / "made").exists()


@pytest.mark.fault("two runs in one folder")
def test_a_killed_run_holds_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        holder.kill()
    with locked(tmp_path / "a"):
        pass


def test_a_refused_run_leaves_no_folder_and_no_other_folder_is_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError), locked(tmp_path / "mine" / "runs" / "a"):
        raise InputError("no")
    assert [p.name for p in tmp_path.rglob("*")] == ["mine"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"), locked(tmp_path / "file" / "a"):
        pass


def test_other_processes_wait_for_the_first_and_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = produce(stage(tmp_path), maker([]))
    before = tree(tmp_path)
    monkeypatch.setenv("RANK", "1")
    made: list[int] = []
    assert produce(stage(tmp_path), maker(made)) == artifact
    with locked(tmp_path / "other"):
        assert not (tmp_path / "other").exists()
    assert (tree(tmp_path), made) == (before, [])


# ── identities ───────────────────────────────────────────────────────────────────────────────────

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.text(max_size=2), VALUES))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert digest(value) == digest(turned) == digest(json.loads(json.dumps(value)))


@given(VALUES, VALUES)
def test_what_differs_is_named_and_what_does_not_is_not(one: object, other: object) -> None:
    assert not differences({"s": one}, {"s": one})
    if not isinstance(one, dict) and one != other:
        found = differences({"settings": {"s": one}}, {"settings": {"s": other}})
        assert len(found) == 1 and found[0].startswith("s")


def test_an_artefacts_digest_follows_its_files_and_facts_alone(tmp_path: Path) -> None:
    artifact = produce(stage(tmp_path / "a"), maker([]))
    same = produce(stage(tmp_path / "b", extra=1), maker([]))
    other = produce(stage(tmp_path / "c"), maker([], size=2))
    assert artifact.digest == same.digest != other.digest
    assert read_json(artifact.path / "manifest.json") == artifact.manifest
