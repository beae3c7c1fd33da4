"""Every command and every Python block of README.md and docs/ does what its page says it does."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
import yaml
from documents import LANGUAGES, Block, blocks, lay_out, pages
from fork_server import programs_in
from programs import ROOT
from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

from tercet.config.loading import recipe_of

#: First line of a block -> why it is not executed here, and where what it does is tested instead.
NOT_EXECUTED = {
    "python3 -m venv .venv": "installs from PyPI; test_packaging.py installs the wheel",
    "pip install tercet --extra-index-url https://download.pytorch.org/whl/cpu": "the same",
    "pip install 'tercet[studio]'": "installs, and serves until Ctrl-C; studio/ drives the page",
    "tercet demo": "takes minutes; a test of its own executes it, with fewer queries",
    "vllm serve Qwen/Qwen3-8B": "serves; pipeline/test_endpoints.py asks a server on loopback",
    "make weaviate": "starts a server; retrieval/weaviate/test_server.py does",
    "accelerate launch --config_file accelerate_config.yaml --num_processes 2 train.py "
    "articles.yaml": "is for GPUs; the block after it runs the same on the CPU",
    "tercet push runs/articles --repo you/name": "uploads; sharing/test_hub.py, to a stand-in",
    "tercet space runs/articles --push you/name": "uploads; sharing/test_space.py, to a stand-in",
    "sbatch examples/slurm.sh articles.yaml": "Slurm; test_examples.py runs it with stand-ins",
    "kubectl apply -f examples/kubernetes-job.yaml": "Kubernetes; test_examples.py parses it",
    "docker build --build-arg DEVICE=cuda --tag tercet:cuda .": "docker; test_examples.py",
    "WEAVIATE_API_KEY=choose-one docker compose --profile studio up --detach --wait": "docker",
}
#: First lines of the blocks that need a real Weaviate; a test of their own executes them.
ON_A_SERVER = [
    "tercet adapt articles.yaml --index.backend weaviate",
    "tercet ingest embedded.yaml --ingest.vector cohere",
    "tercet deploy runs/articles --weaviate Articles",
    "tercet rollback --weaviate Articles",
]
#: Pages whose worked examples have tests of their own.
ELSEWHERE = {"docs/guides/plugins.md": "tests/pipeline/test_plugins.py executes them"}
#: Pages that adapt several times over: a minute and more.
LONG = ("README.md", "docs/quickstart.md")

#: What the prepared run adds to its recipe, for speed.
SMALL = """queries: {count: 60}
negatives: {candidates: 8}
evaluation: {latency_queries: 100, resamples: 200}"""

PAGES = {path.relative_to(ROOT).as_posix(): blocks(path) for path in pages()}
EVERY = [block for found in PAGES.values() for block in found]


def executable(page: str) -> list[Block]:
    return [
        block
        for block in PAGES[page]
        if block.language in ("bash", "python") and block.first not in (*NOT_EXECUTED, *ON_A_SERVER)
    ]


# ── without executing ────────────────────────────────────────────────────────────────────────────


def test_every_block_has_a_language() -> None:
    assert [str(block) for block in EVERY if block.language not in LANGUAGES] == []


def test_what_is_not_executed_is_there() -> None:
    firsts = {block.first for block in EVERY}
    assert [line for line in (*NOT_EXECUTED, *ON_A_SERVER) if line not in firsts] == []
    assert set(ELSEWHERE) <= set(PAGES)


@pytest.mark.parametrize("block", [b for b in EVERY if b.language == "bash"], ids=str)
def test_a_block_of_commands_is_bash(block: Block) -> None:
    result = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("block", [b for b in EVERY if b.language == "yaml"], ids=str)
def test_a_block_of_yaml_is_part_of_a_recipe(block: Block) -> None:
    recipe_of(yaml.safe_load(block.text), cross_check=False)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each `tercet ...` of a block or of a sentence, with its place."""
    for block in EVERY:
        if block.language == "bash":
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["tercet"]:
                    yield f"{block.page}:{block.line}", words[1:]
    for path in pages():
        text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        for found in re.findall(r"`tercet ([a-z][^`]*)`", text):
            yield path.name, found.split()


def test_every_command_and_option_exists() -> None:
    from tercet.commands.main import ALIASES, COMMANDS

    missing = []
    for place, (name, *arguments) in commands():
        name = ALIASES.get(name, name)
        if name not in COMMANDS:
            missing.append(f"{place}: tercet {name}")
            continue
        command = import_module(f"tercet.commands.{COMMANDS[name][0]}").command
        # A sentence names a command alone, or with what stands for a value.
        if not arguments or "--help" in arguments or arguments == ["--judged"]:
            continue
        try:
            command.make_context(name, [*arguments])
        except click.ClickException as error:
            missing.append(f"{place}: tercet {name} {' '.join(arguments)}: {error.message}")
    assert missing == []


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


