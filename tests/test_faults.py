"""What is wrong is said in one line, before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import run_here, run_program
from recipes import tiny_recipe

#: No Weaviate, and no Hub.
NOWHERE = {"WEAVIATE_URL": "http://127.0.0.1:1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def recipe(
    tmp_path: Path, tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path
) -> Path:
    """A tiny recipe with a corpus of its own, which a test may spoil."""
    shutil.copytree(tiny_beir_path, tmp_path / "beir")
    return tiny_recipe(
        tmp_path,
        corpus={"source": "beir", "path": tmp_path / "beir"},
        queries={"count": 20},
        teacher=tiny_cross_encoder_path,
        model=tiny_encoder_path,
        triplets={"negatives_per_query": 3},
    )


def corpus_line(number: int, line: bytes) -> Callable[[Path], None]:
    """Puts a line into the corpus in place of another."""

    def spoil(folder: Path) -> None:
        file = folder / "beir" / "corpus.jsonl"
        lines = file.read_bytes().split(b"\n")
        file.write_bytes(b"\n".join([*lines[: number - 1], line, *lines[number:]]))

    return spoil


def qrels_line(line: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with (folder / "beir" / "qrels" / "test.tsv").open("ab") as file:
            file.write(line + b"\n")

    return spoil


def nothing(folder: Path) -> None:
    pass


#: Name -> (what is spoilt, overrides, how the message begins within the temporary folder).
FAULTS: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "unknown key": (
        nothing,
        ["--negatives.candidate", "9"],
        "--negatives.candidate: unknown key 'candidate' in negatives; did you mean 'candidates'?",
    ),
    "unknown training argument": (
        nothing,
        ["--training.learning_rat", "9"],
        "--training.learning_rat: unknown key 'learning_rat' in training; did you mean",
    ),
    "training arguments that refuse one another": (
        nothing,
        ["--training.save_strategy", "no"],
        "training: ",
    ),
    "wrong type": (nothing, ["--queries.count", "many"], "--queries.count: queries.count must be"),
    "missing recipe": (
        lambda folder: (folder / "tiny.yaml").unlink(),
        [],
        "{folder}/tiny.yaml: no such recipe",
    ),
    "malformed recipe": (
        lambda folder: (folder / "tiny.yaml").write_text("name: x\nmodel: [") and None,
        [],
        "{folder}/tiny.yaml:2: not valid YAML",
    ),
    "missing corpus": (
        lambda folder: shutil.rmtree(folder / "beir"),
        [],
        "{folder}/beir: no such folder (corpus.path)",
    ),
    "a folder that is no corpus": (
        lambda folder: (folder / "beir" / "corpus.jsonl").unlink(),
        [],
        "{folder}/beir: holds no corpus.jsonl",
    ),
    "not JSON": (
        corpus_line(5, b'{"_id": "x", "text": '),
        [],
        "{folder}/beir/corpus.jsonl:5: not JSON",
    ),
    "duplicate passage": (
        corpus_line(7, b'{"_id": "p00", "text": "again"}'),
        [],
        "{folder}/beir/corpus.jsonl:7: passage id 'p00' was used before, at {folder}/beir/corpus",
    ),
    "not UTF-8": (
        corpus_line(3, b'{"_id": "x", "text": "caf\xe9"}'),
        [],
        "{folder}/beir/corpus.jsonl:3: not UTF-8",
    ),
    "no passage": (
        lambda folder: (folder / "beir" / "corpus.jsonl").write_text("") and None,
        [],
        "the corpus holds no passage with text",
    ),
    "a grade that is none": (
        qrels_line(b"q00\tp01\tgood"),
        [],
        "{folder}/beir/qrels/test.tsv:38: 'good' is not a whole number",
    ),
    "two grades": (
        qrels_line(b"q00\tp00\t0"),
        [],
        "{folder}/beir/qrels/test.tsv:38: query 'q00' and passage 'p00' have two grades",
    ),
    "missing model": (
        nothing,
        ["--model.name", "models/no-such-model"],
        "model 'models/no-such-model'",
    ),
    "missing teacher": (
        nothing,
        ["--teacher.name", "./no-such-teacher"],
        "model './no-such-teacher'",
    ),
    "a teacher that reads less than it is given": (
        nothing,
        ["--teacher.max_length", "256"],
        "model '",
    ),
    "model without weights": (
        lambda folder: (folder / "empty").mkdir(),
        ["--model.name", "{folder}/empty"],
        "model '{folder}/empty' has no weights",
    ),
    "no Weaviate": (
        nothing,
        ["--index.backend", "weaviate"],
        "no Weaviate at http://127.0.0.1:1",
    ),
    "a runs folder that is a file": (
        nothing,
        ["--runs_dir", "{folder}/tiny.yaml"],
        "{folder}/tiny.yaml/tiny cannot be written",
    ),
}


def files(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))
    }


def check_refusal(err: str, code: int | str | None, folder: Path, message: str) -> None:
    assert code == 2, err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: " + message.replace("{folder}", str(folder)))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_nothing_is_written(
    recipe: Path,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = recipe.parent
    spoil, overrides, message = FAULTS[fault]
    spoil(folder)
    monkeypatch.chdir(folder)
    given = [override.replace("{folder}", str(folder)) for override in overrides]
    before = files(folder)
    capfd.readouterr()
    refused = run_here("train.py", recipe, *given, **NOWHERE)
    assert capfd.readouterr().err == "", "a library wrote past Python"
    check_refusal(refused.stderr, refused.returncode, folder, message)
    assert files(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["not JSON", "no Weaviate"])
def test_so_it_is_from_a_shell(recipe: Path, fault: str) -> None:
    folder = recipe.parent
    spoil, overrides, message = FAULTS[fault]
    spoil(folder)
    before = files(folder)
    result = run_program("train.py", recipe, *overrides, **NOWHERE)
    check_refusal(result.stderr, result.returncode, folder, message)
    assert files(folder) == before
