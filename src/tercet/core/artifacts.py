"""Artefacts: what a stage writes, whole or not at all.

A stage works in `<stage>.partial/`: each file is written under a temporary name, synced, renamed.
The manifest comes last; then the folder takes its final name. A run killed anywhere finds the
finished files again and ends with the same bytes. The manifest holds no clock, so equal runs have
equal manifests.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from rich.text import Text

from tercet.core.console import console
from tercet.core.disk import writing
from tercet.core.environment import recorded
from tercet.core.files import (
    digest,
    file_sha256,
    kept,
    read_json,
    replacing,
    share,
    sync_folder,
    write_json,
)
from tercet.core.mapped import arrow_rows
from tercet.core.processes import is_main_process, process
from tercet.core.resources import RESOURCES, Resources, measured, read_resources, trim_memory
from tercet.core.schema import InputError

if TYPE_CHECKING:
    from datasets import Dataset

MANIFEST = "manifest.json"
PLAN = "plan.json"
#: The SHA-256 of each finished shard, until the manifest has them.
SUMS = "sums"
#: Rows that one shard is made of: anything with a length.
Block = TypeVar("Block", bound=Sized)
Happened = TypeVar("Happened")
_only_existing = ContextVar("only_existing", default=False)
VERSIONS = ("tercet", "torch", "transformers", "tokenizers", "datasets", "numpy")


@dataclass(frozen=True)
class Artifact:
    """A stage's finished folder."""

    path: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """Hash of the contents, which the manifests of later steps record."""
        hashes = {name: entry["sha256"] for name, entry in self.manifest["files"].items()}
        return digest([hashes, self.manifest["facts"]])

    def digest_of(self, prefix: str) -> str:
        """Hash of the shards named `prefix`-NNNNN.arrow alone."""
        files = self.manifest["files"].items()
        return digest({n: entry["sha256"] for n, entry in files if n.startswith(f"{prefix}-")})

    @property
    def facts(self) -> dict[str, Any]:
        """Counts of the stage: rows kept, rows dropped and why."""
        return self.manifest["facts"]

    def verify(self) -> None:
        """Check every file's hash. Raises InputError naming one that is missing or changed."""
        for name in self.manifest["files"]:
            self.file(name)

    def file(self, name: str) -> Path:
        """The path of one of its files, to be opened: its hash is checked, once a process.

        Raises InputError naming a file that is missing or changed.
        """
        file, entry = self.path / name, self.manifest["files"].get(name)
        if entry is None or not file.is_file() or file_sha256(file) != entry["sha256"]:
            raise InputError(
                f"{file} does not match its manifest: remove {self.path} to make it again"
            )
        return file

    def shards(self, prefix: str = "") -> list[Path]:
        """The shards named `prefix`-NNNNN.arrow, or all, in order; checked as by `file`."""
        names = sorted(n for n in self.manifest["files"] if n.endswith(".arrow"))
        return [self.file(n) for n in names if not prefix or n.startswith(f"{prefix}-")]

    def dataset(self, prefix: str = "") -> Dataset:
        """The rows of the `shards`, memory-mapped, in order."""
        # datasets takes a second to import, which `import tercet` should not.
        from datasets import Dataset, concatenate_datasets

        shards = [Dataset.from_file(str(file)) for file in self.shards(prefix)]
        return concatenate_datasets(shards) if len(shards) > 1 else shards[0]


def existing(path: Path) -> Artifact | None:
    """Return the finished artifact in `path`, whatever settings produced it, or None."""
    manifest = _manifest(path)
    return Artifact(path, manifest) if manifest else None


def verify_folder(path: Path) -> None:
    """Check the files of a folder that is an artifact's; any other folder passes.

    Raises InputError as `Artifact.verify` does.
    """
    manifest: Any = _manifest(path)
    if isinstance(manifest, dict) and {"plan", "files", "facts"} <= manifest.keys():
        Artifact(path, manifest).verify()


