"""What runs keep for themselves, damaged: it counts as none, and nothing else is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from damage import DAMAGE

from tercet.core.artifacts import MANIFEST, PLAN, SUMS, Stage, Writer, existing, produce
from tercet.core.console import CURVES
from tercet.core.resources import RESOURCES, Resources, read_resources
from tercet.core.schema import InputError
from tercet.forecast.forecast import FORECAST, ROWS, Expected, Forecast, TrainingSize, read_forecast
from tercet.modeling.training.checkpoints import ASIDE, last_checkpoint
from tercet.modeling.training.model_selection import MeasuredMixtures
from tercet.pipeline.choices import CHOICES, read_choices
from tercet.studio.compare import results
from tercet.studio.runs import read_process, report_of
from tercet.studio.votes import Votes
from tercet.studio.watch import curves, stages

pytestmark = pytest.mark.fault("damaged bookkeeping")


damages = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
_FORECAST = Forecast(
    {name: Expected(1, 2, 3.0, 4.0, 5, 6) for name in ROWS},
    TrainingSize(1, 2, 3, 4, 5, 6.0),
    [],
    {},
    1.0,
)
_REPORT = {
    "verdict": "Ships.",
    "command": "tercet adapt",
    "settings": {"model.name": "m"},
    "seconds": {"corpus": 1.0},
    "notes": [],
    "comparisons": [
        {
            "measure": "ndcg@10",
            "before": 0.1,
            "after": 0.2,
            "interval": {"difference": 0.1, "low": 0.0, "high": 0.2},
        }
    ],
}
#: File -> its content, how it is read, and what is read where there is none.
KEPT: dict[str, tuple[Any, Callable[[Path], Any], Any]] = {
    RESOURCES: ({"corpus": asdict(Resources(1.5, 2.0, 3))}, read_resources, {}),
    CHOICES: ({"teacher.precision": {"of": "t", "choice": "bf16"}}, read_choices, {}),
    FORECAST: (asdict(_FORECAST), read_forecast, None),
    "studio/process.json": (
        {"pid": 1, "created": 2.0, "command": ["tercet"]},
        read_process,
        None,
    ),
    "metrics.json": (_REPORT, report_of, {}),
    "mixtures.json": (
        {"of": "digest", "values": json.dumps({"0.5": {"validation": {}}})},
        lambda run: MeasuredMixtures(run / "mixtures.json", "digest").read(0.5),
        None,
    ),
}


@damages
@pytest.mark.parametrize("name", KEPT)
def test_what_is_damaged_counts_as_none(
    name: str, damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, read, without = KEPT[name]
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    assert read(tmp_path) == without
    file.write_text(json.dumps(content))
    assert read(tmp_path) != without
    file.write_bytes(damage(file.read_bytes()))
    assert read(tmp_path) == without
    said = f"{file} is damaged, or of another version" in capsys.readouterr().out
    assert said or damage(b'{"of": "digest"}') in (b'{"of": null}', b'{"of": {"value": "digest"}}')
    results([tmp_path])


@damages
def test_curves_are_read_but_for_what_is_damaged(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = tmp_path / "training" / CURVES
    file.parent.mkdir()
    row = {"step": 1, "max_steps": 4, "began": 1.0, "time": 2.0, "loss": 0.5}
    file.write_bytes(damage(json.dumps(row).encode()) + b"\n" + json.dumps(row).encode() + b"\n")
    assert curves(tmp_path, ())["loss"] == [{"step": 1, "value": 0.5, "series": "loss"}]
    stages(tmp_path)


@damages
def test_votes_that_are_damaged_are_named_and_left_as_they_are(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    votes = Votes(tmp_path)
    votes.cast("who keeps bees", "p1", relevant=True)
    file = tmp_path / "votes" / "queries.jsonl"
    file.write_bytes(damaged := damage(file.read_bytes()))
    if not damaged:  # as if no one had voted
        return
    with pytest.raises(InputError, match=f"{file} is damaged: mend it"):
        votes.cast("another", "p2", relevant=True)
    assert file.read_bytes() == damaged


# ── artefacts ────────────────────────────────────────────────────────────────────────────────────


def _stage(run: Path) -> Stage:
    return Stage(run / "stage", settings={"size": 1}, inputs={})


def _make(made: list[int], *, until: int = 4) -> Callable[[Writer], None]:
    def make(writer: Writer) -> None:
        for number in range(4):
            if number == until:
                raise KeyboardInterrupt

            def table(number: int = number) -> pa.Table:
                made.append(number)
                return pa.table({"n": [number] * 100})

            writer.shard("rows", number, table)

    return make


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A run whose stage has three of its four shards."""
    with pytest.raises(KeyboardInterrupt):
        produce(_stage(tmp_path / "run"), _make([], until=3))
    produce(_stage(tmp_path / "whole"), _make([]))
    return tmp_path / "run"