# ── executing ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the commands: `tercet` and `python` are forked from one process."""
    folder = tmp_path_factory.mktemp("programs")
    address = folder / "socket"
    programs_in(folder / "bin", address)
    given = os.environ | {
        "PATH": os.pathsep.join(
            [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "TERCET_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "TERM": "dumb",
    }
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests/support/fork_server.py", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=given,
    )
    assert server.stdin and server.stdout and server.stdout.readline() == b"ready\n"
    yield given
    server.stdin.close()
    server.stdout.close()
    server.wait(30)


@pytest.fixture(scope="module")
def fresh(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_causal_path: Path,
) -> Path:
    """A folder with articles.csv, clicks.csv and tiny models under the names that pages use."""
    folder = tmp_path_factory.mktemp("fresh")
    encoders = [
        "sentence-transformers/all-MiniLM-L6-v2",
        "BAAI/bge-small-en-v1.5",
    ]
    teacher = long_cross_encoder(tiny_cross_encoder_path, tmp_path_factory.mktemp("teacher"))
    models = dict.fromkeys(encoders, tiny_encoder_path)
    models["cross-encoder/ms-marco-MiniLM-L6-v2"] = teacher
    models["HuggingFaceTB/SmolLM2-360M-Instruct"] = tiny_causal_path
    lay_out(folder, models, tiny_beir_path)
    return folder


def long_cross_encoder(short: Path, folder: Path) -> Path:
    """The tiny cross-encoder for texts as long as the default teacher's."""
    config = AutoConfig.from_pretrained(short, max_position_embeddings=512)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(short, model_max_length=512).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(
    fresh: Path, environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with articles.yaml, and a finished run of it."""
    folder = tmp_path_factory.mktemp("prepared") / "work"
    shutil.copytree(fresh, folder, symlinks=True)
    run_bash("tercet init articles.csv --judged clicks.csv", folder, environment)
    with (folder / "articles.yaml").open("a") as recipe:
        recipe.write(f"\n{SMALL}\n")
    run_bash("tercet adapt articles.yaml --quiet", folder, environment)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.long) if page in LONG else page
        for page in PAGES
        if page not in ELSEWHERE and executable(page)
    ],
)
def test_a_page_can_be_typed(
    page: str,
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its blocks are executed in their order, in a folder of the page's own."""
    begins = any("tercet init" in block.text for block in executable(page))
    folder = tmp_path / "work"
    shutil.copytree(
        request.getfixturevalue("fresh" if begins else "prepared"), folder, symlinks=True
    )
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for block in executable(page):
            if block.language == "bash":
                run_bash(block.text, folder, environment, str(block))
            else:
                run_python(block, names)
    sys.modules.pop("retriever", None)


@pytest.mark.long
@pytest.mark.models
def test_the_demo_can_be_typed(environment: dict[str, str], tmp_path: Path) -> None:
    """With its models and its corpus in the cache, and fewer queries and evaluations."""
    if not all((ROOT / name).exists() for name in ("models/all-MiniLM-L6-v2", "corpora")):
        pytest.skip("the offline models are missing: run `make models`")
    for name in ("models", "corpora"):
        (tmp_path / "cache").mkdir(exist_ok=True)
        (tmp_path / "cache" / name).symlink_to(ROOT / name)
    given = environment | {"TERCET_CACHE": str(tmp_path / "cache")}
    few = "--queries.count 60 --evaluation.passages 300 --evaluation.interpolation_steps 1"
    run_bash(f"tercet demo {few} --negatives.candidates 5", tmp_path, given)
    assert (tmp_path / "runs/quickstart/model/model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.weaviate
def test_what_needs_a_server_can_be_typed(
    prepared: Path, environment: dict[str, str], weaviate_server: Any, server: Any, tmp_path: Path
) -> None:
    """Over a collection `Articles` with the passages, their ids and another model's vectors."""
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder, symlinks=True)
    clean(server)
    make_articles(server, folder)
    try:
        for block in (block for block in EVERY if block.first in ON_A_SERVER):
            given = environment | weaviate_server.environment
            run_bash(block.text, folder, given, str(block))
    finally:
        clean(server)


def make_articles(server: Any, folder: Path) -> None:
    from weaviate.classes.config import Configure, DataType, Property

    with (folder / "articles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Where the base model ships and its vectors are there, there is nothing to deploy.
    vectors = np.random.default_rng(7).normal(size=(len(rows), 24))
    names = {"id": "passage_id", "title": "title", "text": "text"}
    collection = server.client.collections.create(
        "Articles",
        properties=[Property(name=name, data_type=DataType.TEXT) for name in names.values()],
        vector_config=[Configure.Vectors.self_provided(name="mine")],
    )
    for row, vector in zip(rows, vectors, strict=True):
        stored = {names[name]: value for name, value in row.items()}
        collection.data.insert(stored, vector={"mine": vector.tolist()})


def clean(server: Any) -> None:
    """Drop what the pages' names are on the server, and the records of it."""
    from tercet.retrieval.weaviate.deployments import Records

    for alias in server.client.alias.list_all():
        if alias.startswith(("Articles", "Tercet_articles", "Tercet_embedded")):
            server.client.alias.delete(alias_name=alias)
    for name in server.client.collections.list_all():
        if name.startswith(("Articles", "Tercet_articles", "Tercet_embedded")):
            server.client.collections.delete(name)
    for served in [record.served for record in Records(server)]:
        if served.startswith("Articles"):
            Records(server).remove(served)


def run_bash(text: str, folder: Path, environment: Mapping[str, str], what: str = "") -> None:
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
    )
    told = (result.stdout + result.stderr)[-3000:]
    assert result.returncode == 0, f"{what or text}\ncode {result.returncode}\n{told}"


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Execute a block with the names of the blocks before it on its page."""
    try:
        exec(compile("\n" * block.line + block.text, block.page, "exec"), names)
    except Exception:
        pytest.fail(f"{block}\n{traceback.format_exc()}", pytrace=False)


@pytest.mark.long
def test_mypy_accepts_the_readmes_python(tmp_path: Path) -> None:
    written = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]
    (tmp_path / "readme.py").write_text(written[0])
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".mypy_cache", "readme.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
