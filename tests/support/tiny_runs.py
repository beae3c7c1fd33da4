"""Tiny whole runs, what is changed in them, and which steps a change makes again.

Without pytest: `lay_out` a folder of models and corpora once, then ask `Runs` for runs by their
names in `recipe_keys.RUNS`, and `remade` for the steps that a `Change` makes again.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recipe_keys import MAX_LENGTH, RUNS
from safetensors.numpy import load_file, save_file

from tercet.config.loading import load_recipe
from tercet.config.recipe import Recipe
from tercet.core.artifacts import MANIFEST, Artifact, Stage, existing
from tercet.core.files import file_sha256, read_json, write_json
from tercet.core.mapped import read_table
from tercet.core.schema import Passage
from tercet.modeling import BiEncoder
from tercet.modeling.hub import ResolvedModel, resolve
from tercet.pipeline.pipeline import Pipeline

#: Made within others: vectors of another model, which proposes candidates or scores, and the
#: scores of each of several scorers.
WITHIN = ("embeddings_other", "scores_teacher", "scores_bm25", "scores_other")
#: In the pipeline's order.
STEPS = (
    *("corpus", "embeddings", "student", "queries", "embeddings_other", "negatives"),
    *("scores_teacher", "scores_bm25", "scores_other", "scores"),
    *("triplets", "targets", "model", "evaluation"),
)
#: The steps of every recipe.
EVERY_STEP = tuple(step for step in STEPS if step not in WITHIN)
#: The folder of the one run that a root holds.
RUN = Path("runs/run")


@dataclass(frozen=True)
class Change:
    """Other values of keys, and an `edit` of files that is called in the run's root.

    Without `train` the last two steps are not made: whether they would be is told by their plans,
    the evaluation's above the model that stands.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    edit: Callable[[], None] | None = None
    train: bool = True


@dataclass(frozen=True)
class Run:
    """A whole run below a root folder, and the keys that it was made with."""

    root: Path
    keys: Mapping[str, Any]


# ── making ───────────────────────────────────────────────────────────────────────────────────────


def recipe_of(keys: Mapping[str, Any]) -> Recipe:
    """The recipe of dotted keys, each checked by itself.

    Paths in it are relative to the run's root, so that a copied run is the same run.
    """
    Path("recipe.yaml").write_text("")
    options = [f"--{name}={json.dumps(value)}" for name, value in keys.items()]
    return load_recipe("recipe.yaml", options, cross_check=False)


def make(root: Path, keys: Mapping[str, Any], *, train: bool = True) -> list[str]:
    """Make every step that is missing or stale; of the last two, unless told to, say which are."""
    stale = []
    with chdir(root):
        pipeline = Pipeline(recipe_of(keys))
        for step in EVERY_STEP if train else EVERY_STEP[:-2]:
            getattr(pipeline, step)
        if not train:
            stale += [] if pipeline.stage("model").finished()[0] else ["model"]
            pipeline._made["model"] = existing(RUN / "model")  # type: ignore[assignment]
            stale += [] if pipeline.stage("evaluation").finished()[0] else ["evaluation"]
    shutil.rmtree(root / RUN / "training", ignore_errors=True)
    return stale


def remade(run: Run, change: Change) -> list[str]:
    """The steps that a change makes again, in the pipeline's order; the run stays as it is."""
    with copied(run) as root:
        with chdir(root):
            if change.edit:
                change.edit()
        before = _marks(root)
        stale = make(root, {**run.keys, **change.keys}, train=change.train)
        after = _marks(root)
    assert set(before) <= set(after) <= set(STEPS)
    return [step for step in STEPS if before.get(step) != after.get(step) or step in stale]


@contextmanager
def quick() -> Iterator[None]:
    """Steps take less time, by what is no part of them.

    None measures the machine's speed, reads the versions of packages or waits for the disk; and
    where a training collects garbage, it looks at none that was there before.
    """
    gc.collect()
    gc.freeze()
    try:
        with (
            patch("tercet.core.resources.gigaflops", lambda: 1.0),
            patch("tercet.core.artifacts.VERSIONS", ()),
            patch("os.fsync", lambda file: None),
        ):
            yield
    finally:
        gc.unfreeze()


@contextmanager
def copied(run: Run) -> Iterator[Path]:
    """A copy of a run's root, for a while."""
    with TemporaryDirectory(dir=run.root.parent) as folder:
        yield Path(shutil.copytree(run.root, Path(folder) / "root"))


def _marks(root: Path) -> dict[str, tuple[int, int]]:
    """What tells each step's manifest from one that is written later, though with equal bytes."""
    found = {path.parent.name: path.stat() for path in root.glob(f"*/*/*/{MANIFEST}")}
    return {step: (stat.st_ino, stat.st_mtime_ns) for step, stat in found.items()}


