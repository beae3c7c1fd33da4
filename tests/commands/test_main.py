"""How commands are called: help, near misses, aliases, exit codes, and what is not imported."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import resource
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from rich.text import Text

from tercet.commands import main as main_module
from tercet.commands.main import ALIASES, COMMANDS, main, tercet
from tercet.commands.recipe_command import RecipeCommand, read_recipe
from tercet.config.keys import keys_of
from tercet.config.packaged import packaged_recipes
from tercet.config.recipe import Recipe
from tercet.config.training import TRAINING
from tercet.core.console import console
from tercet.core.schema import Diverged, InputError

ROOT = Path(__file__).parents[2]
#: Modules of which none may be loaded to show help.
HEAVY = "torch transformers datasets pyarrow numpy weaviate gradio"


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = os.environ | {"COLUMNS": "80"} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=given, timeout=120)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return typing.cast(int, end.value.code)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text("corpus: {path: here}\n")
    return path


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, typing.Any]]]:
    """What a command of the name `adapt` is called with."""
    calls: list[dict[str, typing.Any]] = []

    @click.command(cls=RecipeCommand)
    @click.option("--restart", is_flag=True)
    @click.option("--until")
    def command(**given: typing.Any) -> None:
        calls.append(given | {"quiet": console.quiet, "json": console.json_lines})

    monkeypatch.setattr("tercet.commands.adapt.command", command)
    yield calls


# ── help ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments", [["--help"], ["adapt", "--help"], ["train", "-h"], ["demo", "-h"]]
)
def test_help_is_one_screen_in_half_a_second(arguments: list[str]) -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = python("-m", "tercet", *arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The processor's, which other work on the machine does not lengthen.
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        assert shown.returncode == 0, shown.stderr
        assert 10 < len(shown.stdout.splitlines()) <= 40
        assert max(map(len, shown.stdout.splitlines())) <= 80
    assert min(seconds) <= 0.5


@pytest.mark.parametrize("name", [*COMMANDS])
def test_no_help_loads_what_the_command_runs_with(name: str) -> None:
    code = (
        "import sys\nfrom tercet.commands.main import main\n"
        "try: main([sys.argv[1], '--help'])\n"
        "except SystemExit: print('loaded:', *(set(sys.argv[2].split()) & set(sys.modules)))"
    )
    shown = python("-c", code, name, HEAVY)
    assert shown.stdout.splitlines()[-1] == "loaded:", shown.stdout[-300:] + shown.stderr
    assert len(shown.stdout.splitlines()) <= 41


def test_the_list_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys\nfrom tercet.commands.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*(m for m in sys.modules if m.startswith('tercet.commands.')))"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "tercet.commands.main"


def test_every_command_is_there_and_its_help_says_something() -> None:
    for name in [*COMMANDS, *ALIASES]:
        command = tercet.get_command(click.Context(tercet), name)
        assert isinstance(command, click.Command) and command.help, name


def test_the_sections_list_every_key_with_default_and_meaning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 400)
    hints = typing.get_type_hints(Recipe)
    rows: dict[str, list[str]] = {}
    for section in ["run", *(n for n in hints if dataclasses.is_dataclass(hints[n]))]:
        assert exit_code("adapt", "--help", section) == 0
        for line in capsys.readouterr().out.splitlines():
            cells = re.split(r"\s{2,}", line.strip())
            if len(cells) == 3:
                rows[cells[0].removeprefix("--")] = cells[1:]
    keys = {key for key in keys_of(Recipe) if not key.startswith("training.")}
    assert keys <= set(rows)
    assert rows["negatives.candidates"][0] == "25"
    assert rows["queries.generators.N.temperature"][0] == "unset"
    assert rows["loss.kind"][1].startswith("margin_mse: margins between")


@pytest.mark.slow
def test_the_training_section_lists_the_others_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("adapt", "--help", "training") == 0
    shown = capsys.readouterr().out
    assert all(f"--training.{name}" in shown for name in TRAINING)
    assert "adam_beta1 (0.9)" in " ".join(shown.split())
    assert "output_dir" not in shown


def test_a_section_of_a_list_is_shown_by_its_items_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("train", "--help", "queries.generators") == 0
    assert "--queries.generators.N.kind" in capsys.readouterr().out
    assert exit_code("adapt", "--help", "querys") == 2
    assert "there is no section 'querys'; did you mean 'queries'?" in capsys.readouterr().err


# ── what is given ────────────────────────────────────────────────────────────────────────────────


def test_a_command_gets_its_options_and_a_recipe_with_the_overrides(
    recipe: Path, called: list[dict[str, typing.Any]]
) -> None:
    given = ["--seed", "7", str(recipe), "--until=scores", "--corpus.dev-split=dev", "--restart"]
    assert exit_code("train", *given, "--training.warmup_steps", "0.1") == 0
    (call,) = called
    assert (call["restart"], call["until"], call["recipe"].seed) == (True, "scores", 7)
    assert call["recipe"].corpus.dev_split == "dev"
    assert call["recipe"].training["warmup_steps"] == 0.1


def test_a_value_may_begin_with_a_dash(
    recipe: Path, called: list[dict[str, typing.Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("adapt", str(recipe), "--model.query_prompt", "--q--") == 0
    assert called[0]["recipe"].model.query_prompt == "--q--"
    assert exit_code("adapt", str(recipe), "--seed", "-7") == 2
    assert capsys.readouterr().err == "error: --seed: seed must be at least 0, not -7\n"


def test_items_of_a_list_that_the_recipe_lacks_are_the_defaults(
    recipe: Path, called: list[dict[str, typing.Any]]
) -> None:
    options = ["--queries.generators.0.kind", "causal", "--queries.generators.0.model=m"]
    options += ["--negatives.retrievers.1.language", "null", "--evaluation.systems.0.kind", "bm25"]
    options += ["--evaluation.systems.1.kind", "base"]
    assert exit_code("adapt", str(recipe), *options) == 0
    made = called[0]["recipe"]
    assert [(g.kind, g.model, g.share) for g in made.queries.generators] == [("causal", "m", 1)]
    retrievers = [(r.kind, r.share, r.language) for r in made.negatives.retrievers]
    assert retrievers == [("dense", 15, "english"), ("bm25", 10, None)]
    assert [system.kind for system in made.evaluation.systems] == ["bm25", "base"]


def test_a_recipe_is_a_file_the_folder_of_a_run_or_a_name(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    with pytest.raises(InputError, match="is no run"):
        read_recipe(run)
    (run / "recipe.yaml").write_text("name: x\ncorpus: {path: here}\n")
    assert read_recipe(run).name == read_recipe(run / "recipe.yaml").name == "x"
    assert read_recipe("quickstart").name == "quickstart"
    assert {path.stem for path in (ROOT / "recipes").glob("*.yaml")} == set(packaged_recipes())
    with pytest.raises(InputError, match="nowhere: no such recipe"):
        read_recipe("nowhere")


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("learning_rate", "training.learning_rate"),
        ("learning-rte", "training.learning_rate"),
        ("lr", "training.learning_rate"),
        ("epochs", "training.num_train_epochs"),
        ("batch_size", "training.per_device_train_batch_size"),
        ("model_name", "model.name"),
        ("corpus_path", "corpus.path"),
        ("seeed", "seed"),
        ("queries.cuont", "count"),
        ("trainning.learning_rate", "training.learning_rate"),
        ("generators.kind", "queries.generators.N.kind"),
        ("weight_decy", "training.weight_decay"),
        ("max_length", "teacher.max_length' or 'model.max_length"),
        ("restrt", "--restart"),
    ],
)
def test_a_near_miss_names_the_right_key(
    recipe: Path, key: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("adapt", str(recipe), f"--{key}", "3") == 2
    error = capsys.readouterr().err
    assert f"did you mean '{right}'?" in error and error.count("\n") == 1


def test_what_is_near_to_nothing_is_told_what_there_is(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("adapt", str(recipe), "--zzqq=3") == 2
    assert "--zzqq: unknown key 'zzqq'; there are: name, runs_dir" in capsys.readouterr().err
    assert exit_code("adapt", str(recipe), "--model", "x") == 2
    assert "model must be a mapping of keys, such as model.name" in capsys.readouterr().err
    assert exit_code("evaluate") == 2
    assert "there is no command 'evaluate'" in capsys.readouterr().err
    assert exit_code("adpt") == 2
    assert "did you mean 'adapt'?" in capsys.readouterr().err


class OutOfMemoryError(RuntimeError):
    """As torch's is called, which is imported later."""


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("memory that ends", "divergence")
@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (InputError("r.yaml:3: no"), 2, "error: r.yaml:3: no\n"),
        (Diverged("the loss is nan"), 4, "error: the loss is nan\n"),
        (MemoryError("8 GiB\nfor it"), 1, "error: the memory does not suffice (8 GiB): lower "),
        (OutOfMemoryError("CUDA"), 1, "error: the memory does not suffice (CUDA): lower "),
        (KeyboardInterrupt(), 130, "error: interrupted: run the same command again to resume\n"),
        (OSError(errno.ENOSPC, "full"), 1, "error: the disk is full: make room, then "),
        (PermissionError(errno.EACCES, "not yours", "/x"), 2, "error: /x: not yours\n"),
    ],
)
def test_a_failure_has_its_exit_code_and_one_line(
    failure: BaseException,
    code: int,
    told: str,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command(cls=RecipeCommand)
    def command(recipe: Recipe) -> None:
        raise failure

    monkeypatch.setattr("tercet.commands.adapt.command", command)
    assert exit_code("adapt", str(recipe)) == code
    error = capsys.readouterr().err.lstrip()  # after ^C comes a line's end
    assert error.startswith(told) and error.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command(cls=RecipeCommand)
    def command(recipe: Recipe) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tercet.commands.adapt.command", command)
    with pytest.raises(ZeroDivisionError):
        main(["adapt", str(recipe)])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--help"], 0),
        (["--version"], 0),
        (["adapt"], 2),
        (["adapt", "--seed", "7"], 2),
        (["adapt", "nowhere.yaml"], 2),
        (["adapt", "nowhere.yaml", "--help"], 0),
        (["export", "nowhere.yaml", "--to", "pdf"], 2),
        (["search", "runs/x"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    assert exit_code(*arguments) == code


def test_exit_codes_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code("--help")
    shown = " ".join(capsys.readouterr().out.split())
    guide = (ROOT / "docs" / "guides" / "training.md").read_text()
    for code, meaning in main_module.EXIT_CODES.items():
        assert f" {code} {meaning}" in shown
        assert f"| {code} | {meaning} |\n" in guide
    assert set(main_module.EXIT_CODES) >= {InputError.exit_code, Diverged.exit_code}


def test_windows_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main_module.sys, "platform", "win32")
    assert exit_code("--help") == 2
    assert re.fullmatch(r"error: .*WSL.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("program", ["train.py", "eval.py", "app.py", "scripts/push.py"])
def test_the_programs_of_the_checkout_are_the_commands(program: str) -> None:
    shown = python(str(ROOT / program), "--help")
    assert shown.returncode == 0 and shown.stdout.startswith("Usage: tercet "), shown.stderr


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def talks(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe for a command that says, warns and results."""

    @click.command(cls=RecipeCommand)
    def command(recipe: Recipe) -> None:
        console.print(Text("on the", "bold"), "way")
        console.warn("odd [x]")
        console.result("it is better")

    monkeypatch.setattr("tercet.commands.adapt.command", command)
    return recipe


def test_messages_warnings_and_results(talks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("adapt", str(talks)) == 0
    assert capsys.readouterr().out == "on the way\nwarning: odd [x]\nit is better\n"
    assert not console.quiet


def test_quiet_leaves_messages_out(talks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("adapt", str(talks), "--quiet") == 0
    assert capsys.readouterr().out == "warning: odd [x]\nit is better\n"
    assert not console.quiet  # of the next command in this process


def test_json_logs_are_an_object_a_line(talks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("adapt", str(talks), "--json-logs") == 0
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert told.out == "it is better\n"
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "on the way"),
        ("warning", "odd [x]"),
    ]
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line["time"]) for line in lines)
    assert not console.json_lines


def test_errors_are_json_lines_too(talks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("adapt", str(talks), "--json-logs", "--seed", "x") == 2
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["message"][:7]) == ("error", "--seed:")