@dataclass
class Writer:
    """Writes a stage's files and facts."""

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    #: Rank and number of the processes that make the stage.
    place: tuple[int, int] = (0, 1)

    def shard(self, name: str, number: int, make: pa.Table | Callable[[], pa.Table]) -> Path:
        """Write a table, or the one `make` returns, as `name`-NNNNN.arrow, unless that exists."""
        path = self._path(name, number)
        if not path.exists():
            table = make() if callable(make) else make
            with replacing(path) as file:
                with pa.ipc.new_stream(file, table.schema) as stream:
                    stream.write_table(table)
                file.flush()
                self.sum_of(path).parent.mkdir(exist_ok=True)
                self.sum_of(path).write_text(file_sha256(Path(file.name)))
        return path

    def drop_damaged(self) -> None:
        """Remove the shards of a killed run that are not as they were written, with a line each."""
        for shard in sorted(self.folder.glob("*.arrow")):
            noted = self.sum_of(shard)
            if not noted.is_file() or noted.read_bytes() != file_sha256(shard).encode():
                console.print(f"{shard} is not whole: made again", style="red")
                shard.unlink()

    def shards(
        self,
        name: str,
        blocks: Sequence[Block],
        make: Callable[[Block], pa.Table],
        done: Callable[[int], None],
    ) -> list[Path] | None:
        """Write one `name`-NNNNN.arrow a block; the blocks are dealt to the processes in turn.

        The first process waits for all and returns their paths. The others return None: the rest
        of the stage is the first one's. `done` gets the number of rows of each finished block.
        """
        rank, world = self.place
        mine = range(rank, len(blocks), world)
        for number in mine:
            try:
                self.shard(name, number, partial(make, blocks[number]))
            except FileNotFoundError:
                if rank and not self.folder.exists():
                    return None  # a killed run had left every shard: the first process is done
                raise
            trim_memory()
            done(len(blocks[number]))
        if rank:
            return None
        for number in sorted(set(range(len(blocks))) - set(mine)):
            _wait_until(self._path(name, number).exists)
            done(len(blocks[number]))
        return [self._path(name, number) for number in range(len(blocks))]

    def sum_of(self, shard: Path) -> Path:
        """The file with a shard's SHA-256."""
        return shard.parent / SUMS / f"{shard.name}.sha256"

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number:05d}.arrow"