def plans(root: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Each step's plan by these keys, above what stands in the run, of whatever plan that is.

    Nothing is made. A model whose name is no folder is one of the Hub, by name and revision.
    """
    found: dict[str, Any] = {}

    def finished(stage: Stage) -> tuple[Any, str]:
        found[stage.name] = stage.plan
        missing = Artifact(stage.path, {"files": {}, "facts": {}})
        return existing(stage.path) or missing, ""

    def of_hub(name: str, revision: str | None = None, *given: Any) -> ResolvedModel:
        if Path(name).is_dir():
            return resolve(name, revision, *given)
        return ResolvedModel(Path(name), f"commit:{name} {revision}")

    with (
        chdir(root),
        patch.object(Stage, "finished", finished),
        patch("tercet.pipeline.components.resolve", of_hub),
    ):
        pipeline = Pipeline(recipe_of(keys))
        for step in EVERY_STEP[:-1]:
            getattr(pipeline, step)
        found["evaluation"] = pipeline.stage("evaluation").plan
    return found


class Runs:
    """The runs of `recipe_keys.RUNS` by their names, each made when it is first asked for."""

    def __init__(self, folder: Path, models: Mapping[str, Path], beir: Path) -> None:
        self._folder, self._made = folder, dict[str, Run]()
        self._models, self._beir = models, beir

    def __getitem__(self, name: str) -> Run:
        if name not in self._made:
            parent, keys = RUNS[name]
            root = self._folder / name
            if parent:
                shutil.copytree(self[parent].root, root)
                keys = {**self[parent].keys, **keys}
            else:
                lay_out(root, self._models, self._beir)
            make(root, keys)
            self._made[name] = Run(root, keys)
        return self._made[name]


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_seq2seq_path: Path,
    tiny_causal_path: Path,
) -> Iterator[Runs]:
    """The runs of `recipe_keys.RUNS`, and steps that take less time."""
    models = {
        "student": tiny_encoder_path,
        "teacher": tiny_cross_encoder_path,
        "writer": tiny_seq2seq_path,
        "babbler": tiny_causal_path,
    }
    made = Runs(tmp_path_factory.mktemp("runs"), models, tiny_beir_path)
    with quick():
        yield made


# ── what runs read ───────────────────────────────────────────────────────────────────────────────


def lay_out(root: Path, models: Mapping[str, Path], beir: Path) -> None:
    """Fill a run's root with what its recipe may name: models, corpora, vectors."""
    for name, path in models.items():
        shutil.copytree(path, root / name)
    passages, queries = (_lines(beir / f"{name}.jsonl") for name in ("corpus", "queries"))
    for name in ("student", "teacher"):
        settle_words(root / name, [row["text"] for row in (*passages, *queries)])
    others = {"second_student": "student", "second_teacher": "teacher", "other": "student"}
    for seed, (name, like) in enumerate(others.items()):
        shutil.copytree(root / like, root / name)
        with chdir(root):
            shift_weights(name, seed)()
    shutil.copytree(beir, root / "beir")
    shutil.copytree(beir, root / "second_beir")
    with chdir(root):
        replaced("second_beir/corpus.jsonl", "honey", "money")()
    _lay_out_tables(root / "beir", root / "tables")
    _lay_out_words(root / "words")
    (root / "documents").mkdir()
    (root / "documents" / "one.txt").write_text("The keeper of a lighthouse sleeps by day.\n")
    ids = [row["_id"] for row in passages]
    texts = [Passage(row["_id"], row["title"], row["text"]).contents for row in passages]
    student = BiEncoder.from_pretrained(root / "student", precision="fp32", max_length=MAX_LENGTH)
    random = np.random.default_rng(3)
    vectors = {
        # Not of unit length, or a similarity that is left to them would be the one that is set.
        "vectors": 3 * random.standard_normal((len(ids), 24)),
        "second_vectors": 3 * random.standard_normal((len(ids), 24)),
        "own_vectors": student.encode_passages(texts),
    }
    for name, rows in vectors.items():
        column = pa.array(rows.astype(np.float32).tolist(), pa.list_(pa.float32()))
        pq.write_table(pa.table({"id": ids, "vector": column}), root / f"{name}.parquet")


def settle_words(model: Path, texts: list[str]) -> None:
    """Give a tokenizer the words of the texts: what it learns of them itself is left to chance."""
    words = sorted(set(re.findall(r"[a-z]+", " ".join(texts).lower())))
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    known = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    tokenizer = read_json(model / "tokenizer.json")
    tokenizer["model"]["vocab"] = {word: id for id, word in enumerate(dict.fromkeys(known))}
    write_json(model / "tokenizer.json", tokenizer)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open()]


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _lay_out_tables(beir: Path, tables: Path) -> None:
    """The corpus as tables; columns beside the usual ones, and a second table, say other things."""
    passages, queries = _lines(beir / "corpus.jsonl"), _lines(beir / "queries.jsonl")
    texts = [row["text"] for row in passages]
    for row, text in zip(passages, texts[1:] + texts[:1], strict=True):
        row |= {"key": f"k{row['_id']}", "heading": "A heading", "summary": text}
        row |= {"vector": [0.5, float(len(text))]}
    names = [row["_id"] for row in queries]
    for row, name in zip(queries, names[1:] + names[:1], strict=True):
        row |= {"other": name, "asked": f"{row['text']} today", "vector": [1.0, 0.5]}
    lines = (beir / "qrels" / "test.tsv").read_text().splitlines()[1:]
    qrels = []
    for query, passage, grade in (line.split("\t") for line in lines):
        query, passage, grade = str(query), str(passage), int(grade)
        other = names[(names.index(query) + 1) % len(names)]
        qrels.append({"query_id": query, "passage_id": passage, "grade": grade})
        qrels[-1] |= {"asker": other, "found": f"p{(int(passage[1:]) + 3) % 60:02}"}
        qrels[-1] |= {"mark": 3 - grade}
    for name, rows in (("passages", passages), ("queries", queries), ("qrels", qrels)):
        _write_lines(tables / f"{name}.jsonl", rows)
    _write_lines(tables / "second_passages.jsonl", passages[:-1])
    _write_lines(tables / "second_queries.jsonl", queries[:-1])
    _write_lines(tables / "second_qrels.jsonl", qrels[:-1])