def _resumed(run: Path) -> list[int]:
    """The shards that the next start makes; its stage is that of a run that was not killed."""
    made: list[int] = []
    produce(_stage(run), _make(made))
    assert _tree(run / "stage") == _tree(run.with_name("whole") / "stage")
    assert not (run / "stage.partial").exists()
    return made


def test_whole_shards_of_a_killed_run_are_kept(killed: Path) -> None:
    assert _resumed(killed) == [3]


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage"])
def test_a_damaged_shard_of_a_killed_run_is_made_again(
    killed: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = killed / "stage.partial" / "rows-00001.arrow"
    shard.write_bytes(DAMAGE[damage](shard.read_bytes()))
    assert _resumed(killed) == [1, 3]
    assert f"{shard} is not whole: made again" in capsys.readouterr().out


def test_one_changed_byte_of_a_shard_is_noticed(killed: Path) -> None:
    shard = killed / "stage.partial" / "rows-00001.arrow"
    data = bytearray(shard.read_bytes())
    data[-30] ^= 1
    shard.write_bytes(data)
    assert _resumed(killed) == [1, 3]


@damages
def test_a_shard_whose_sum_is_damaged_is_made_again(
    killed: Path, damage: Callable[[bytes], bytes]
) -> None:
    noted = killed / "stage.partial" / SUMS / "rows-00000.arrow.sha256"
    noted.write_bytes(damage(b'"0"'))
    assert _resumed(killed) == [0, 3]


@damages
@pytest.mark.parametrize("name", [PLAN, MANIFEST])
def test_a_stage_whose_plan_is_damaged_is_made_again_and_no_other(
    killed: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    other = Stage(killed / "other", settings={}, inputs={})
    before = produce(other, _make([])).manifest
    file = killed / "stage.partial" / name
    data = file.read_bytes() if file.exists() else json.dumps({"plan": {}, "files": {}}).encode()
    file.write_bytes(damage(data))
    assert len(_resumed(killed)) == 4
    assert other.finished()[0].manifest == before  # type: ignore[union-attr]


@damages
def test_a_manifest_that_is_damaged_is_named(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    produce(_stage(tmp_path), _make([]))
    file = tmp_path / "stage" / MANIFEST
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=f"{file} is damaged: remove {file.parent} to make it"):
        produce(_stage(tmp_path), _make([]))
    with pytest.raises(InputError, match="is damaged"):
        existing(tmp_path / "stage")


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────


def _checkpoint(training: Path, step: int) -> Path:
    """A folder as a checkpoint is written: its files, then their digests."""
    from tercet.modeling.training.checkpoints import _write_manifest

    folder = training / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes([step]) * 100)
    _write_manifest(folder)
    return folder


@pytest.mark.fault("a killed checkpoint")
@damages
@pytest.mark.parametrize("name", ["checkpoint.json", "model.safetensors"])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_it_is_used(
    name: str, damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint-best").mkdir()  # not one of ours
    good, bad = _checkpoint(tmp_path, 9), _checkpoint(tmp_path, 10)
    (bad / name).write_bytes(damage(b'{"of": "json"}'))
    assert last_checkpoint(tmp_path) == str(good)
    assert f"{bad} is not whole: put aside as {ASIDE}" in capsys.readouterr().out
    assert not bad.exists() and (tmp_path / ASIDE / "model.safetensors").exists()


@pytest.mark.fault("a killed checkpoint")
def test_of_checkpoints_that_are_not_whole_one_is_kept_aside(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        (_checkpoint(tmp_path, step) / "checkpoint.json").unlink()
    assert last_checkpoint(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [ASIDE]