@dataclass(frozen=True)
class Stage:
    """One arrow of the pipeline: its folder, and everything that its artifact depends on.

    `inputs` maps names to digests; `settings` is JSON; `revision` grows when the code's output
    for equal inputs changes. A stage that is not `resumable` starts again after an interruption.
    `launch` identifies the launch whose processes share the work. `made_on` is what the bytes
    depend on besides: kinds of devices, major versions of libraries. An artifact that is finished
    is kept elsewhere; one that is begun is not gone on with.
    """

    path: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    revision: int = 1
    resumable: bool = True
    launch: str = ""
    made_on: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def partial(self) -> Path:
        """The folder until it is finished."""
        return self.path.with_name(f"{self.name}.partial")

    @property
    def plan(self) -> dict[str, Any]:
        """Everything that the artifact depends on, as JSON."""
        plan = {"stage": self.name, "revision": self.revision}
        plan |= {"settings": dict(self.settings), "inputs": dict(self.inputs)}
        # Through JSON, so that it compares equal to a plan that was read.
        return json.loads(json.dumps(recorded(plan)))

    def finished(self) -> tuple[Artifact | None, str]:
        """Return the artifact if it has this plan, else None; and the reason in a few words."""
        # Killed after the manifest was written: the new folder is whole and only lacks its name.
        whole = None if _only_existing.get() else kept(self.partial / MANIFEST, _checked)
        if whole and is_main_process() and (whole["plan"] == self.plan or not _manifest(self.path)):
            self._replace()
        manifest = _manifest(self.path)
        if manifest is None:
            return None, "resumed" if (self.partial / PLAN).exists() else "new"
        changes = differences(manifest["plan"], self.plan)
        if changes:
            return None, "changed: " + ", ".join(changes)
        others = _others(manifest, self.made_on)
        told = f" (made elsewhere: {', '.join(others)})" if others else ""
        return Artifact(self.path, manifest), f"inputs and settings unchanged{told}"

    def refuse_others(self) -> None:
        """Raise InputError where part of the artifact was made on what `made_on` is not.

        Its shards would be of both, and equal to none of one.
        """
        begun = self._plan_in_progress()
        others = _others(begun, self.made_on) if begun.get("plan") == self.plan else []
        if others and any(self.partial.glob("*.arrow")):
            raise InputError(
                f"{self.partial} was begun elsewhere ({', '.join(others)}), and shards of both "
                "would be mixed: go on there, or give --restart to begin this stage anew"
            )

    @property
    def has_partial(self) -> bool:
        """Whether a killed run left part of an artifact with this plan."""
        unfinished, begun = not (self.partial / MANIFEST).exists(), self._plan_in_progress()
        same = begun.get("plan") == self.plan and not _others(begun, self.made_on)
        return unfinished and same

    @property
    def in_progress(self) -> bool:
        """Whether the first process of this launch is making the artifact, or has made it."""
        begun = self._plan_in_progress()
        ours = (begun.get("plan"), begun.get("launch")) == (self.plan, self.launch)
        return ours or self.finished()[0] is not None

    def _plan_in_progress(self) -> dict[str, Any]:
        return kept(self.partial / PLAN, dict[str, Any]) or {}

    @property
    def _started(self) -> dict[str, Any]:
        return {"plan": self.plan, "launch": self.launch, "made_on": dict(self.made_on)}

    @contextmanager
    def write(self) -> Iterator[Writer]:
        """Open the stage for writing, resuming what a killed run left; commit it at the end."""
        with writing(self.partial):
            writer = self._opened()
            try:
                yield writer
            except InputError:
                # Refused input leaves only finished shards, from which a run can resume.
                if not self.resumable or {p.name for p in self.partial.iterdir()} <= {PLAN, SUMS}:
                    shutil.rmtree(self.partial)
                raise
            self._commit(writer)

    def _opened(self) -> Writer:
        if not self.resumable or not self.has_partial:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True, exist_ok=True)
        for torn in self.partial.rglob("*.tmp"):
            torn.unlink()
        writer = Writer(self.partial)
        writer.drop_damaged()
        write_json(self.partial / PLAN, self._started)  # the other processes wait for it
        return writer

    def _commit(self, writer: Writer) -> None:
        share(writer.folder)
        files = {}
        own = (writer.folder / PLAN, writer.folder / MANIFEST)
        for file in sorted(p for p in writer.folder.rglob("*") if p.is_file() and p not in own):
            if file.parent.name == SUMS:
                continue
            noted = writer.sum_of(file)
            sha256 = noted.read_text() if noted.is_file() else file_sha256(file)
            entry: dict[str, Any] = {"sha256": sha256, "bytes": file.stat().st_size}
            if file.suffix == ".arrow":
                entry["rows"] = arrow_rows(file)
            files[file.relative_to(writer.folder).as_posix()] = entry
        versions = {name: importlib.metadata.version(name) for name in VERSIONS}
        manifest = {"plan": self.plan, "files": files, "facts": writer.facts, "versions": versions}
        manifest |= {"made_on": dict(self.made_on)} if self.made_on else {}
        write_json(writer.folder / MANIFEST, manifest)
        self._replace()

    def _replace(self) -> None:
        """Give the finished folder its name."""
        shutil.rmtree(self.partial / SUMS, ignore_errors=True)
        (self.partial / PLAN).unlink(missing_ok=True)
        _replace_folder(self.partial, self.path)