def _lay_out_words(folder: Path) -> None:
    """Passages of one word: whatever the seed, there is one query to write about each."""
    words = ("lighthouse", "beehive", "glacier", "violin", "bakery", "railway")
    _write_lines(folder / "corpus.jsonl", [{"_id": f"w_{w}", "text": w} for w in words])


# ── edits ────────────────────────────────────────────────────────────────────────────────────────


def replaced(path: str, old: str, new: str, count: int = 1) -> Callable[[], None]:
    """An edit that puts one text for another, and leaves the time that the file was written."""

    def edit() -> None:
        file = Path(path)
        stat, text = file.stat(), file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, count))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return edit


def swapped(path: str) -> Callable[[], None]:
    """An edit that gives the first two lines each other's place."""

    def edit() -> None:
        first, second, *rest = Path(path).read_text().splitlines(keepends=True)
        Path(path).write_text("".join([second, first, *rest]))

    return edit


def without_line(path: str, number: int) -> Callable[[], None]:
    """An edit that drops a line."""

    def edit() -> None:
        lines = Path(path).read_text().splitlines(keepends=True)
        del lines[number]
        Path(path).write_text("".join(lines))

    return edit


def reformatted(path: str) -> Callable[[], None]:
    """An edit that gives a JSON file other bytes that say the same."""

    def edit() -> None:
        Path(path).write_bytes(Path(path).read_bytes() + b"\n")

    return edit


def shift_weights(model: str, seed: int = 9) -> Callable[[], None]:
    """An edit that changes a model's weights in place: files keep their sizes and times."""

    def edit() -> None:
        file = Path(model) / "model.safetensors"
        stat, random = file.stat(), np.random.default_rng(seed)
        weights = {
            name: value + (0.2 * random.standard_normal(value.shape)).astype(value.dtype)
            for name, value in load_file(file).items()
        }
        save_file(weights, file, metadata={"format": "pt"})
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file.stat().st_size == stat.st_size

    return edit


def rewritten(step: str, prefix: str = "") -> Callable[[], None]:
    """An edit after which a step's artefact holds other bytes that say the same.

    Its manifest has their digests, as if another machine had made it: what is made again reads
    this artefact itself, and comes out as it was.
    """

    def edit() -> None:
        manifest = read_json(RUN / step / MANIFEST)
        names = [name for name in manifest["files"] if name.startswith(prefix)]
        name = next(n for n in names if n.endswith((".arrow", ".json")) and "config" not in n)
        file = RUN / step / name
        if file.suffix == ".arrow":
            table = read_table(file)
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), "more": "0"})
            with pa.ipc.new_stream(RUN / "new.arrow", table.schema) as stream:
                stream.write_table(table)
            os.replace(RUN / "new.arrow", file)
        else:
            file.write_bytes(file.read_bytes() + b"\n")
        manifest["files"][name] |= {"sha256": file_sha256(file), "bytes": file.stat().st_size}
        write_json(RUN / step / MANIFEST, manifest)

    return edit


def moved(old: str, new: str) -> Callable[[], None]:
    """An edit that moves a folder."""

    def edit() -> None:
        Path(new).parent.mkdir(parents=True, exist_ok=True)
        os.replace(old, new)

    return edit


def rewritten_parquet(path: str) -> None:
    """Give a Parquet file other bytes that hold the same rows."""
    before = Path(path).read_bytes()
    pq.write_table(pq.read_table(path), path, compression="none")
    assert Path(path).read_bytes() != before
