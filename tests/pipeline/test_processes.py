"""Stages shared by processes: each writes its own shards, and nobody can tell from the bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from programs import ROOT, manifests
from recipes import changed, tiny_recipe

from tercet.core.artifacts import Stage, Writer, produce
from tercet.core.mapped import counted, counts_of

PROGRAM = [str(ROOT / "train.py"), "--until=targets"]
TWO = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0"),
    *("--config_file", str(ROOT / "accelerate_config.yaml")),
]
SUPPORT = Path(__file__).parents[1] / "support"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_seq2seq_path: Path,
    tiny_texts: list[str],
) -> Path:
    """Several shards of every stage; a second encoder and a model that writes queries."""
    folder = tmp_path_factory.mktemp("shared")
    corpus = folder / "corpus"
    corpus.mkdir()
    with (corpus / "corpus.jsonl").open("w") as file:
        for i in range(2500):
            text = f"{tiny_texts[i % len(tiny_texts)]} {tiny_texts[(i * 7) % len(tiny_texts)]}"
            file.write(json.dumps({"_id": f"p{i}", "text": f"{text} {i % 2000}"}) + "\n")
    return tiny_recipe(
        folder,
        corpus={"source": "beir", "path": corpus},
        queries={
            "shard_passages": 8,
            "generators": [
                {"kind": "spans"},
                {
                    "kind": "seq2seq",
                    "model": tiny_seq2seq_path,
                    "engine": "torch",
                    "max_new_tokens": 4,
                    "precision": "fp32",
                },
            ],
        },
        negatives={
            "shard_queries": 8,
            "retrievers": [
                {"kind": "dense", "share": 2},
                {"kind": "bm25", "share": 1},
                {
                    "kind": "dense",
                    "share": 1,
                    "model": tiny_encoder_path,
                    "precision": "fp32",
                },
            ],
        },
        teacher={"name": tiny_cross_encoder_path, "shard_pairs": 64, "student_weight": 0.5},
        model=tiny_encoder_path,
    )


@pytest.fixture(scope="module")
def alone(recipe: Path) -> dict[str, dict]:
    """What one process makes."""
    command = [sys.executable, *PROGRAM, str(recipe), "--name", "one"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    made = manifests(recipe.parent / "runs" / "one")
    shards = {stage: sum("-0" in name for name in made[stage]["files"]) for stage in made}
    assert min(shards[name] for name in ("queries", "embeddings", "negatives", "scores")) >= 3
    assert made["queries"]["facts"]["tokens_written"] > 0
    assert made["embeddings"]["facts"]["tokens"] > 2500
    return made


@pytest.mark.slow
def test_two_processes_write_the_bytes_that_one_writes(
    recipe: Path, alone: dict[str, dict]
) -> None:
    command = [*TWO, *PROGRAM, str(recipe), "--name", "two"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert manifests(recipe.parent / "runs" / "two") == alone


@pytest.mark.long
def test_two_processes_score_by_several_scorers_as_one_does(
    recipe: Path, tiny_cross_encoder_path: Path, tiny_encoder_path: Path
) -> None:
    mixed = Path(shutil.copy(recipe, recipe.with_name("mixed.yaml")))
    own = {"name": tiny_cross_encoder_path, "precision": "fp32", "max_length": 48}
    scorers = [own, {"kind": "bm25"}, {"kind": "bi_encoder", "name": tiny_encoder_path}]
    changed(mixed, teacher={"scorers": [each | {"shard_pairs": 64} for each in scorers]})
    made = []
    for start, name in (([sys.executable], "alone"), (TWO, "both")):
        command = [*start, *PROGRAM, str(mixed), "--name", name]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        made.append(manifests(recipe.parent / "runs" / name))
    alone, both = made
    assert both == alone
    ours = [stage for stage in alone if stage.startswith("scores_")]
    assert len(ours) == 3 and min(len(alone[stage]["files"]) for stage in ours) >= 3


def end(launch: subprocess.Popen[bytes]) -> None:
    """Kill a launcher alone, and see that its ranks end with it."""
    ranks = [
        each
        for each in psutil.Process(launch.pid).children(recursive=True)
        if each.environ().get("WORLD_SIZE") == "2"
    ]
    assert len({each.environ()["RANK"] for each in ranks}) == 2
    launch.kill()
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert not alive, "a rank is left"


@pytest.mark.long
@pytest.mark.fault("a killed writer of queries", "a killed teacher", "a resume that changed")
@pytest.mark.fault("signals")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends ranks with their launcher")
@pytest.mark.parametrize("moment", ["queries.partial", "scores.partial/pairs-00001.arrow"])
def test_two_processes_that_are_killed_are_resumed_by_one_or_two(
    recipe: Path, alone: dict[str, dict], moment: str
) -> None:
    name = f"killed-{moment[:6]}"
    run = recipe.parent / "runs" / name
    with subprocess.Popen(
        [*TWO, *PROGRAM, str(recipe), "--name", name],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    ) as launch:
        while launch.poll() is None and not (run / moment).exists():
            time.sleep(0.002)
        assert launch.poll() is None, "it has ended before its moment"
        end(launch)
    command = [*(TWO if "queries" in moment else [sys.executable]), *PROGRAM, str(recipe)]
    done = subprocess.run([*command, "--name", name], capture_output=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert manifests(run) == alone


def test_a_process_writes_every_so_many_th_shard_and_the_first_waits(tmp_path: Path) -> None:
    asked: list[range] = []

    def make(block: range) -> pa.Table:
        asked.append(block)
        return counted(pa.table({"row": list(block)}), {"rows": len(block)})

    blocks = [range(i, i + 3) for i in range(0, 15, 3)]
    assert Writer(tmp_path, place=(1, 2)).shards("x", blocks, make, lambda _: None) is None
    assert asked == blocks[1::2]
    done: list[int] = []
    paths = Writer(tmp_path, place=(0, 2)).shards("x", blocks, make, done.append)
    assert paths == [tmp_path / f"x-0000{i}.arrow" for i in range(5)]
    assert asked == blocks[1::2] + blocks[::2]
    assert sum(done) == counts_of(paths, {"rows": "rows"})["rows"] == 15
    assert Writer(tmp_path).shards("x", blocks, make, lambda _: None) == paths
    assert len(asked) == 5, "what is there is not made again"


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    yield


def test_what_a_killed_launch_left_is_not_taken_for_this_one(
    tmp_path: Path, second: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (Stage(tmp_path / "stage", {}, {}, launch=name) for name in ("old", "new"))
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(KeyboardInterrupt):
        produce(old, lambda writer: (_ for _ in ()).throw(KeyboardInterrupt))
    assert old.in_progress and not new.in_progress
    with new.write() as writer:
        assert new.in_progress and not old.in_progress
        writer.shard("x", 0, pa.table({"row": [1]}))
    monkeypatch.setenv("RANK", "1")
    assert old.in_progress and new.in_progress, "finished"


def test_a_late_process_stops_where_the_first_has_finished_without_it(
    tmp_path: Path, second: None
) -> None:
    gone = Writer(tmp_path / "stage.partial", place=(1, 2))
    table = pa.table({"row": [1]})
    assert gone.shards("x", [[1], [2]], lambda _: table, lambda _: None) is None


#: Two ranks whose clocks disagree on whether a checkpoint is due: (minutes of each, saved by time).
DISAGREE = """
import sys
from pathlib import Path
from tercet.core.processes import process
from tercet.modeling.encoders.bi_encoder import BiEncoder
from tercet.modeling.training.callbacks import TimedCheckpoints
from tiny_training import trainer

encoder, texts = BiEncoder.from_pretrained(sys.argv[1]), {f"p{i}": f"text {i}" for i in range(40)}
for name, minutes in {"first": (0, 1e9), "second": (1e9, 0)}.items():
    folder = Path(sys.argv[2]) / name
    folder.mkdir(exist_ok=True)
    options = ["--training.per_device_train_batch_size=1", "--training.num_train_epochs=2"]
    run = trainer(encoder, texts, folder, *options, "--training.save_total_limit=9")
    run.add_callback(TimedCheckpoints(minutes[process()[0]]))
    run.train()
"""


@pytest.mark.slow
@pytest.mark.fault("a killed checkpoint")
def test_the_first_process_decides_when_all_save(tiny_encoder_path: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import sys\nsys.path.append({str(SUPPORT)!r})\n" + DISAGREE)
    command = [*TWO, str(program), str(tiny_encoder_path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    saved = {
        name: {path.name for path in (tmp_path / name).rglob("checkpoint-*") if path.is_dir()}
        for name in ("first", "second")
    }
    assert saved["second"] == {"checkpoint-8", "checkpoint-16"}  # at each epoch's end
    assert saved["first"] == saved["second"] | {"checkpoint-10"}