def _replace_folder(new: Path, final: Path) -> None:
    """Rename a finished folder; the artifact that had the name stays whole until then."""
    old = final.with_name(f"{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.replace(final, old)
    os.replace(new, final)
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _others(made: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """What an artifact was made on, where it is not what a process has now."""
    before = made.get("made_on", {})  # an earlier release did not say
    return differences(before, {**now, **{k: now.get(k, "none") for k in before}}) if before else []


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Dotted names of the differences between two JSON values, with the values if short."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for name in sorted(old.keys() | new.keys())
            for difference in differences(
                old.get(name, "absent"),
                new.get(name, "absent"),
                f"{path}.{name}" if path else name,
            )
        ]
    if old == new:
        return []
    name = path.removeprefix("settings.").removeprefix("inputs.")
    texts = ["unset" if value is None else str(value) for value in (old, new)]
    return [f"{name} {texts[0]} -> {texts[1]}" if max(map(len, texts)) <= 24 else name]


class NotMade(Exception):
    """A stage is missing or stale, and `only_existing` forbids making it."""


@contextmanager
def only_existing() -> Iterator[None]:
    """Within the block, a stage that is missing or stale raises NotMade, and nothing is written."""
    before = _only_existing.set(True)
    try:
        yield
    finally:
        _only_existing.reset(before)


def only_existing_now() -> bool:
    """Whether nothing may be made: the caller is in a block of `only_existing`."""
    return _only_existing.get()


def produce(
    stage: Stage, make: Callable[[Writer], None], *, all_processes: bool = False
) -> Artifact:
    """Return the stage's artifact, reused if its plan is unchanged, else made by `make`.

    Of several processes the first makes it while the others wait for its manifest. With
    `all_processes` all call `make`: each writes its part of `Writer.shards`, the first the rest.
    """
    if not is_main_process():
        if all_processes:
            _wait_until(lambda: stage.in_progress)
            if not stage.finished()[0]:
                stage.refuse_others()
                make(Writer(stage.partial, place=process()))
        return _wait_until(lambda: stage.finished()[0])
    artifact, reason = stage.finished()
    if artifact:
        artifact.verify()
        if not only_existing_now():  # a reader of the run wants no account of it
            _tell("reuse", "green", stage, reason)
        return artifact
    if only_existing_now():
        raise NotMade(stage.name)
    stage.refuse_others()
    _tell("make ", "yellow", stage, reason)
    with measured() as taken, stage.write() as writer:
        writer.place = process() if all_processes else (0, 1)
        make(writer)
    _note(stage, taken, resumed=reason == "resumed")
    artifact, _ = stage.finished()
    assert artifact
    facts = ", ".join(
        f"{_short(value)} {name.replace('_', ' ')}"
        for name, value in artifact.facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    console.print(f"      {facts}", Text(f"({taken.seconds:.0f} s)", "dim"))
    return artifact


def _tell(what: str, style: str, stage: Stage, reason: str) -> None:
    console.print(Text.assemble((what, style), " ", (stage.name, "bold"), f": {reason}"))


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _manifest(folder: Path) -> dict[str, Any] | None:
    """A folder's manifest, or None if there is none or another process is moving the folder."""
    file = folder / MANIFEST
    try:
        return _checked(read_json(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (AttributeError, LookupError, TypeError):
        raise InputError(f"{file} is damaged: remove {folder} to make it again") from None


def _checked(manifest: Any) -> dict[str, Any]:
    """A manifest. Raises TypeError and its kin for any other JSON value."""
    parts = (manifest["plan"], manifest["facts"], *manifest["files"].values())
    sums = [entry["sha256"] for entry in manifest["files"].values()]
    if not all(isinstance(part, dict) for part in parts) or {*map(type, sums)} - {str}:
        raise TypeError("no manifest")
    return dict(manifest)


def _wait_until(happened: Callable[[], Happened | None]) -> Happened:
    """Poll until another process has done it; the launcher ends all processes if one fails."""
    while not (what := happened()):
        time.sleep(0.1)
    return what


def _note(stage: Stage, taken: Resources, *, resumed: bool) -> None:
    run = stage.path.parent
    before = read_resources(run)
    if resumed and stage.name in before:
        taken = taken.after(before[stage.name])
    taken.seconds = round(taken.seconds, 1)
    noted = {name: asdict(each) for name, each in (before | {stage.name: taken}).items()}
    write_json(run / RESOURCES, noted)
