"""A run's retriever as a file of its own: it finds what the run found, and needs no Tercet."""

from __future__ import annotations

import ast
import asyncio
import configparser
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from recipes import tiny_recipe
from safetensors.torch import load_file, save_file

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError, Passage
from tercet.modeling import BiEncoder
from tercet.pipeline.pipeline import Pipeline
from tercet.sharing.retriever import (
    TEMPLATE,
    export_retriever,
    literal,
    write_passages,
    write_retriever,
)

pytest.importorskip("langchain_core")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# A subprocess in which there is no Tercet, whatever is installed.
ALONE = """
import runpy, sys
class NoTercet:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tercet":
            raise ImportError("there is no tercet here")
sys.meta_path.insert(0, NoTercet())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
HOSTILE = [
    "plain",
    "",
    '"""\nimport os\nos.abort()\n"""',
    "'''\\",
    "a \"double\" and a 'single'",
    'only "double"',
    "back\\slash \\n and \\' at the end\\",
    "tab\t, newline\n, return\r, nul\0, line\u2028 and bidi \u202e",
    "{braces} %s ${shell} `ticks` # comment",
    "日本語 and émigré \U0001f600",
    "words " * 60,
    "x" * 300,
    "'" * 150 + '"' * 20,
    "\\" * 120,
]


def recipe_file(folder: Path, beir: Path, encoder: Path, cross_encoder: Path, **more: Any) -> Path:
    return tiny_recipe(
        folder,
        corpus=beir,
        queries={"shard_passages": 16},
        teacher={"name": cross_encoder, "shard_pairs": 128, "student_weight": 0.5},
        model={"name": encoder, "query_prompt": "asked: "},
        training={"num_train_epochs": 1, "learning_rate": 1e-2},
        evaluation={"interpolation_steps": 1},
        **more,
    )


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
) -> Path:
    """The recipe of a finished run over the exact index, of which a passage is hostile."""
    folder = tmp_path_factory.mktemp("run")
    beir = folder / "beir"
    shutil.copytree(tiny_beir_path, beir)
    rows = [json.loads(line) for line in (beir / "corpus.jsonl").open()]
    rows[0]["text"] += "".join(HOSTILE)
    rows[1]["title"] = HOSTILE[2]
    rows += [rows[4] | {"_id": 'p"\u2028é'}]  # a twin, so that two passages score the same
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [json.loads(line) for line in (beir / "queries.jsonl").open()]
    for i, text in enumerate(HOSTILE[2:8]):
        asked[i]["text"] += text
    (beir / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    path = recipe_file(folder, beir, tiny_encoder_path, tiny_cross_encoder_path)
    _ = Pipeline(load_recipe(path)).evaluation
    return path


def alone(file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=file.parent,
        env=os.environ | environment,
    )


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"exported_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(recipe: Path, out: Path, *overrides: str, **options: Any) -> Path:
    export_retriever(load_recipe(recipe, list(overrides)), out, **options)
    return out


def lint(file: Path) -> None:
    for command in (["check"], ["format", "--check"]):
        config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, str(file)],
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stdout + found.stderr


def as_pairs(documents: list[Any]) -> list[tuple[str, float]]:
    return [(found.metadata["id"], found.metadata["score"]) for found in documents]


@pytest.mark.long
def test_the_file_finds_what_the_run_found_where_there_is_no_tercet(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "elsewhere" / "retriever.py"
    script = [sys.executable, str(ROOT / "scripts/export_retriever.py"), str(run)]
    made = subprocess.run([*script, "--out", str(out)], capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stdout + made.stderr
    assert f"wrote {out}" in made.stdout and not (run.parent / "runs/tiny/retriever.py").exists()
    lint(out)
    assert "weaviate" not in out.read_text() and "# only" not in out.read_text()
    tested = alone(out, "--self-test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    *lines, verdict = tested.stdout.splitlines()
    assert len(lines) == 10 and all(line.startswith("same  ") for line in lines)
    assert verdict == "10 of 10 queries of run 'tiny': as the run found"
    assert str(run.parent) not in out.read_text()
    moved = out.parent.rename(tmp_path / "another place") / out.name
    again = alone(moved, "--self-test")
    assert again.returncode == 0, again.stdout + again.stderr
    out.parent.symlink_to(moved.parent)
    answered = alone(out, "how does the beehive use its honey", "--k", "3")
    assert answered.returncode == 0 and len(answered.stdout.splitlines()) == 3
    assert alone(out).returncode == 2

    module = loaded(out)
    retriever = module.TercetRetriever(k=4)
    pipeline = Pipeline(load_recipe(run))
    texts = pipeline.passages.texts(pipeline.passages.ids)
    queries = [query.text for query in pipeline.split("test")[0]]
    encoder = BiEncoder.from_pretrained(pipeline.model.path, precision="fp32")
    passages = encoder.encode_passages(list(pipeline.passages.contents))
    for query, vector in zip(queries, encoder.encode_queries(queries), strict=True):
        documents = retriever.invoke(query)
        assert len(documents) == 4
        for found in documents:
            row = pipeline.passages.rows([found.id])[found.id]
            passage = pipeline.passages[row]
            assert found.page_content == passage.text
            assert found.metadata["title"] == passage.title
            assert passage.contents == texts[found.id]
            assert found.metadata["score"] == pytest.approx(passages[row] @ vector, abs=1e-5)
        best = np.sort(passages @ vector)[::-1][:4]
        assert [score for _, score in as_pairs(documents)] == pytest.approx(best, abs=1e-5)
        assert as_pairs(asyncio.run(retriever.ainvoke(query))) == as_pairs(documents)
    assert len(retriever.invoke("honey", k=1000)) == 61
    with pytest.raises(ValueError, match="at least 1"):
        retriever.invoke("honey", k=0)
    with pytest.raises(ValueError):
        module.TercetRetriever(kk=3)

    # As many loops and threads as there are ask at once.
    async def at_once() -> list[Any]:
        return list(await retriever.abatch(queries))

    assert [as_pairs(each) for each in asyncio.run(at_once())] == [
        as_pairs(each) for each in retriever.batch(queries)
    ]


def test_another_vector_another_model_or_another_passage_fails_the_self_test(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = export(run, tmp_path / "retriever.py")
    model, folder = run.parent / "runs/tiny/model", tmp_path / "retriever.passages"
    module = loaded(out)
    assert module.MODEL == "./retriever.model"
    retriever = module.TercetRetriever()
    assert module.self_test(retriever)

    vectors = np.load(folder / "vectors.npy")
    best = retriever.invoke(module.EXPECTED[0][0])[0].id
    ids = [json.loads(line)["id"] for line in (folder / "passages.jsonl").open("rb")]
    changed = vectors.copy()
    changed[ids.index(best)] *= 0.99
    np.save(folder / "vectors.npy", changed)
    failed = alone(out, "--self-test")
    assert failed.returncode == 1 and "DIFFERS" in failed.stdout, failed.stdout + failed.stderr
    np.save(folder / "vectors.npy", vectors)

    shutil.copytree(model, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    name = next(name for name in weights if name.endswith("output.dense.weight"))
    weights[name] = weights[name] * 1.05
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    assert not module.self_test(module.TercetRetriever(model=str(tmp_path / "model")))
    assert "the others differ from the run" in capsys.readouterr().out

    with pytest.raises(FileNotFoundError, match="there is no model in"):
        module.TercetRetriever(model=str(tmp_path / "gone"))
    shutil.rmtree(folder)
    gone = alone(out, "--self-test")
    assert gone.returncode == 2 and "retriever.passages does not exist" in gone.stderr


@pytest.mark.long
@pytest.mark.parametrize("student", ["query_encoder", "query_adapter"])
def test_a_query_encoder_refuses_other_passages(run: Path, tmp_path: Path, student: str) -> None:
    options = [f"--model.train={student}", f"--name=query-{student}"]
    options += ["--model.passage_vectors=encode", f"--model.query_prompt={json.dumps(HOSTILE[4])}"]
    _ = Pipeline(load_recipe(run, options)).evaluation
    out = export(run, tmp_path / "retriever.py", *options, k=3)
    lint(out)
    tested = alone(out, "--self-test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    module = loaded(out)
    assert module.QUERY_PROMPT == HOSTILE[4] and module.K == 3
    assert (not module.LAYERS) == (student == "query_encoder")
    folder = tmp_path / "retriever.passages"
    vectors = np.load(folder / "vectors.npy")
    np.save(folder / "vectors.npy", vectors[:, ::-1])
    refused = alone(out, "honey")
    assert refused.returncode == 2 and "this model belongs to" in refused.stderr


def test_a_model_of_the_hub_is_named_with_its_revision(run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "r.py", hub="you/bge-mycorpus", revision="v2")
    module = loaded(out)
    assert (module.MODEL, module.REVISION) == ("you/bge-mycorpus", "v2")
    assert module.PASSAGES == "r.passages"


def test_what_cannot_be_exported_is_refused_in_a_line(run: Path, tmp_path: Path) -> None:
    for overrides, path, message in (
        (["--name=never"], "r.py", "run never is not finished"),
        (["--training.learning_rate=1e-4"], "r.py", "stage model is missing, or of other"),
        ([], "r.txt", "end in .py"),
        (
            ["--model.api=cohere", "--model.train=query_adapter"]
            + ["--model.precision=auto", "--model.max_length=null", "--model.query_prompt=null"]
            + ["--model.passage_vectors=x.parquet"],
            "r.py",
            "behind cohere's API",
        ),
    ):
        with pytest.raises(InputError, match=message):
            export(run, tmp_path / path, *overrides)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.py").write_text("print()")
    with pytest.raises(InputError, match="exists and is no retriever"):
        write_retriever(tmp_path / "mine.py", ("exact",), {})
    assert (tmp_path / "mine.py").read_text() == "print()"


def test_whatever_a_string_holds_it_stays_a_string(tmp_path: Path) -> None:
    out = tmp_path / "retriever.py"
    expected = [(text, [(text, -0.5), ("p", 1e-7)]) for text in HOSTILE]
    for text in HOSTILE:
        values = {"RUN": text, "MODEL": text, "QUERY_PROMPT": text, "EXPECTED": expected}
        write_retriever(out, ("exact",), values | {"PASSAGES": text, "REVISION": None})
        source = out.read_text(encoding="utf-8")
        names = {
            ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target): node
            for node in ast.parse(source).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
        }
        for name, value in (values | {"PASSAGES": text}).items():
            assert ast.literal_eval(names[name].value) == value  # type: ignore[arg-type]
    check = [sys.executable, "-m", "ruff", "check", "--no-cache"]
    config = ["--config", str(ROOT / "pyproject.toml")]
    found = subprocess.run([*check, *config, str(out)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    with pytest.raises(TypeError):
        literal(Path("x"))
    with pytest.raises(KeyError):
        write_retriever(out, ("exact",), {"NO_SUCH": 1})


def test_whatever_a_passage_holds_it_is_read_back(tmp_path: Path) -> None:
    write_retriever(tmp_path / "r.py", ("exact",), {})
    module = loaded(tmp_path / "r.py")
    passages = [Passage(f"{i}{t}", t[::-1], t) for i, t in enumerate(HOSTILE)]
    write_passages(tmp_path / "p", passages, [p.id for p in passages], None)
    read = module.PassageFiles(tmp_path / "p")
    assert len(read) == len(passages) and read.row("none") is None
    for passage in passages:
        row = read.row(passage.id)
        assert read[row] == {"id": passage.id, "title": passage.title, "text": passage.text}


def test_exact_search_orders_equal_scores_by_id_over_any_number_of_blocks(tmp_path: Path) -> None:
    write_retriever(tmp_path / "r.py", ("exact",), {})
    module = loaded(tmp_path / "r.py")
    random = np.random.default_rng(1)
    vectors = random.standard_normal((50, 8)).astype(np.float32)[random.integers(0, 20, 50)]
    passages = [Passage(f"p{i}", "", "") for i in range(50)]
    write_passages(tmp_path / "p", passages, [p.id for p in passages], vectors)
    query = random.standard_normal(8).astype(np.float32)
    scores = [np.float32((v.astype(np.float64) * query).sum()) for v in vectors]
    expected = sorted(zip(scores, [p.id for p in passages], strict=True), reverse=True)
    for block in (7, 50, 8192):
        index = module.ExactIndex(tmp_path / "p")
        index._block = block
        for k in (1, 13, 50, 99):
            found = [(np.float32(hit.score), hit.id) for hit in index.search(query, k)]
            assert found == expected[:k]


def test_its_first_lines_name_what_it_imports_and_as_setup_cfg_has_it(tmp_path: Path) -> None:
    names = {"langchain_core": "langchain-core", "weaviate": "weaviate-client"}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    ours = "\n".join([setup["options"]["install_requires"], *extras.values()]).split()
    for kinds in (("exact",), ("exact", "space"), ("weaviate", "space")):
        write_retriever(tmp_path / "r.py", kinds, {})
        source = (tmp_path / "r.py").read_text()
        tops = {
            module.partition(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for module in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
        }
        needs = re.findall(r'^#   "(.+)",$', source.partition('"""')[0], re.MULTILINE)
        named = {re.split(r"[<>]", need)[0] for need in needs}
        third = {names.get(top, top) for top in tops - sys.stdlib_module_names}
        assert third == named, kinds
        assert set(needs) - {"pydantic>=2"} <= set(ours)
        lint(tmp_path / "r.py")


def test_nothing_but_the_chat_and_the_exported_file_imports_langchain() -> None:
    serving = ROOT / "src" / "tercet" / "serving"
    files = [
        file
        for folder in ("src", "data", "modeling", "retrieval", "scripts")
        for file in (ROOT / folder).rglob("*.py")
        if file not in (TEMPLATE.resolve(), serving / "chat.py", serving / "openai_endpoint.py")
    ]
    assert len(files) > 100
    for file in files:
        assert "langchain" not in {
            part
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for part in re.split(r"\W|_", ast.unparse(node))
        }, file
